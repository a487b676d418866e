"""Goal: an event loop waits for credit without sleeping: it is told when to go on, whoever dies; and
what the agent keeps for it has an end.
Method: real agents, a real redis-server, checks by librl in one thread that polls; agents and
processes with pending checks are killed and stopped. Nothing sleeps but epoll."""

import ctypes
import os
import select
import signal
import socket
import struct
import time

from fleet import Client, LIB, at_least, at_most, hosts_of
from rig import equal, main, wait_for

ALLOWED, LIMITED, PENDING = 0, 1, 2
BY_CREDIT, BY_NO_CREDIT, BY_POLICY = 1, 2, 3
AGENT_DOES_MS = 100  # on a busy machine


class Waiter(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("reserved", ctypes.c_uint32),
                ("word", ctypes.c_uint64 * 2)]


class Pending(ctypes.Structure):
    _fields_ = [("word", ctypes.c_uint64 * 20)]


LIB.rl_waiter_open.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
LIB.rl_waiter_close.argtypes = [ctypes.c_void_p]
LIB.rl_waiter_read.argtypes = [ctypes.c_void_p]
LIB.rl_check_start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p,
                               ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p]
LIB.rl_check_finish.argtypes = [ctypes.c_void_p] * 4


class Loop(Client):
    """An event loop with checks: answers, by name of the check, and when each came."""

    def __init__(self, host):
        super().__init__(host)
        self.waiter = Waiter()
        self.poll = select.epoll()
        self.waiting, self.answers, self.took, self.by = {}, {}, {}, {}
        self.wakes, self.longest = 0, 0
        self.open()

    def open(self):
        at_least(LIB.rl_waiter_open(self.handle, ctypes.byref(self.waiter)), 0)
        self.poll.register(self.waiter.fd, select.EPOLLIN)

    def close(self):
        self.poll.unregister(self.waiter.fd)
        LIB.rl_waiter_close(ctypes.byref(self.waiter))

    def took_answer(self, name, got, pending, began):
        now = time.monotonic()
        if got == PENDING:
            self.waiting[name] = (pending, began, now + self.result.retry_after_ns / 1e9)
            return
        self.waiting.pop(name, None)
        self.answers[name] = got
        self.took[name] = now - began
        self.by[name] = self.result.decided_by

    def start(self, rule, key, cost=1, name=None):
        number = ctypes.c_uint64()
        equal(LIB.rl_rule(self.handle, rule.encode(), ctypes.byref(number)), 0)
        pending, began = Pending(), time.monotonic()
        got = LIB.rl_check_start(self.handle, ctypes.byref(self.waiter), number, key.encode(),
                                 len(key), cost, ctypes.byref(pending), ctypes.byref(self.result))
        self.longest = max(self.longest, time.monotonic() - began)
        self.took_answer(name or key, got, pending, began)
        return got

    def finish(self, name):
        pending, began, _ = self.waiting[name]
        before = time.monotonic()
        got = LIB.rl_check_finish(self.handle, ctypes.byref(self.waiter), ctypes.byref(pending),
                                  ctypes.byref(self.result))
        self.longest = max(self.longest, time.monotonic() - before)
        self.took_answer(name, got, pending, began)

    def turn(self):
        """Until something is to be done, and do it."""
        first = min(due for _, _, due in self.waiting.values())
        ready = self.poll.poll(max(first - time.monotonic(), 0))
        self.wakes += len(ready)
        if ready:
            LIB.rl_waiter_read(ctypes.byref(self.waiter))
        for name in list(self.waiting):
            if ready or self.waiting[name][2] <= time.monotonic():
                self.finish(name)

    def run(self):
        while self.waiting:
            self.turn()


STRICT = {"s": {"limit": "50/10s", "consistency": "strict", "wait": "1s"}}


def test_pending__loop_gets_its_credit_without_sleeping(rig):
    host, = hosts_of(rig, STRICT, "a")
    loop = Loop(host)
    for i in range(200):
        loop.start("s", f"key {i}")
    at_least(len(loop.waiting), 190)  # the first of them may be there already
    loop.run()
    equal([(name, loop.by[name], loop.took[name]) for name, got in loop.answers.items()
           if got != ALLOWED], [])
    took = sorted(loop.took.values())
    print(f"# 200 new keys: a call took {1000 * loop.longest:.2f} ms at most, p50 of an answer "
          f"{1000 * took[100]:.1f} ms, last {1000 * took[-1]:.1f}; woken {loop.wakes} times")
    at_most(took[-1], 0.9)
    at_most(loop.longest, 0.2)


