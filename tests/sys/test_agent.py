"""Goal: rl-agent starts, refuses, reloads, stops and is replaced as its documents say.
Method: the real program on segments of its own; rlctl as the eye."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

from rig import AGENT, BUILD, RLCTL, Skip, contains, equal, main, wait_for


def no_pool(limit, **more):
    """A rule whose only slots are those of its keys: the test counts them."""
    return {"limit": limit, "on_full": "deny", **more}


def test_agent__without_config_is_an_error_with_usage(rig):
    code, out, err = rig.run(AGENT)
    equal((code, out), (2, ""))
    contains(err, "rl-agent: --config FILE is needed")
    contains(err, "usage: rl-agent --config FILE")


def test_agent__unknown_option_and_stray_argument_are_errors(rig):
    equal(rig.run(AGENT, "--frob")[0], 2)
    code, _, err = rig.run(AGENT, "--config", "x", "stray")
    equal(code, 2)
    contains(err, "unexpected argument 'stray'")


def test_agent__help_and_version_go_to_stdout(rig):
    code, out, err = rig.run(AGENT, "--help")
    equal((code, err), (0, ""))
    contains(out, "exit status:")
    code, out, _ = rig.run(AGENT, "--version")
    equal(code, 0)
    assert re.fullmatch(r"rl-agent \d+\.\d+\.\d+\n", out), out


def test_agent__check_of_a_good_file_is_fine(rig):
    config = rig.config({"login": "5/10s"})
    equal(rig.run(AGENT, "--config", config, "--check"), (0, f"{config}: fine, 1 rule\n", ""))
    assert not os.path.exists(rig.segment)


def test_agent__bad_config_exits_1_with_file_line_column(rig):
    config = rig.write("bad.yaml", "rules:\n  - name: a\n    limt: 5/s\n")
    want = (f"{config}:3:5: unknown key 'limt' (did you mean 'limit'?)\n"
            f"{config}:2:5: this rule has no 'limit'\n")
    equal(rig.run(AGENT, "--config", config, "--check"), (1, "", want))
    equal(rig.run(AGENT, "--config", config), (1, "", want))


def test_agent__creates_the_segment_and_its_folder_and_publishes(rig):
    rig.segment = os.path.join(rig.shm, "new", "seg")
    rig.agent({"login": "5/10s"})
    status = rig.status()
    equal(status["state"], "fresh")
    equal([r["name"] for r in status["rules"]], ["login"])
    equal(os.stat(rig.segment).st_mode & 0o777, 0o660)


def test_agent__sigterm_stops_cleanly_and_keeps_the_counts(rig):
    agent = rig.agent({"login": "2/h"})
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    agent.signal(signal.SIGTERM)
    equal(agent.wait(), 0)
    contains(agent.output(), "event=stopping")
    code, out, _ = rig.rlctl("status")
    equal(code, 1)
    contains(out, "agent    stopped: last heartbeat")
    rig.agent({"login": "2/h"})
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    equal(rig.rlctl("check", "login", "bob")[0], 1)


def test_agent__killed_agent_is_seen_and_the_limit_holds_without_it(rig):
    agent = rig.agent({"login": "3/h"})
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    agent.signal(signal.SIGKILL)
    equal(agent.wait(), -signal.SIGKILL)
    wait_for("state alone", lambda: rig.status()["state"] == "alone")
    code, out, _ = rig.rlctl("status")
    equal(code, 1)
    contains(out, f"pid was {agent.pid}")
    equal([rig.rlctl("check", "login", "bob")[0] for _ in range(3)], [0, 0, 1])
    contains(rig.rlctl("check", "login", "bob")[1], "state alone")
    rig.agent({"login": "3/h"})
    equal(rig.status()["state"], "fresh")
    equal(rig.rlctl("check", "login", "bob")[0], 1)


def test_agent__sighup_reload_takes_effect_and_forgets_nothing(rig):
    agent = rig.agent({"login": "2/h", "gone": "1/h"})
    equal([rig.rlctl("check", "login", "bob")[0] for _ in range(3)], [0, 0, 1])
    rig.config({"login": "4/h", "new": "1/h"})
    agent.signal(signal.SIGHUP)
    wait_for("the new rule", lambda: rig.status()["generation"] == 2)
    equal([rig.rlctl("check", "login", "bob")[0] for _ in range(3)], [0, 0, 1])
    equal(rig.rlctl("check", "new", "bob")[0], 0)
    code, _, err = rig.rlctl("check", "gone", "bob")
    equal(code, 2)
    contains(err, "there is no rule 'gone'")
    contains(err, "rules in force: login new")


def test_agent__large_raise_is_complete_within_a_second(rig):
    agent = rig.agent({"login": no_pool("5/h")})
    equal(rig.rlctl("check", "login", "bob", "--cost", "5")[0], 0)
    rig.config({"login": no_pool("5000/h")})
    agent.signal(signal.SIGHUP)
    wait_for("the re-base", lambda: rig.rlctl("check", "login", "bob", "--cost", "4000")[0] == 0,
             seconds=3)
    equal(rig.status()["table"]["rebased"], 1)


def test_agent__reload_to_another_algorithm_keeps_what_keys_hold(rig):
    """From each to each, with a lower limit as well: in force at the next check."""
    agent = rig.agent({"login": no_pool("10/h")})
    equal(rig.rlctl("check", "login", "bob", "--cost", "4")[0], 0)
    limit = 10
    for algorithm in ("fixed", "token_bucket", "sliding", "token_bucket", "fixed", "sliding"):
        before, limit = rig.status()["generation"], limit + 1
        rig.config({"login": no_pool(f"{limit}/2h", algorithm=algorithm)})
        agent.signal(signal.SIGHUP)
        wait_for("the reload", lambda: rig.status()["generation"] != before)
        equal(rig.rlctl("check", "login", "bob", "--cost", str(limit - 3))[0], 1)
        wait_for("the re-base",
                 lambda: rig.status()["table"]["rebased"] == limit - 10, seconds=3)
        out = json.loads(rig.rlctl("--json", "get", "login", "bob")[1])
        equal((out["remaining"], out["limit"]), (limit - 4, limit))
    agent.signal(signal.SIGKILL)
    agent.wait()
    rig.agent_again()
    equal(json.loads(rig.rlctl("--json", "get", "login", "bob")[1])["remaining"], limit - 4)


def test_agent__bad_reload_keeps_the_old_rules_and_says_where(rig):
    agent = rig.agent({"login": "2/h"})
    config = rig.write("rl.yaml", "rules: [oops\n")
    agent.signal(signal.SIGHUP)
    wait_for("the message", lambda: "event=reload_refused" in agent.output())
    contains(agent.output(), f"{config}:2:1: ")
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    rig.config({"login": "9/h"})
    agent.signal(signal.SIGHUP)
    wait_for("the reload", lambda: rig.status()["rules"][0]["limit"] == 9)


def test_agent__changed_segment_needs_a_restart_and_says_so(rig):
    agent = rig.agent({"login": "2/h"})
    rig.config({"login": "3/h"}, keys=5000)
    agent.signal(signal.SIGHUP)
    wait_for("the warning", lambda: "event=needs_restart" in agent.output())
    wait_for("the reload", lambda: rig.status()["rules"][0]["limit"] == 3)


def test_agent__larger_size_grows_the_table_and_keeps_the_counts(rig):
    rig.agent({"login": "2/h"}).stop()
    slots = rig.status()["table"]["slots"]
    rig.rlctl("check", "login", "bob")
    agent = rig.agent({"login": "2/h"}, keys=50000)
    contains(agent.output(), f"event=grown segment={rig.segment} keys_configured=50000")
    assert rig.status()["table"]["slots"] > 40 * slots, rig.status()
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    equal(rig.rlctl("check", "login", "bob")[0], 1)
    equal(rig.rlctl("check", "login", "carol")[0], 0)
    agent.stop()
    equal(rig.rlctl("verify")[0], 0)
    agent = rig.agent({"login": "2/h"}, keys=50000)
    assert "event=grown" not in agent.output(), agent.output()
    equal(rig.rlctl("check", "login", "bob")[0], 1)


def test_agent__table_that_is_nearly_full_is_told_of_once(rig):
    agent = rig.agent({"login": no_pool("2/h")}, keys=1)  # 86 keys, 96 slots
    keys = rig.status()["table"]["keys"]
    for number in range(keys * 9 // 10):
        equal(rig.rlctl("check", "login", f"key-{number}")[0], 0)
    equal(agent.output().count("table_pressure"), 0)
    for number in range(4):
        equal(rig.rlctl("check", "login", f"more-{number}")[0], 0)
    wait_for("the event", lambda: "event=table_pressure used=" in agent.output())
    assert rig.status()["table"]["pressure_percent"] > 90
    agent.stop()
    equal(agent.output().count("table_pressure"), 1)


def test_agent__table_that_cannot_grow_is_kept_and_says_why(rig):
    rig.agent({"login": "2/h"}).stop()
    rig.rlctl("check", "login", "bob")
    agent = rig.agent({"login": "2/h"}, keys=2000000000)
    contains(agent.output(), "event=size_kept")
    contains(agent.output(), "cannot allocate another")
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    equal(rig.rlctl("check", "login", "bob")[0], 1)


def test_agent__smaller_size_keeps_the_segment_and_says_how_to_resize(rig):
    rig.agent({"login": "2/h"}, keys=5000).stop()
    rig.rlctl("check", "login", "bob")
    agent = rig.agent({"login": "2/h"}, keys=1000)
    contains(agent.output(), "event=size_kept")
    contains(agent.output(), "stop rl-agent, remove the file, start it again")
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    equal(rig.rlctl("check", "login", "bob")[0], 1)


def test_agent__segment_of_the_configured_size_is_kept_in_silence(rig):
    rig.agent({"login": "2/h"}, keys=1).stop()  # the smallest there is holds more
    agent = rig.agent({"login": "2/h"}, keys=1)
    assert "event=size_kept" not in agent.output(), agent.output()


def test_agent__second_agent_is_refused_and_names_the_first(rig):
    first = rig.agent({"login": "2/h"})
    code, _, err = rig.run(AGENT, "--config", rig.path("rl.yaml"))
    equal(code, 2)
    contains(err, f"event=locked segment={rig.segment} holder={first.pid}")
    # Stopped is not dead: it would wake and write beside a second one.
    first.signal(signal.SIGSTOP)
    equal(rig.run(AGENT, "--config", rig.path("rl.yaml"))[0], 2)
    first.signal(signal.SIGCONT)


def spoil(rig, offset, data):
    with open(rig.segment, "r+b") as f:
        f.seek(offset)
        f.write(data)


def test_agent__segment_of_another_abi_is_refused_by_all(rig):
    rig.agent({"login": "2/h"}).stop()
    spoil(rig, 8, struct.pack("<I", 99))
    words = "its layout is version 99, this program speaks version 6"
    for argv in ((AGENT, "--config", rig.path("rl.yaml")),
                 (RLCTL, "--segment", rig.segment, "status"),
                 (RLCTL, "--segment", rig.segment, "check", "login", "bob"),
                 (RLCTL, "--segment", rig.segment, "get", "login", "bob")):
        code, out, err = rig.run(*argv)
        equal((code, out), (2, ""))
        contains(err, words)
    assert os.path.exists(rig.segment)


def test_agent__foreign_and_truncated_files_are_refused_untouched(rig):
    config = rig.config({"login": "2/h"})
    with open(rig.segment, "wb") as f:
        f.write(b"precious" * 4096)
    code, _, err = rig.run(AGENT, "--config", config)
    equal(code, 2)
    contains(err, "event=no_segment")
    with open(rig.segment, "rb") as f:
        equal(f.read(8), b"precious")
    os.truncate(rig.segment, 10)
    code, _, err = rig.run(AGENT, "--config", config)
    equal(code, 2)
    contains(err, "10 bytes are too few for a segment's header")


def test_agent__removed_segment_ends_the_agent_with_a_message(rig):
    agent = rig.agent({"login": "2/h"})
    os.unlink(rig.segment)
    equal(agent.wait(), 2)
    contains(agent.output(), "event=segment_gone")


def damage_every_used_slot(rig):
    """Head 0 and groups of one unit: what made a re-base count to 2^64."""
    with open(rig.segment, "r+b") as f:
        header = f.read(4096)
        buckets, _, _, slots, _ = struct.unpack_from("<5Q", header, 48)
        for slot in range(slots, slots + buckets * 32 * 256, 256):
            f.seek(slot)
            head, identity, _, shape = struct.unpack("<4Q", f.read(32))
            if identity != 0:
                f.seek(slot)
                f.write(struct.pack("<4Q", head & 0, identity, identity, shape >> 32 << 32 | 1))


def test_agent__damaged_slots_do_not_hang_it_and_their_keys_start_anew(rig):
    agent = rig.agent({"login": no_pool("100/h")})
    for key in "abc":
        equal(rig.rlctl("check", "login", key, "--cost", "100")[0], 0)
    damage_every_used_slot(rig)
    agent.signal(signal.SIGHUP)
    wait_for("the clean-up", lambda: "event=damaged slots=3" in agent.output())
    equal(rig.status()["state"], "fresh")
    equal(rig.status()["table"]["evicted"], 3)
    equal(rig.rlctl("check", "login", "a")[0], 0)
    agent.signal(signal.SIGTERM)
    equal(agent.wait(), 0)


def test_agent__fifo_in_the_place_of_its_segment_ends_it_with_a_message(rig):
    agent = rig.agent({"login": "2/h"})
    os.unlink(rig.segment)
    os.mkfifo(rig.segment)
    equal(agent.wait(5), 2)
    contains(agent.output(), "event=segment_gone")
    equal(rig.run(AGENT, "--config", rig.path("rl.yaml"), seconds=5)[0], 2)


def unprivileged(group):
    """argv before a command that is to run as nobody in that group alone."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        raise Skip("needs root and setpriv")
    return ("setpriv", "--reuid", "65534", "--regid", group, "--clear-groups")


