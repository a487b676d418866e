"""Goal: rlctl verify says nothing of a healthy segment, however busy, and says what is wrong.
Method: workers that are killed all the time, an agent that sweeps, syncs with a real Redis and gets
new rules; then words of a segment written over, its agent alive and dead."""

import json
import os
import random
import struct
import time

from rig import contains, equal, main

from test_hostile import PROGRAM, RULES

SECONDS = float(os.environ.get("VERIFY_SECONDS", "8"))


class Worker:
    """One of a few processes that check all kinds of things, and are killed."""

    def __init__(self, rig, rng):
        self.rig, self.rng = rig, rng
        self.start()

    def start(self):
        self.program = self.rig.start(PROGRAM, "work", self.rig.segment, 600,
                                      self.rng.randrange(10 ** 9))

    def again(self):
        self.program.process.kill()
        self.program.process.wait()
        self.start()


def test_verify__healthy_busy_segment_never_has_a_finding(rig):
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    rng = random.Random(seed)
    rig.redis()
    agent = rig.agent(RULES[0], keys=300)
    workers = [Worker(rig, rng) for _ in range(3)]
    until, verified, killed = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < until:
        rig.config(rng.choice(RULES), keys=300)
        agent.signal(1)
        rng.choice(workers).again()
        killed += 1
        if killed % 3 == 0:
            code, out, err = rig.rlctl("verify")
            equal((code, out.splitlines()[:-1]), (0, []))
            contains(out, "agent alive: fine\n")
            verified += 1
        time.sleep(0.02)
    print(f"# SEED={seed}: verified {verified} times, {killed} workers killed: {out.strip()}")
    for worker in workers:
        worker.program.process.kill()
        worker.program.process.wait()
    equal(rig.rlctl("verify")[0], 0)


def slots_of(rig):
    """Where the slots begin, and the index of the only used one."""
    with open(rig.segment, "rb") as f:
        buckets, _, tags, slots, sides = struct.unpack("<5Q", f.read(88)[48:])
        for index in range(buckets * 32):
            f.seek(slots + index * 256 + 8)
            if f.read(8) != bytes(8):
                return slots, sides, index
    raise AssertionError("no slot is used")


def write(rig, at, value):
    with open(rig.segment, "r+b") as f:
        f.seek(at)
        before = f.read(8)
        f.seek(at)
        f.write(struct.pack("<Q", value))
    return struct.unpack("<Q", before)[0]


def test_verify__dead_segment_is_verified_as_it_is(rig):
    rig.agent({"login": "5/h"}).stop()
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    slots, _, index = slots_of(rig)
    code, out, err = rig.rlctl("verify")
    equal((code, err), (0, ""))
    equal(out.splitlines()[0].split(" slots")[1],
          " (9 used, 0 too busy to look at), 1 rules, 0 members, agent not alive: fine")
    at = slots + index * 256 + 64
    write(rig, at, 1 << 62)
    code, out, err = rig.rlctl("verify")
    equal((code, err), (1, ""))
    contains(out, f"slot_stamp: slot {index}, byte {at}: a stamp lies ahead of the clock "
                  "(0x4000000000000000, not 0x")
    contains(out, "); its key is refused until a check sets it back; look for a program that "
                  "writes into the segment\n")
    assert out.endswith("agent not alive: 1 finding\n"), out


def test_verify__json_has_its_fields(rig):
    agent = rig.agent({"login": "5/h"})
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    slots, _, index = slots_of(rig)
    code, out, _ = rig.rlctl("--json", "verify")
    report = json.loads(out)
    equal((code, sorted(report)), (0, ["agent_alive", "findings", "fine", "kinds", "segment",
                                       "verified"]))
    equal((report["fine"], report["findings"], report["agent_alive"], report["kinds"]),
          (True, 0, True, []))
    equal(sorted(report["verified"]), ["busy", "left", "members", "rules", "slots", "used"])
    agent.stop()  # a living one sets the stamp back
    write(rig, slots + index * 256 + 64 + 8, 1 << 62)
    code, out, _ = rig.rlctl("verify", "--json")
    report = json.loads(out)
    equal((code, report["fine"], report["findings"]), (1, False, 1))
    equal(sorted(report["kinds"][0]), ["advice", "at", "count", "effect", "kind", "place", "what"])
    equal([report["kinds"][0][name] for name in ("kind", "place", "count")],
          ["slot_stamp", "slot", 1])
    equal((report["kinds"][0]["at"][0]["index"], report["kinds"][0]["at"][0]["byte"],
           report["kinds"][0]["at"][0]["found"]),
          (index, slots + index * 256 + 72, "0x4000000000000000"))


def test_verify__many_findings_of_a_kind_are_counted(rig):
    rig.agent({"login": "5/h"}).stop()
    with open(rig.segment, "rb") as f:
        slots = struct.unpack("<5Q", f.read(88)[48:])[3]
    for index in range(25):
        write(rig, slots + index * 256, 1 << 54 | 1 << 21 | 9)
    code, out, _ = rig.rlctl("verify")
    equal((code, out.count("\n"), out.count("slot_kind: slot ")), (1, 22, 20))
    contains(out, "slot_kind: and 5 more\n")


def test_verify__what_the_agent_has_taken_back_is_no_finding(rig):
    """A claim whose maker was killed: seen by one pass, taken back by the next."""
    rig.agent({"login": "5/h"})
    with open(rig.segment, "rb") as f:
        slots = struct.unpack("<5Q", f.read(88)[48:])[3]
    for index in range(32 * 30):  # over three quarters: the agent passes twice a second
        write(rig, slots + index * 256, 1 << 54 | 1 << 21 | 1)
    code, out, err = rig.rlctl("verify")
    equal((code, out.splitlines()[:-1]), (0, []))
    contains(err, "960 unfinished things: waiting for the agent to take them back (up to 40 s)")


def test_verify__what_cannot_be_read_is_an_error(rig):
    code, out, err = rig.rlctl("verify")
    equal((code, out), (2, ""))
    contains(err, "there is no such file")
    rig.agent({"login": "5/h"}).stop()
    write(rig, 48, 3)  # buckets
    code, out, err = rig.rlctl("verify")
    equal((code, out), (2, ""))
    contains(err, "its header contradicts this build's layout")
    equal(rig.rlctl("verify", "x")[2], "rlctl: verify takes no argument, not 'x'\n")


if __name__ == "__main__":
    main()
