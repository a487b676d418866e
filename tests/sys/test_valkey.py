"""Goal: with a Valkey in the place of Redis all is as it is with Redis.
Method: a few cases of the files that meet the server, once more with valkey-server, if it is there.
`make check-valkey` runs these files whole."""

import os
import shutil
import sys

from rig import BUILD, Skip, main

HERE = os.path.dirname(os.path.abspath(__file__))
HOW = ("valkey-server is not here: Debian 13 has it; on Debian 12 enable bookworm-backports, then "
       "apt-get install -t bookworm-backports valkey-server")


def on_valkey(rig, name, cases):
    if not shutil.which("valkey-server"):
        raise Skip(HOW)
    names = [f"test_{name}__{case}" for case in cases]
    code, out, err = rig.run(sys.executable, os.path.join(HERE, f"test_{name}.py"), *names,
                             env={"RL_TEST_REDIS_SERVER": "valkey-server", "BUILD": BUILD},
                             seconds=100)
    assert code == 0, out + err
    passed = [line for line in out.splitlines() if line.startswith("ok ")]
    assert len(passed) == len(cases) and "SKIP" not in out, out
    print("".join(f"{line}\n" for line in out.splitlines() if line.startswith("# ")), end="")


def test_valkey__script_counts_and_lends(rig):
    on_valkey(rig, "script", ["batch_sent_again_is_answered_alike_and_changes_nothing",
                              "chained_call_whose_predecessor_is_missing_is_told_so",
                              "group_leaves_exactly_w_after_its_last_unit",
                              "waiting_callers_get_95_percent_and_fair_parts"])


def test_valkey__agent_comes_in_and_knows_what_it_is(rig):
    on_valkey(rig, "redis", ["documented_acl_is_enough", "each_right_is_needed_or_named",
                             "what_redis_may_forget_is_said_once_and_again_when_it_has_changed",
                             "replica_is_refused_and_taken_when_it_is_promoted"])


def test_valkey__failover_is_followed_and_what_is_lost_told_again(rig):
    on_valkey(rig, "sentinel", ["killed_primary_is_followed_and_no_check_fails",
                                "sentinel_may_want_a_password_of_its_own"])
    on_valkey(rig, "lost", ["redis_that_comes_back_with_an_older_state_is_told_what_it_lacks"])


if __name__ == "__main__":
    main()
