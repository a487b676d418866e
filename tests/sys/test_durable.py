"""Goal: an upgrade to a release with another layout loses no count and lets nobody pass the limit,
also while processes of both releases serve; what cannot be carried over is refused with a way on.
Method: a second build of everything, whose layout is the next one and lies elsewhere (RL_ABI_AHEAD):
real agents of both, processes with both librl."""

import os
import random
import signal
import time

import rig as rigs
from resp import Redis
from rig import BUILD, contains, equal, main, wait_for
from worker import Worker

AHEAD = os.path.join(BUILD, "ahead")
RULES = {"login": "10/h", "brief": "10/2s", "off": "10/h",
         "fixed": {"limit": "10/day", "algorithm": "fixed"},
         "tokens": {"limit": "10/h", "algorithm": "token_bucket", "burst": 10},
         "leaky": {"limit": "10/h", "algorithm": "leaky_bucket", "burst": 9}}
HOURLY = ("login", "fixed", "tokens", "leaky")
LONG = "x" * 300


def release(rig, build):
    """What is started from now on is of this build."""
    rigs.AGENT = os.path.join(build, "rl-agent")
    rigs.RLCTL = os.path.join(build, "rlctl")
    return rig


def upgrade(rig, agent):
    agent.stop()
    return release(rig, AHEAD).agent_again()


def begin(rig, rules=None, keys=1000):
    return release(rig, BUILD).agent(rules or RULES, keys)


def test_durable__upgrade_carries_all_that_was_counted(rig):
    agent = begin(rig)
    old = Worker(rig, BUILD)
    for rule in HOURLY:
        equal((rule, old.allowed(rule, "bob", 3), old.allowed(rule, LONG, 4)), (rule, 3, 4))
    equal(rig.rlctl("block", "login", "eve", "10m")[0], 0)
    equal(rig.rlctl("off", "off")[0], 0)
    before = rig.status()
    old.kill()
    again = upgrade(rig, agent)
    contains(again.output(), "event=migrated")
    contains(again.output(), "event=split_over")
    new = Worker(rig, AHEAD)
    for rule in HOURLY:
        equal((rule, new.allowed(rule, "bob", 20)), (rule, 7))
        equal((rule, new.allowed(rule, LONG, 20)), (rule, 6))
        equal((rule, new.allowed(rule, "alice", 20)), (rule, 10))
    equal(new.allowed("login", "eve"), 0)
    equal(new.allowed("off", "bob", 30), 30)
    equal(rig.rlctl("verify")[0], 0)
    counted = {rule["name"]: rule["counts"]["allowed"] for rule in before["rules"]}
    for rule in rig.status()["rules"]:
        assert rule["counts"]["allowed"] >= counted[rule["name"]], rule
    equal(os.path.exists(rig.segment + ".before"), False)


def test_durable__two_releases_together_never_pass_the_limit(rig):
    agent = begin(rig)
    old = Worker(rig, BUILD)
    for rule in HOURLY:
        equal(old.allowed(rule, "bob", 3), 3)
    again = upgrade(rig, agent)
    new = Worker(rig, AHEAD)
    for rule in HOURLY:
        equal((rule, old.allowed(rule, "bob", 20) + new.allowed(rule, "bob", 20)), (rule, 4))
        equal((rule, old.allowed(rule, "carol", 20) + new.allowed(rule, "carol", 20)), (rule, 10))
    equal(old.state("login", "bob"), 2)  # alone, and it says so
    contains(again.output(), "event=split ")


def test_durable__limits_are_whole_when_the_old_processes_are_gone_for_a_window(rig):
    agent = begin(rig)
    old = Worker(rig, BUILD)
    equal(old.allowed("brief", "bob", 1), 1)
    again = upgrade(rig, agent)
    new = Worker(rig, AHEAD)
    equal(new.allowed("brief", "carol", 20), 5)
    equal(old.allowed("brief", "dan", 20), 5)
    old.kill()
    gone = time.monotonic()
    wait_for("their end to be seen", lambda: "event=split_left" in again.output())
    wait_for("whole limits", lambda: new.allowed("brief", f"k{time.monotonic_ns()}", 20) == 10)
    assert time.monotonic() - gone > 2, "not before their window has passed"
    equal(new.allowed("login", "bob", 20), 5)  # whose window has not
    contains(again.output(), "event=split_left")
    equal("event=split_over" in again.output(), False)