def grouped_config(rig, extra):
    return rig.write("rl.yaml", f"segment: {{path: {rig.segment}, keys: 100{extra}}}\n"
                                "rules:\n  - {name: login, limit: 5/h}\n")


def started(rig, config):
    agent = rig.start(AGENT, "--config", config)
    wait_for("the agent", lambda: "event=started" in agent.output())
    return agent


def test_agent__members_of_the_configured_group_may_take_part(rig):
    check = (RLCTL, "--segment", rig.segment, "check", "login", "bob")
    os.chmod(rig.shm, 0o755)
    agent = started(rig, grouped_config(rig, ""))
    code, _, err = rig.run(*unprivileged("daemon"), *check)
    equal(code, 2)
    contains(err, "Permission denied: it belongs to user 0, group 0, mode 0660; run as one of them")
    agent.stop()
    # The one that is there gets the group as well, and keeps its counts.
    agent = started(rig, grouped_config(rig, ", group: daemon"))
    equal(rig.run(*unprivileged("daemon"), *check)[0], 0)
    equal(rig.run(*unprivileged("nogroup"), *check)[0], 2)
    agent.stop()
    os.unlink(rig.segment)
    started(rig, grouped_config(rig, ", group: daemon, mode: 0640"))
    equal(os.stat(rig.segment).st_mode & 0o7777, 0o640)
    equal(rig.run(*unprivileged("daemon"), *check)[0], 2)
    equal(rig.run(*unprivileged("daemon"), RLCTL, "--segment", rig.segment, "status")[0], 0)