def test_pending__answer_that_comes_late_is_told_of(rig):
    host, = hosts_of(rig, STRICT, "a")
    loop = Loop(host)
    rig.started[0].signal(signal.SIGSTOP)
    equal(loop.start("s", "k"), PENDING)
    time.sleep(0.05)  # the note is read by now, and nobody has been told
    rig.started[0].signal(signal.SIGCONT)
    loop.run()
    equal(loop.answers["k"], ALLOWED)
    at_most(loop.took["k"], 0.8)  # not by the rule's wait


def test_pending__more_checks_than_the_socket_holds_notes_are_all_answered(rig):
    host, = hosts_of(rig, STRICT, "a")
    loop = Loop(host)
    host.program.signal(signal.SIGSTOP)  # it reads no notes
    for i in range(600):
        loop.start("s", f"key {i}")
    host.program.signal(signal.SIGCONT)
    waiting = set(loop.waiting)  # the last ones may not: it has been silent for too long
    late = sum(due - began < 0.5 for _, began, due in loop.waiting.values())
    print(f"# {len(waiting)} wait, {late} of them come again by themselves")
    at_least(late, 1 if len(waiting) > 500 else 0)
    loop.run()
    equal([(name, loop.by[name], loop.took[name]) for name, got in loop.answers.items()
           if name in waiting and got != ALLOWED], [])


def test_pending__two_hosts_of_loops_use_the_limit_and_no_more(rig):
    a, b = hosts_of(rig, STRICT)
    loops = Loop(a), Loop(b)
    for round_ in range(60):
        for loop in loops:
            loop.start("s", "k", 1, f"{round_}")
        for loop in loops:
            loop.run()
    equal(sum(got == ALLOWED for loop in loops for got in loop.answers.values()), 50)


def test_pending__agent_killed_while_a_check_waits_ends_the_wait(rig):
    host, = hosts_of(rig, STRICT, "a")
    loop = Loop(host)
    loop.start("s", "warm")
    loop.run()
    rig.started[0].signal(signal.SIGSTOP)  # no credit comes
    equal(loop.start("s", "k"), PENDING)
    host.program.signal(signal.SIGKILL)
    host.program.wait()
    began = time.monotonic()
    loop.turn()
    equal((loop.answers["k"], loop.by["k"]), (LIMITED, BY_NO_CREDIT))
    at_most(time.monotonic() - began, 0.5)  # its death told us, and not the rule's wait
    # Nothing waits for one that is gone; the descriptor says so until it is closed.
    equal(loop.poll.poll(0)[0][1] & select.EPOLLHUP, select.EPOLLHUP)
    equal(loop.start("s", "k2"), LIMITED)
    loop.close()
    rig.started[0].signal(signal.SIGCONT)
    host.program = host.agent(STRICT)
    wait_for("the new one's socket",  # fresh may be what the killed one left
             lambda: LIB.rl_waiter_open(loop.handle, ctypes.byref(loop.waiter)) >= 0)
    loop.poll.register(loop.waiter.fd, select.EPOLLIN)
    host.wait_state("fresh")
    loop.start("s", "k3")
    loop.run()
    equal(loop.answers["k3"], ALLOWED)


def test_pending__agent_that_is_stopped_costs_the_wait_and_nothing_hangs(rig):
    host, = hosts_of(rig, {"s": STRICT["s"] | {"wait": "100ms"}}, "a")
    loop = Loop(host)
    host.program.signal(signal.SIGSTOP)
    try:
        got = loop.start("s", "k")
        loop.run()
    finally:
        host.program.signal(signal.SIGCONT)
    equal((got, loop.answers["k"]), (PENDING, LIMITED))
    at_most(loop.took["k"], 0.1 + AGENT_DOES_MS / 1000)


def test_pending__redis_that_hangs_costs_the_wait_and_then_nobody_waits(rig):
    host, = hosts_of(rig, {"s": STRICT["s"] | {"wait": "300ms"}}, "a")
    loop = Loop(host)
    rig.started[0].signal(signal.SIGSTOP)
    loop.start("s", "k")
    loop.run()
    equal(loop.answers["k"], LIMITED)
    at_most(loop.took["k"], 0.3 + AGENT_DOES_MS / 1000)
    host.wait_state("stale")
    equal(loop.start("s", "k"), LIMITED)
    equal(loop.by["k"], BY_POLICY)
    rig.started[0].signal(signal.SIGCONT)
    host.wait_state("fresh")
    loop.start("s", "k3")
    loop.run()
    equal(loop.answers["k3"], ALLOWED)


