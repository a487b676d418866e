"""A process that uses librl as a server does: attached once, for as long as it lives. Any build's
librl.so.1, so that processes of two releases meet. As a program it does what its input says."""

import ctypes
import heapq
import os
import struct
import subprocess
import sys
import time

ALLOWED, LIMITED = 0, 1
SPAN = struct.Struct("=QQ")  # CLOCK_REALTIME before and after, ns: the same in every boot of a test


class Result(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("state", "limit", "remaining", "by")] + [
        (name, ctypes.c_uint64) for name in ("window", "retry", "delay", "now")] + [
            ("ticket", ctypes.c_uint64 * 3)]


class Worker:
    """The test's end of one. lib: the build folder whose librl it uses."""

    def __init__(self, rig, lib, inside=()):
        self.argv = [*inside, sys.executable, os.path.abspath(__file__),
                     os.path.join(lib, "librl.so.1"), rig.segment]
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        rig.started.append(self)

    def ask(self, *words):
        """Begin; answer() has what came of it."""
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, "the worker has ended"
        return [int(word) for word in line.split()]

    def allowed(self, rule, key, tries=6):
        """How many of so many checks pass. An error is none of a limiter's answers."""
        self.ask("check", rule, key, tries)
        allowed, errors, _ = self.answer()
        assert errors == 0, f"{errors} errors of {tries} checks"
        return allowed

    def remaining(self, rule, key):
        self.ask("peek", rule, key)
        return self.answer()[0]

    def used(self, rule, key):
        self.ask("peek", rule, key)
        remaining, limit = self.answer()
        return limit - remaining

    def state(self, rule, key):
        self.ask("check", rule, key, 0)
        return self.answer()[2]

    def load(self, rule, key, seconds, per_s, path):
        """Begin to send; answer() says how many were sent, passed and were errors. What passed is
        in the file then: spans()."""
        self.ask("load", rule, key, seconds, per_s, path)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def running(self):
        return self.process.poll() is None

    def output(self):
        return ""

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.kill()


def spans(path):
    """Admits as (before, after), ns; of a worker that was killed what it had written."""
    with open(path, "rb") as f:
        data = f.read()
    return list(SPAN.iter_unpack(data[:len(data) // SPAN.size * SPAN.size]))


def most_in_window(admits, window_ns):
    """The most admits whose calls lie whole in one interval of this length: so many there were,
    wherever in its call each is placed."""
    most, begun = 0, []
    for before, after in sorted(admits, key=lambda span: span[1]):
        heapq.heappush(begun, before)
        while begun[0] <= after - window_ns:
            heapq.heappop(begun)
        most = max(most, len(begun))
    return most


class Librl:
    def __init__(self, lib, segment):
        self.lib = ctypes.CDLL(lib)
        self.lib.rl_check.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p,
                                      ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32,
                                      ctypes.c_void_p]
        self.lib.rl_peek.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p,
                                     ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p]
        self.client = ctypes.c_void_p()
        why = ctypes.create_string_buffer(256)
        if self.lib.rl_open(segment.encode(), ctypes.byref(self.client), why) != 0:
            sys.exit("cannot attach: " + why.value.decode())
        self.result = Result()

    def rule(self, name):
        handle = ctypes.c_uint64()
        self.lib.rl_rule(self.client, name.encode(), ctypes.byref(handle))
        return handle.value

    def check(self, rule, key):
        return self.lib.rl_check(self.client, rule, key, len(key), 1, 0,
                                 ctypes.byref(self.result))

    def peek(self, rule, key):
        return self.lib.rl_peek(self.client, rule, key, len(key), 1, ctypes.byref(self.result))


def do_check(librl, rule, key, tries):
    got = [librl.check(rule, key) for _ in range(int(tries))]
    if not got:
        librl.peek(rule, key)
    return got.count(ALLOWED), sum(answer < 0 for answer in got), librl.result.state


def do_load(librl, rule, key, seconds, per_s, path):
    sent = passed = errors = 0
    gap_ns, due = 10**9 // int(per_s), time.time_ns()
    end = due + int(float(seconds) * 1e9)
    with open(path, "wb", buffering=0) as f:
        while due < end:
            wait_ns = due - time.time_ns()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            before = time.time_ns()
            got = librl.check(rule, key)
            after = time.time_ns()
            sent, due = sent + 1, max(due + gap_ns, after - 10 * gap_ns)
            if got == ALLOWED:
                passed += 1
                f.write(SPAN.pack(before, after))
            errors += got < 0
    return sent, passed, errors


def main():
    librl = Librl(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        task, rule, key, *rest = line.split()
        rule, key = librl.rule(rule), key.encode()
        if task == "check":
            done = do_check(librl, rule, key, *rest)
        elif task == "peek":
            librl.peek(rule, key)
            done = librl.result.remaining, librl.result.limit
        else:
            done = do_load(librl, rule, key, *rest)
        print(*done, flush=True)


if __name__ == "__main__":
    main()