def test_agent__permission_it_has_not_is_named_with_the_owner(rig):
    config = grouped_config(rig, "")
    os.chmod(rig.dir, 0o755)
    os.chmod(rig.shm, 0o755)
    code, _, err = rig.run(*unprivileged("nogroup"), AGENT, "--config", config)
    equal(code, 2)
    contains(err, f'msg="cannot lock {rig.shm}: Permission denied: it belongs to user 0, group 0, '
                  'mode 0755; run as one of them"')


def test_agent__segment_too_large_for_memory_leaves_nothing_behind(rig):
    code, _, err = rig.run(AGENT, "--config", rig.config({"login": "2/h"}, keys=3000000000))
    equal(code, 2)
    contains(err, "cannot allocate")
    equal(os.listdir(rig.shm), [])


def test_agent__directory_of_another_user_is_refused(rig):
    if os.geteuid() != 0:
        raise Skip("needs root")
    os.chown(rig.shm, 65534, 65534)
    code, _, err = rig.run(AGENT, "--config", rig.config({"login": "2/h"}))
    equal(code, 2)
    contains(err, f"the directory {rig.shm} belongs to user 65534, who could replace the segment")


def test_agent__missing_directory_is_named(rig):
    rig.segment = os.path.join(rig.shm, "none", "deeper", "seg")
    code, _, err = rig.run(AGENT, "--config", rig.config({"login": "2/h"}))
    equal(code, 2)
    contains(err, f'msg="the directory {rig.shm}/none/deeper does not exist: create it"')