def test_durable__halves_outlive_the_agent_and_a_reload(rig):
    agent = begin(rig)
    old = Worker(rig, BUILD)
    equal(old.allowed("login", "bob", 1), 1)
    again = upgrade(rig, agent)
    again.signal(signal.SIGKILL)
    again.wait()
    third = rig.agent_again()
    third.signal(signal.SIGHUP)
    wait_for("the reload", lambda: "event=reloaded" in third.output())
    new = Worker(rig, AHEAD)
    equal(new.allowed("login", "bob", 20), 4)
    old.kill()
    wait_for("their end to be seen", lambda: "event=split_left" in third.output())
    third.stop()
    fourth = rig.agent_again()
    equal(new.allowed("login", "carol", 20), 5)
    os.unlink(rig.segment + ".before")  # whoever knows better
    wait_for("the end", lambda: "event=split_over" in fourth.output())
    equal(new.allowed("login", "dan", 20), 10)


def test_durable__rules_that_were_refused_do_not_come_into_force_at_its_end(rig):
    agent = begin(rig, {"login": "10/h"})
    old = Worker(rig, BUILD)
    equal(old.allowed("login", "bob", 1), 1)
    again = upgrade(rig, agent)
    many = ", ".join(f"10.{i >> 8}.{i & 255}.0/24" for i in range(5000))
    rig.config({"login": {"limit": "99/h", "allow": f"[{many}]"}})
    again.signal(signal.SIGHUP)
    wait_for("their refusal", lambda: "event=rules_refused" in again.output())
    os.unlink(rig.segment + ".before")
    wait_for("the end", lambda: "event=split_over" in again.output())
    new = Worker(rig, AHEAD)
    wait_for("whole limits", lambda: new.allowed("login", f"k{time.monotonic_ns()}", 120) == 10)


def test_durable__overrides_are_halved_too(rig):
    agent = begin(rig, {"login": {"limit": "4/h",
                                  "overrides": "[{key: vip, limit: 20/h}, {key: 10.0.0.0/8, limit: 8/h}]",
                                  "allow": "[mon]"}})
    old = Worker(rig, BUILD)
    equal(old.allowed("login", "vip", 2), 2)
    upgrade(rig, agent)
    new = Worker(rig, AHEAD)
    for key, whole in (("vip", 16), ("10.1.2.3", 8), ("bob", 4)):
        equal((key, old.allowed("login", key, 30) + new.allowed("login", key, 30)), (key, whole))
    equal(new.allowed("login", "mon", 30), 30)


def test_durable__agent_killed_amid_an_upgrade_is_followed_by_one_that_ends_it(rig):
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"# SEED={seed}")
    chance = random.Random(seed)
    agent = begin(rig, keys=30000)
    old = Worker(rig, BUILD)
    for rule in HOURLY:
        equal(old.allowed(rule, "bob", 3), 3)
    agent.stop()
    release(rig, AHEAD)
    for _ in range(8):
        program = rig.start(rigs.AGENT, "--config", rig.path("rl.yaml"))
        time.sleep(chance.uniform(0.002, 0.03))
        program.signal(signal.SIGKILL)
        program.wait()
    again = rig.agent_again()
    new = Worker(rig, AHEAD)
    for rule in HOURLY:
        left = old.allowed(rule, "bob", 20) + new.allowed(rule, "bob", 20)
        equal((rule, left), (rule, 4))
    equal(sorted(os.listdir(rig.shm)), ["seg", "seg.before", "seg.ctl", "seg.lock"])
    equal(again.running(), True)


def test_durable__without_memory_the_old_segment_is_as_it_was(rig):
    agent = begin(rig)
    old = Worker(rig, BUILD)
    equal(old.allowed("login", "bob", 3), 3)
    agent.stop()
    refused = release(rig, AHEAD).start(  # no file of more than 512 kB
        "sh", "-c", f"trap '' XFSZ; ulimit -f 1000; exec {rigs.AGENT} --config {rig.path('rl.yaml')}")
    equal(refused.wait(), 2)
    contains(refused.output(), "cannot allocate")
    contains(refused.output(), "is as it was")
    equal(old.allowed("login", "bob", 20), 7)
    equal(os.path.exists(rig.segment + ".before"), False)