def descriptors(program):
    return len(os.listdir(f"/proc/{program.pid}/fd"))


def test_pending__process_that_dies_with_checks_pending_leaves_nothing(rig):
    host, = hosts_of(rig, {"s": STRICT["s"] | {"limit": "50/2s"}}, "a")
    before = descriptors(host.program)
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            loop = Loop(host)
            rig.started[0].signal(signal.SIGSTOP)
            for i in range(50):
                loop.start("s", f"key {i}")
            os.write(done, b"p" if len(loop.waiting) == 50 else b"?")
            signal.pause()
        finally:
            os._exit(1)
    equal(os.read(ready, 1), b"p")
    wait_for("its descriptor", lambda: descriptors(host.program) == before + 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    rig.started[0].signal(signal.SIGCONT)
    wait_for("its descriptor closed", lambda: descriptors(host.program) == before)
    # What it had asked for was lent, and goes back.
    host.wait_state("fresh")
    wait_for("all credit back", lambda: host.status()["sync"]["granted"] ==
             host.status()["sync"]["returned"])
    loop = Loop(host)
    loop.start("s", "key 1", 50)
    loop.run()
    equal(loop.answers["key 1"], ALLOWED)


def connect(host):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(host.segment + ".wait")
    peer.settimeout(5)
    return peer


def test_pending__agent_has_room_for_256_and_hangs_up_on_the_next(rig):
    host, = hosts_of(rig, STRICT, "a")
    before = descriptors(host.program)
    peers = [connect(host) for _ in range(256)]
    wait_for("all", lambda: descriptors(host.program) == before + 256)
    equal(connect(host).recv(1), b"")
    loop = Loop(host)
    equal(loop.poll.poll(5)[0][1] & select.EPOLLHUP, select.EPOLLHUP)
    loop.start("s", "k")  # may find out only now
    loop.run()
    assert loop.answers["k"] in (ALLOWED, LIMITED)
    for peer in peers:
        peer.close()
    wait_for("none", lambda: descriptors(host.program) == before)


def test_pending__caller_that_talks_nonsense_is_hung_up_on(rig):
    host, = hosts_of(rig, STRICT, "a")
    slots = 1 << 40
    for note in (b"x", b"x" * 15, b"x" * 17, b"x" * 4096, struct.pack("<QII", slots, 0, 0)):
        peer = connect(host)
        peer.send(note)
        equal(peer.recv(1), b"")
    # A turn that the slot does not have: told at once, once for each note, however many.
    peer = connect(host)
    peer.settimeout(1)
    for _ in range(50):
        peer.send(struct.pack("<QII", 5, 4711, 0))
        equal(peer.recv(10), b"\0")
    loop = Loop(host)
    loop.start("s", "k")
    loop.run()
    equal(loop.answers["k"], ALLOWED)


def test_pending__flood_of_notes_does_not_keep_the_agent_from_its_work(rig):
    host, = hosts_of(rig, STRICT, "a")
    peer = connect(host)
    peer.setblocking(False)
    loop = Loop(host)
    end, sent, beats = time.monotonic() + 1, 0, []
    while time.monotonic() < end:
        for _ in range(200):
            try:
                peer.send(struct.pack("<QII", sent % 1000, 0, 0))
                sent += 1
            except BlockingIOError:
                break
        beats.append(LIB.rl_agent_age_ms(loop.handle))
    print(f"# {sent} notes in a second; oldest heartbeat {max(beats)} ms")
    at_most(sent, 64 * 2000 + 1000)  # 64 each half millisecond, and what the socket holds
    at_most(max(beats), 500)
    wait_for("an agent that is waited for", lambda: LIB.rl_agent_age_ms(loop.handle) < 50)
    loop.start("s", "k")
    loop.run()
    equal(loop.answers["k"], ALLOWED)


def test_pending__socket_is_for_those_whom_the_segment_is_for(rig):
    host, = hosts_of(rig, STRICT, "a")
    equal(os.stat(host.segment + ".wait").st_mode & 0o777,
          os.stat(host.segment).st_mode & 0o666)
    host.program.stop()
    equal(os.path.exists(host.segment + ".wait"), False)
    loop = Client(host)
    equal(LIB.rl_waiter_open(loop.handle, ctypes.byref(Waiter())), -2)


LIB.rl_agent_age_ms.argtypes = [ctypes.c_void_p]
LIB.rl_agent_age_ms.restype = ctypes.c_uint64

if __name__ == "__main__":
    main()
