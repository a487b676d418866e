"""Goal: a process that writes anything anywhere into the segment makes answers wrong, and no more:
nobody crashes, hangs, or touches memory outside of it.
Method: workers, rl-agent (killed and started again, its rules changed all the time), rlctl, a real
Redis; each mapping between two regions that nobody may touch; a writer of random, plausible and
flipping words. HOSTILE_SECONDS (10) long, SEED printed. Under a sanitizer: make hostile."""

import json
import os
import random
import re
import signal
import subprocess
import threading
import time

from rig import AGENT, BUILD, RLCTL, equal, main, wait_for

PROGRAM = os.path.join(BUILD, "tests", "hostile", "hostile")
GUARD = os.path.join(BUILD, "tests", "hostile", "guard.so")
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "10"))
KEYS = 190
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))

# A sanitizer's exit status must not be taken for an answer's.
ENV = {"LD_PRELOAD": GUARD,
       "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":exitcode=99",
       "UBSAN_OPTIONS": os.environ.get("UBSAN_OPTIONS", "") + ":exitcode=99:print_stacktrace=1"}

# r0 .. r8, as the worker knows them; each in two shapes, one after the other.
RULES = [
    {"r0": {"limit": "100/s", "on_full": "pool"}, "r1": {"limit": "1000/h"},
     "r2": {"limit": "20/s", "algorithm": "token_bucket", "burst": 5, "on_full": "pool"},
     "r3": {"limit": "20/s", "algorithm": "fixed"},
     "r4": {"limit": "50/s", "algorithm": "leaky_bucket", "burst": 9, "delay": 3},
     "r5": {"limit": "100/s", "consistency": "strict", "wait": "20ms"},
     "r6": {"limit": "1000/10s", "consistency": "bounded", "on_unreachable": "share"},
     "r7": {"limit": "47/s", "interpolate": "true"},
     "r8": {"limit": "4", "algorithm": "concurrency"}},
    {"r0": {"limit": "5000/2s"}, "r1": {"limit": "30/5s"},
     "r2": {"limit": "70/m", "on_full": "pool"},
     "r3": {"limit": "20/2s", "algorithm": "token_bucket"},
     "r4": {"limit": "60/s", "algorithm": "fixed"},
     "r5": {"limit": "400/s", "consistency": "bounded", "no_credit": "deny", "wait": "1s"},
     "r6": {"limit": "100/s"},
     "r7": {"limit": "47/h", "consistency": "bounded", "on_unreachable": "open"},
     "r8": {"limit": "40", "algorithm": "concurrency"}},
]


for _shape in RULES:  # with a Redis a rule is shared unless it says otherwise
    for _rule in _shape.values():
        _rule.setdefault("consistency", "local")


def clean(program):
    """What a sanitizer or a crash would leave in a program's output."""
    for word in ("Sanitizer", "runtime error", "stack smashing"):
        assert word not in program.output(), program.output()


class Agents:
    """rl-agent under attack: killed now and then, and started again when it gave up on a header."""

    def __init__(self, rig, rng):
        self.rig, self.rng = rig, rng
        self.all = []
        self.gave_up = 0
        self.start()

    def start(self):
        self.all.append(self.rig.start(AGENT, "--config", self.rig.path("rl.yaml"), env=ENV))

    def tend(self):
        last = self.all[-1]
        if last.running():
            dice = self.rng.random()
            if dice < 0.05:
                last.signal(signal.SIGKILL)
                last.wait()
            elif dice < 0.5 and "event=started" in last.output():  # before it SIGHUP ends it
                self.rig.config(self.rng.choice(RULES), keys=KEYS)
                last.signal(signal.SIGHUP)
            return
        code = last.wait()
        clean(last)
        # 2: it says that the segment is damaged (a header that nobody can attach by), and ends.
        assert code in (-signal.SIGKILL, 2), (code, last.output())
        if code == 2:
            assert re.search("event=(segment_gone|no_segment|no_sync)", last.output()), \
                last.output()
            self.gave_up += 1
        self.start()

    def check(self):
        for program in self.all:
            clean(program)