def test_durable__newer_segment_is_refused_untouched_and_its_counts_can_go_back(rig):
    release(rig, AHEAD)
    snapshot = rig.path("snapshot")
    newer = rig.agent(RULES)
    new = Worker(rig, AHEAD)
    for rule in HOURLY:
        equal(new.allowed(rule, "bob", 3), 3)
    code, out, err = rig.run(rigs.AGENT, "--config", rig.path("rl.yaml"), "--export", snapshot)
    equal((code, "4 keys" in out), (0, True))
    newer.stop()
    with open(rig.segment, "rb") as f:
        before = f.read()
    refused = release(rig, BUILD).start(rigs.AGENT, "--config", rig.path("rl.yaml"))
    equal(refused.wait(), 2)
    contains(refused.output(), "a newer release made it")
    contains(refused.output(), "--export")
    with open(rig.segment, "rb") as f:
        equal(f.read() == before, True)
    # Nothing is lost by it.
    new.kill()
    os.unlink(rig.segment)
    with open(rig.path("rl.yaml"), "a", encoding="utf-8") as f:
        f.write(f"snapshot: {snapshot}\n")
    contains(rig.agent_again().output(), "event=restored")
    old = Worker(rig, BUILD)
    for rule in HOURLY:
        equal((rule, old.allowed(rule, "bob", 20)), (rule, 7))


def test_durable__segment_too_old_is_refused_with_a_way_on(rig):
    begin(rig).stop()
    with open(rig.segment, "r+b") as f:
        f.seek(8)
        f.write((3).to_bytes(4, "little"))
    refused = release(rig, AHEAD).start(rigs.AGENT, "--config", rig.path("rl.yaml"))
    equal(refused.wait(), 2)
    contains(refused.output(), "too old to be carried over")


def test_durable__damaged_older_segment_is_refused_and_kept(rig):
    begin(rig).stop()
    with open(rig.segment, "r+b") as f:
        f.seek(48)
        f.write(b"\xff" * 8)
    with open(rig.segment, "rb") as f:
        before = f.read()
    refused = release(rig, AHEAD).start(rigs.AGENT, "--config", rig.path("rl.yaml"))
    equal(refused.wait(), 2)
    contains(refused.output(), "contradicts this build's layout")
    with open(rig.segment, "rb") as f:
        equal(f.read() == before, True)
    equal(os.path.exists(rig.segment + ".before"), False)


def test_durable__host_is_the_same_one_to_redis_after_an_upgrade(rig):
    rig.redis()
    redis = Redis(rig.redis_url[len("unix:"):])
    rules = {"strict": {"limit": "100/h", "consistency": "strict"},
             "eventual": {"limit": "100/h", "consistency": "eventual"}}
    agent = begin(rig, rules)
    rig.wait_state("fresh")
    old = Worker(rig, BUILD)
    wait_for("credit", lambda: old.allowed("strict", "bob", 1))
    for rule in rules:
        old.allowed(rule, "bob", 30)
    agent.signal(signal.SIGKILL)  # with units that nobody was told of
    agent.wait()
    told = old.remaining("eventual", "bob")
    admitted = spent(rig, "strict")
    release(rig, AHEAD).agent_again()
    rig.wait_state("fresh")
    new = Worker(rig, AHEAD)
    equal(new.remaining("eventual", "bob"), told)
    # The credit that the old segment had is lent anew, at once, and nothing twice.
    deadline = time.monotonic() + 5
    while admitted < 100 and time.monotonic() < deadline:
        admitted += new.allowed("strict", "bob", 10)
    equal(admitted, 100)
    equal((new.allowed("strict", "bob", 10), old.allowed("strict", "bob", 10)), (0, 0))
    rows = set()
    for part in range(16):
        rows.update(redis("ZRANGE", "{rl:default:%d}:h" % part, 0, -1))
    equal(len(rows), 1)


def spent(rig, name):
    return sum(rule["counts"]["allowed"] for rule in rig.status()["rules"] if rule["name"] == name)


if __name__ == "__main__":
    main()
