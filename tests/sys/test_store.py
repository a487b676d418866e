"""Goal: whatever keeps the fleet's counts keeps them alike.
Method: the tests of the script (test_script.py), which send batches as an agent does, run through
store.h (tests/store/store_bridge.c) on each backend. What looks at Redis's own records is left out.
"""

import os
import sys

from rig import BUILD, contains, equal, main

HERE = os.path.dirname(os.path.abspath(__file__))

# Each field of a call and of its answer, and each outcome, crosses the interface in one of these.
OF_REDIS = ["test_script__older_batch_than_the_last_is_refused",
            "test_script__same_number_with_another_nonce_is_two_hosts_on_one_row",
            "test_script__two_live_hosts_with_one_id_learn_of_each_other",
            "test_script__group_leaves_exactly_w_after_its_last_unit",
            "test_script__report_says_when_what_is_counted_leaves",
            "test_script__waiting_callers_get_95_percent_and_fair_parts"]


def suite(rig, url, names=()):
    """test_script.py on this address; (passed, skipped)."""
    code, out, err = rig.run(sys.executable, os.path.join(HERE, "test_script.py"), *names,
                             env={"STORE": url, "BUILD": BUILD}, seconds=240)
    assert code == 0, out + err
    lines = [line for line in out.splitlines() if line.startswith("ok ")]
    skipped = [line for line in lines if "# SKIP" in line]
    return len(lines) - len(skipped), len(skipped)


def test_store__redis_behind_the_interface_answers_as_the_script_does(rig):
    rig.redis()
    passed, skipped = suite(rig, rig.redis_url, OF_REDIS)
    print(f"# {passed} passed, {skipped} skipped")
    equal(passed + skipped, len(OF_REDIS))
    assert passed >= 3


def test_store__memory_answers_as_the_script_does(rig):
    passed, skipped = suite(rig, f"memory:{rig.shm}/store.sock")
    print(f"# {passed} passed, {skipped} skipped")
    assert passed >= 25 and passed > skipped, (passed, skipped)


def test_store__suite_fails_when_there_is_no_store(rig):
    code, out, _ = rig.run(sys.executable, os.path.join(HERE, "test_script.py"), OF_REDIS[0],
                           env={"STORE": "unix:no", "BUILD": BUILD}, seconds=60)
    equal(code, 1)
    contains(out, "not ok")


if __name__ == "__main__":
    main()
