"""Goal: what a host has counted outlives its reboot, or the loss of its segment, and no damaged,
forged or outdated file is ever counted.
Method: real agents in boots of their own (time and mount namespaces), the segment removed between
them as a reboot does; checks by rlctl."""

import os
import signal
import struct

from boot import Boot
from rig import contains, equal, main, wait_for
from siphash import siphash

RULES = {"login": "5/h", "fixed": {"limit": "5/day", "algorithm": "fixed"},
         "tokens": {"limit": "5/h", "algorithm": "token_bucket", "burst": 5},
         "leaky": {"limit": "5/h", "algorithm": "leaky_bucket", "burst": 4}}
HEAD = struct.Struct("=8sII40s2QQQ")


def configure(rig, rules=None, interval="1h"):
    rig.snapshot = os.path.join(rig.dir, "snapshot")
    rig.config(rules or RULES)
    with open(rig.path("rl.yaml"), "a", encoding="utf-8") as f:
        f.write(f"snapshot:\n  path: {rig.snapshot}\n  interval: {interval}\n")
    return rig.agent_again()


def spend_and_stop(rig, units):
    """Bob's, of the five an hour that he may; then the agent stops."""
    agent = configure(rig)
    equal(allowed(rig, "login", "bob", units), units)
    agent.stop()


def reboot(rig, seconds_ago=60):
    """The segment is gone, the clock begins anew, and an agent starts."""
    rig.inside = Boot(rig, seconds_ago).inside()
    os.unlink(rig.segment)
    return rig.agent_again()


def allowed(rig, rule, key, tries=6):
    return sum(rig.rlctl("check", rule, key)[0] == 0 for _ in range(tries))


def test_snapshot__counts_outlive_a_reboot_by_every_algorithm(rig):
    agent = configure(rig)
    for rule in RULES:
        equal(allowed(rig, rule, "bob", 3), 3)
        equal(allowed(rig, rule, "x" * 300, 3), 3)
    agent.stop()
    again = reboot(rig)
    contains(again.output(), "event=restored")
    contains(again.output(), f"keys={2 * len(RULES)} ")
    for rule in RULES:
        equal((rule, allowed(rig, rule, "bob")), (rule, 2))
        equal((rule, allowed(rig, rule, "x" * 300)), (rule, 2))
        equal((rule, allowed(rig, rule, "alice")), (rule, 5))
    equal(rig.rlctl("verify")[0], 0)


def test_snapshot__blocked_key_is_blocked_after_a_reboot(rig):
    agent = configure(rig)
    equal(allowed(rig, "login", "eve", 1), 1)
    equal(rig.rlctl("block", "login", "eve", "10m")[0], 0)
    agent.stop()
    reboot(rig)
    equal(allowed(rig, "login", "eve"), 0)
    equal(rig.rlctl("unblock", "login", "eve")[0], 0)
    equal(allowed(rig, "login", "eve"), 4)


def test_snapshot__window_that_passed_while_the_host_was_down_is_over(rig):
    agent = configure(rig, {"brief": "5/2s"})
    equal(allowed(rig, "brief", "bob", 5), 5)
    agent.stop()
    os.utime(rig.snapshot)
    change_head(rig.snapshot, wall_ns=lambda ns: ns - 3 * 10**9)
    again = reboot(rig)
    contains(again.output(), "event=restored")
    equal(allowed(rig, "brief", "bob", 5), 5)


def test_snapshot__crash_of_the_host_loses_only_what_came_after_the_last_one(rig):
    agent = configure(rig, interval="1s")
    equal(allowed(rig, "login", "bob", 3), 3)
    wait_for("a snapshot with bob", lambda: holds(rig.snapshot, b"bob"))
    agent.signal(signal.SIGKILL)
    agent.wait()
    equal(allowed(rig, "login", "bob", 1), 1)
    reboot(rig)
    equal(allowed(rig, "login", "bob"), 2)


def test_snapshot__segment_that_was_removed_comes_back_with_its_counts(rig):
    spend_and_stop(rig, 3)
    os.unlink(rig.segment)
    again = rig.agent_again()
    contains(again.output(), "event=restored")
    equal(allowed(rig, "login", "bob"), 2)


def test_snapshot__segment_that_is_there_is_taken_over_and_no_snapshot_read(rig):
    spend_and_stop(rig, 3)
    equal(allowed(rig, "login", "bob", 1), 1)
    again = rig.agent_again()
    equal("restored" in again.output(), False)
    equal(allowed(rig, "login", "bob"), 1)


def test_snapshot__missing_one_is_said_and_counts_begin_at_0(rig):
    agent = configure(rig)
    contains(agent.output(), "event=no_snapshot")
    equal(allowed(rig, "login", "bob"), 5)


def test_snapshot__damaged_one_is_refused_and_the_next_one_takes_its_place(rig):
    spend_and_stop(rig, 3)
    with open(rig.snapshot, "r+b") as f:
        f.seek(200)
        f.write(b"?")
    again = reboot(rig)
    contains(again.output(), "event=snapshot_refused")
    contains(again.output(), "damaged, or cut off")
    equal(allowed(rig, "login", "bob", 1), 1)
    again.stop()
    third = reboot(rig)
    contains(third.output(), "event=restored")
    equal(allowed(rig, "login", "bob"), 4)


