"""What the tests of a fleet share: checks by librl on each host's segment, and judging them: every
admit by the clock readings around its call."""

import ctypes
import os
import time

from rig import BUILD, equal, wait_for

MAY_WAIT = 1
LIB = ctypes.CDLL(os.path.join(BUILD, "librl.so.1"))
LIB.rl_attach.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p]
LIB.rl_rule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64)]
LIB.rl_check.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t,
                         ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p]


class Result(ctypes.Structure):
    _fields_ = [("state", ctypes.c_uint32), ("limit", ctypes.c_uint32),
                ("remaining", ctypes.c_uint32), ("decided_by", ctypes.c_uint32),
                ("window_ns", ctypes.c_uint64), ("retry_after_ns", ctypes.c_uint64),
                ("delay_ns", ctypes.c_uint64), ("now_ns", ctypes.c_uint64),
                ("ticket", ctypes.c_uint64 * 3)]


class Client:
    """Checks on one host's segment. admits: (before, after, units) of what passed, by key."""

    def __init__(self, host):
        self.handle = ctypes.c_void_p()
        self.rules = {}
        self.admits = {}
        self.result = Result()
        self.code = None  # of the last check
        equal(LIB.rl_attach(host.segment.encode(), ctypes.byref(self.handle), None), 0)

    def check(self, rule, key, cost=1, flags=0):
        if rule not in self.rules:
            number = ctypes.c_uint64()
            equal(LIB.rl_rule(self.handle, rule.encode(), ctypes.byref(number)), 0)
            self.rules[rule] = number
        data = key.encode()
        before = time.monotonic()
        self.code = LIB.rl_check(self.handle, self.rules[rule], data, len(data), cost, flags,
                                 ctypes.byref(self.result))
        passed = self.code == 0
        if passed:
            self.admits.setdefault(key, []).append((before, time.monotonic(), cost))
        return passed

    def units(self, key):
        return sum(units for _, _, units in self.admits.get(key, []))

    def forget(self):
        self.admits = {}


def most(clients, key, window):
    """Units that some interval of this length has certainly held, by all clients."""
    admits = sorted(admit for client in clients for admit in client.admits.get(key, []))
    held = best = first = 0
    for _, after, units in admits:
        held += units
        while after - admits[first][0] >= window:
            held -= admits[first][2]
            first += 1
        best = max(best, held)
    return best


def at_most(got, bound):
    if got > bound:
        raise AssertionError(f"{got} is above {bound}")


def at_least(got, bound):
    if got < bound:
        raise AssertionError(f"{got} is below {bound}")


def during(seconds):
    """Turns of a loop for that long, a breath between them."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.001)


def hosts_of(rig, rules, names="ab", keys=1000, redis=True):
    """Fresh hosts that know of each other."""
    if redis:
        rig.redis()
    hosts = [rig.host(name) for name in names]
    for host in hosts:
        host.program = host.agent(rules, keys)
    for host in hosts:
        host.wait_state("fresh")
        wait_for("all hosts", lambda h=host: h.status()["fleet"]["live_hosts"] == len(names))
    return hosts