def tool(rig, slowest, seconds, *argv):
    """One rlctl: it ends in time, by its own will, with text that can be read."""
    begun = time.monotonic()
    done = subprocess.run([RLCTL, "--segment", rig.segment, *argv], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=seconds, check=False,
                          env=dict(os.environ, **ENV))
    took = time.monotonic() - begun
    slowest[argv[-1 if argv[0] == "--json" else 0]] = max(
        took, slowest.get(argv[-1 if argv[0] == "--json" else 0], 0))
    assert done.returncode in (0, 1, 2), (argv, done)
    for stream in (done.stdout, done.stderr):
        assert b"Sanitizer" not in stream and b"runtime error" not in stream, (argv, done)
        assert all(32 <= byte < 127 or byte == 10 for byte in stream), (argv, done)
    if argv[0] == "--json" and done.returncode != 2:
        json.loads(done.stdout)
    return done.returncode


def tools(rig, rng, until, slowest, failures):
    """rlctl, one command after the other."""
    calls = [("status",), ("--json", "status"), ("rules",), ("--json", "rules"),
             ("get", "r0", "key-1"), ("--json", "get", "r6", "key-2"),
             ("check", "r0", "key-3"),
             ("check", "r8", "key-5"), ("get", "r8", "key-1"), ("--json", "check", "r5", "key-4"), ("check", "r2", "new")]
    try:
        while time.monotonic() < until:
            tool(rig, slowest, 20, *rng.choice(calls))
    except Exception as error:  # pylint: disable=broad-except
        failures.append(error)


def verifies(rig, until, slowest, failures):
    """rlctl verify, which may wait for an agent that is about to tidy up."""
    try:
        for number in range(10 ** 6):
            if time.monotonic() > until:
                return
            argv = ("--json", "verify") if number % 2 else ("verify",)
            tool(rig, slowest, 60, *argv)
    except Exception as error:  # pylint: disable=broad-except
        failures.append(error)


def start_threads(*threads):
    started = [threading.Thread(target=function, args=args, daemon=True)
               for function, *args in threads]
    for thread in started:
        thread.start()
    return started


def test_hostile__writer_makes_answers_wrong_and_no_more(rig):
    rng = random.Random(SEED)
    print(f"# SEED={SEED}", flush=True)
    rig.redis()
    rig.agent(RULES[0], keys=100).stop()
    rig.agent(RULES[0], keys=KEYS).stop()  # it grows
    until = time.monotonic() + SECONDS
    agents, slowest, failures = Agents(rig, rng), {}, []
    wait_for("the agent", lambda: rig.status()["agent"]["alive"])
    workers = [rig.start(PROGRAM, "work", rig.segment, SECONDS, rng.randrange(10 ** 9), env=ENV)
               for _ in range(2)]
    writer = rig.start(PROGRAM, "write", rig.segment, SECONDS, rng.randrange(10 ** 9))
    threads = start_threads((tools, rig, random.Random(SEED), until, slowest, failures),
                            (verifies, rig, until, slowest, failures))
    while time.monotonic() < until and not failures:
        time.sleep(0.1)
        agents.tend()
        for program in workers + [writer]:
            if not program.running() and time.monotonic() < until - 0.5:
                raise AssertionError(f"{program.argv} ended: {program.output()}")
    for program in workers + [writer]:
        equal((program.wait(30), program.argv[1]), (0, program.argv[1]))
        clean(program)
        print("# " + program.output().splitlines()[-1], flush=True)
    for thread in threads:
        thread.join(80)
        assert not thread.is_alive()
    agents.check()
    if failures:
        raise failures[0]
    print(f"# agents: {len(agents.all)}, of which {agents.gave_up} gave a damaged header up")
    print("# rlctl, the longest: " + ", ".join(f"{name} {took:.2f} s"
                                               for name, took in sorted(slowest.items())))
    recovers(rig, agents)


def recovers(rig, agents):
    """The writer has gone: with the rules written anew, and a sweep, keys are answered again."""
    rig.config(RULES[0], keys=KEYS)
    if not agents.all[-1].running():
        agents.start()
    wait_for("an agent", lambda: "event=started" in agents.all[-1].output(), 20)
    agents.all[-1].signal(signal.SIGHUP)
    wait_for("the rules", lambda: len(rig.status()["rules"]) == 9, 20)
    wait_for("an answer", lambda: rig.rlctl("check", "r0", "somebody")[0] in (0, 1), 60)
    left = json.loads(rig.rlctl("--json", "verify")[1])
    print(f"# afterwards: {left['findings']} findings: "
          + ", ".join(f"{kind['count']} {kind['kind']}" for kind in left["kinds"]), flush=True)
    agents.all[-1].stop()
    agents.check()


if __name__ == "__main__":
    main()