def test_snapshot__one_that_others_may_write_is_refused(rig):
    spend_and_stop(rig, 3)
    os.chmod(rig.snapshot, 0o666)
    contains(reboot(rig).output(), "others may write it")
    equal(allowed(rig, "login", "bob"), 5)


def test_snapshot__clock_that_is_behind_it_gives_nothing_back(rig):
    spend_and_stop(rig, 5)
    change_head(rig.snapshot, wall_ns=lambda ns: ns + 7200 * 10**9)
    again = reboot(rig)
    contains(again.output(), "event=snapshot_ahead")
    equal(allowed(rig, "login", "bob"), 0)


def test_snapshot__key_that_a_slow_sweep_meets_late_is_no_older_than_it_is(rig):
    agent = configure(rig, {"brief": "5/10m", "fixed": {"limit": "5/day", "algorithm": "fixed"},
                            "tokens": {"limit": "5/10m", "algorithm": "token_bucket", "burst": 5}})
    for rule in ("brief", "fixed", "tokens"):
        equal(allowed(rig, rule, "bob", 5), 5)
    agent.stop()
    day_ns = 86400 * 10**9  # as if the sweep had been begun a day before
    change_head(rig.snapshot, wall_ns=lambda ns: ns - day_ns, clock_ns=lambda ns: ns - day_ns)
    reboot(rig)
    for rule in ("brief", "fixed", "tokens"):
        equal((rule, allowed(rig, rule, "bob", 1)), (rule, 0))


def test_snapshot__one_older_than_any_window_is_not_counted(rig):
    spend_and_stop(rig, 5)
    change_head(rig.snapshot, wall_ns=lambda ns: ns - 2 * 365 * 86400 * 10**9)
    again = reboot(rig)
    contains(again.output(), "event=snapshot_old")
    equal(allowed(rig, "login", "bob"), 5)


def test_snapshot__that_cannot_be_written_is_said_once_and_again_when_it_can(rig):
    agent = configure(rig, interval="1s")
    wait_for("the first one", lambda: os.path.exists(rig.snapshot))
    os.unlink(rig.snapshot)
    os.mkdir(rig.snapshot)
    wait_for("the failure", lambda: "event=snapshot_failed" in agent.output())
    os.rmdir(rig.snapshot)
    wait_for("the next one", lambda: "event=snapshot_again" in agent.output())
    equal(agent.output().count("event=snapshot_failed"), 1)


def test_snapshot__directory_that_is_not_there_is_said_at_the_start(rig):
    rig.snapshot = os.path.join(rig.dir, "no", "snapshot")
    rig.config(RULES)
    with open(rig.path("rl.yaml"), "a", encoding="utf-8") as f:
        f.write(f"snapshot: {{path: {rig.snapshot}, interval: 1h}}\n")
    agent = rig.agent_again()
    wait_for("the failure", lambda: "event=snapshot_failed" in agent.output())
    contains(agent.output(), "create it")


def test_snapshot__rules_that_left_and_limits_that_changed_are_as_after_a_reload(rig):
    agent = configure(rig)
    for rule in ("login", "tokens"):
        equal(allowed(rig, rule, "bob", 3), 3)
    agent.stop()
    rig.inside = Boot(rig).inside()
    os.unlink(rig.segment)
    again = configure(rig, {"login": "8/h"})
    contains(again.output(), "keys=1 left_out=1")
    equal(allowed(rig, "login", "bob", 9), 5)


def test_snapshot__of_more_keys_than_there_is_room_for_leaves_the_pools_theirs(rig):
    agent = configure(rig, {"login": "5/h"})
    for i in range(150):
        equal(allowed(rig, "login", f"key-{i}", 1), 1)
    agent.stop()
    rig.inside = Boot(rig).inside()
    os.unlink(rig.segment)
    rig.config({"login": "5/h"}, keys=1)  # 96 slots
    with open(rig.path("rl.yaml"), "a", encoding="utf-8") as f:
        f.write(f"snapshot: {rig.snapshot}\n")
    again = rig.agent_again()
    equal("no_room=0" in again.output(), False)
    equal("event=no_pool" in again.output(), False)
    equal(allowed(rig, "login", "a new one", 1), 1)


def test_snapshot__agent_whose_segment_was_replaced_from_the_same_one_ends(rig):
    spend_and_stop(rig, 3)
    first = reboot(rig)
    for end in ("", ".lock"):
        os.unlink(rig.segment + end)
    second = rig.agent_again()
    contains(second.output(), "event=restored")
    wait_for("the end of the first", lambda: not first.running())
    contains(first.output(), "event=segment_gone")


def holds(path, key):
    try:
        with open(path, "rb") as f:
            return key in f.read()
    except FileNotFoundError:
        return False


def change_head(path, wall_ns, clock_ns=lambda ns: ns):
    """A head that says another time, with a digest that fits."""
    with open(path, "r+b") as f:
        begin = f.read(8)
        fields = list(HEAD.unpack(f.read(HEAD.size)))
        fields[-2:] = clock_ns(fields[-2]), wall_ns(fields[-1])
        body = begin + HEAD.pack(*fields)
        f.seek(0)
        f.write(body + siphash(body))


if __name__ == "__main__":
    main()