def test_agent__truncation_of_its_segment_ends_it_with_a_message(rig):
    for left in (8192, 4096, 0):
        agent = rig.agent({"login": "2/h"})
        os.truncate(rig.segment, left)
        equal(agent.wait(5), 2)
        contains(agent.output(), "event=segment_truncated")
        contains(agent.output(), "remove it, then start rl-agent")
        os.unlink(rig.segment)
def test_agent__replaced_segment_ends_the_agent_with_a_message(rig):
    agent = rig.agent({"login": "2/h"})
    kept = rig.segment
    rig.segment += "-2"
    rig.agent({"login": "2/h"}).stop()
    os.rename(rig.segment, kept)
    equal(agent.wait(5), 2)
    contains(agent.output(), "event=segment_gone")


def test_agent__heartbeat_written_over_does_not_end_the_agent(rig):
    agent = rig.agent({"login": "2/h"})
    until = time.monotonic() + 2.5  # it looks at its segment once a second
    with open(rig.segment, "r+b", buffering=0) as f:
        while time.monotonic() < until:
            os.pwrite(f.fileno(), struct.pack("<Q", 1 << 62), 4096)
    wait_for("the next beat", lambda: rig.rlctl("status")[0] == 0)
    assert agent.running(), agent.output()


def leave_a_slot_closed(rig):
    """As an agent that is killed while it re-bases the only slot: closed, half written, and
    the finished contents in the journal (shm/rl_layout.h)."""
    with open(rig.segment, "r+b") as f:
        data = f.read()
        at = struct.unpack_from("<Q", data, 72)[0]  # slots_off
        first = at
        while struct.unpack_from("<Q", data, at)[0] & 1 << 21:  # closed: free
            at += 256
        head, _, _, shape, window_ns = struct.unpack_from("<5Q", data, at)
        closed = head >> 22 << 22 | 1 << 21 | 5
        reopened = head + (24 << 22)  # a whole ring later, so that each stamp stays in its cell
        f.seek(4096 + 256)
        f.write(struct.pack("<7Q", 1, (at - first) // 256, closed, reopened, shape, window_ns, 0))
        f.write(data[at + 64:at + 256])
        f.seek(at)
        f.write(struct.pack("<5Q", closed, *struct.unpack_from("<2Q", data, at + 8), 0, 0))


def test_agent__slot_closed_by_a_killed_agent_is_finished_by_the_next(rig):
    rig.agent({"login": no_pool("3/h")}).stop()
    equal(rig.rlctl("check", "login", "bob", "--cost", "2")[0], 0)
    leave_a_slot_closed(rig)
    equal(rig.rlctl("check", "login", "bob")[0], 2)
    agent = rig.agent({"login": no_pool("3/h")})
    contains(agent.output(), "event=recovered")
    equal([rig.rlctl("check", "login", "bob")[0] for _ in range(2)], [0, 1])


KILLED = """
import ctypes, os, sys
rl = ctypes.CDLL(sys.argv[1])
client, rule = ctypes.c_void_p(), ctypes.c_uint64()
assert rl.rl_attach(sys.argv[2].encode(), ctypes.byref(client), None) == 0
assert rl.rl_rule(client, b"login", ctypes.byref(rule)) == 0
rl.rl_check(client, rule, b"bob", ctypes.c_size_t(3), 1, 0, None)
os.kill(os.getpid(), 9)
"""


def test_agent__statistics_line_of_a_killed_process_is_given_back(rig):
    rig.agent({"login": "2/h"})
    equal(rig.run(sys.executable, "-c", KILLED, os.path.join(BUILD, "librl.so.1"),
                  rig.segment)[0], -signal.SIGKILL)
    wait_for("the tidying", lambda: rig.status()["members"] == 0)
    equal(rig.status()["totals"]["allowed"], 1)


def test_agent__idle_keys_are_given_back(rig):
    rig.agent({"brief": "5/50ms"}, keys=100)
    for key in range(20):
        rig.rlctl("check", "brief", f"key-{key}")
    wait_for("the sweep", lambda: rig.status()["table"]["freed"] >= 20, seconds=25)
    equal(rig.status()["table"]["used"], 8)  # the rule's pool stays


def test_agent__sigpipe_is_ignored(rig):
    agent = rig.agent({"login": "2/h"})
    agent.signal(signal.SIGPIPE)
    before = rig.status()["agent"]["heartbeat_age_s"]
    wait_for("another heartbeat",
             lambda: rig.status()["agent"]["heartbeat_age_s"] < max(before, 0.05))
    assert agent.running()


def test_agent__unwritable_place_is_an_error_that_names_it(rig):
    rig.segment = "/proc/nowhere/seg"
    code, _, err = rig.run(AGENT, "--config", rig.config({"login": "2/h"}))
    equal(code, 2)
    contains(err, "event=no_lock segment=/proc/nowhere/seg")


def test_agent__process_in_another_time_namespace_is_refused(rig):
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise Skip("needs root and unshare")
    probe = subprocess.run(["unshare", "-T", "--monotonic", "86400", "true"],
                           capture_output=True, check=False)
    if probe.returncode != 0:
        raise Skip("this kernel has no time namespaces")
    agent = rig.agent({"login": "2/h"})
    argv = ("unshare", "-T", "--monotonic", "86400", RLCTL, "--segment", rig.segment, "check",
            "login", "bob")
    code, _, err = rig.run(*argv)
    equal(code, 2)
    contains(err, "different time namespaces")
    agent.signal(signal.SIGKILL)  # nor when no live agent can be compared with
    agent.wait()
    equal(rig.run(*argv)[0], 2)
    equal(rig.rlctl("check", "login", "bob")[0], 0)


if __name__ == "__main__":
    main()
