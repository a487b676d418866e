"""Goal: rlctl prints, refuses and exits as its documents say, with the agent alive or dead.
Method: the real program; every wrong call it can be given, word for word."""

import json
import os
import pty
import re
import signal
import stat
import struct
import sys
import time

from rig import AGENT, BUILD, RLCTL, SHIM, Skip, contains, equal, main, wait_for


def test_rlctl__without_command_prints_usage_and_fails(rig):
    code, out, err = rig.run(RLCTL)
    equal((code, out), (2, ""))
    contains(err, "usage: rlctl")


def test_rlctl__help_goes_to_stdout(rig):
    for argv in (("--help",), ("status", "--help"), ("run", "--help")):
        code, out, err = rig.run(RLCTL, *argv)
        equal((code, err), (0, ""))
        contains(out, "usage: rlctl")


def test_rlctl__wrong_calls_say_what_is_wrong(rig):
    rig.agent({"login": "5/h"})
    for argv, message in (
            (("frob",), "unknown command 'frob' (rlctl --help lists them)"),
            (("status", "x"), "status takes no argument, not 'x'"),
            (("status", "--cost", "5"), "--cost goes with 'check' only"),
            (("--cost", "5", "run", "--limit", "1/s", "--", "true"),
             "--cost goes with 'check' only"),
            (("get", "login"), "get needs RULE and KEY, e.g. rlctl get login 192.0.2.7"),
            (("get", "login", ""), "a key is 1 .. 1024 bytes long"),
            (("get", "login", "k" * 1025), "a key is 1 .. 1024 bytes long"),
            (("check", "login"), "check needs RULE and KEY, e.g. rlctl check login 192.0.2.7"),
            (("check", "login", "b", "--cost", "0"),
             "--cost must be a whole number 1 .. 2147483647, not '0'"),
            (("check", "login", "b", "--cost", "five"),
             "--cost must be a whole number 1 .. 2147483647, not 'five'"),
            (("check", "login", "b", "--cost", "6"),
             "could not decide: the cost is above what the rule can ever admit at once"),
            (("check", "nobody", "b"), f"there is no rule 'nobody' in {rig.segment}"),
            (("get", "nobody", "b"), f"there is no rule 'nobody' in {rig.segment}"),
            (("rules", "frob"), "usage: rlctl rules [show [--pushed]], rlctl rules check FILE, or rlctl "
             "rules push FILE | --clear | --rollback"),
            (("run", "--", "true"), "run needs either --rule NAME or --limit COUNT/WINDOW"),
            (("run", "--rule", "a", "--limit", "1/s", "--", "true"),
             "run needs either --rule NAME or --limit COUNT/WINDOW"),
            (("run", "--limit", "1/s"), "run needs a command after --, e.g. -- nginx -g "
                                        "'daemon off;'"),
            (("run", "--rule", "login", "--", ""), "the command is empty"),
            (("run", "--limit", "5/s", "--", ""), "the command is empty"),
            (("run", "--limit", "1/x", "--", "true"),
             "bad limit '1/x': the window's unit must be ms, s, second, m, minute, h, hour, d or "
             "day"),
            (("run", "--limit", "1/s", "--by", "cookie:id", "--", "true"),
             "--by knows only 'ip', not 'cookie:id'"),
            (("run", "--limit", "1/s", "--port", "0", "--", "true"),
             "--port must be 1 .. 65535, not '0'"),
            (("run", "--rule", "nobody", "--", "true"),
             f"there is no rule 'nobody' in {rig.segment}"),
            (("run", "--limit", "1/s", "--", "true"),
             f"the segment {rig.segment} has an agent without this limit: use --rule NAME for one "
             "of its rules, or another --segment"),
    ):
        code, out, err = rig.rlctl(*argv)
        equal((argv, code, out), (argv, 2, ""))
        equal(err.splitlines()[0], "rlctl: " + message)


def test_rlctl__unknown_option_names_the_command_and_the_way_out(rig):
    for argv in (("get", "r", "-1"), ("check", "r", "-1")):
        code, out, err = rig.rlctl(*argv)
        equal((code, out), (2, ""))
        equal(err, f"rlctl {argv[0]}: invalid option -- '1'\n"
                   "  a KEY that begins with '-' goes after --\n")
    equal(rig.rlctl("status", "--frob")[2], "rlctl status: unrecognized option '--frob'\n")
    contains(rig.rlctl("run", "--frob")[2], "rlctl run: unrecognized option '--frob'\n")


def test_rlctl__run_says_what_is_wrong_with_the_segments_path(rig):
    for path, message in (("relative", "must start with '/'"),
                          ('/tmp/a"b', "must not hold '\"', '\\' or a newline"),
                          ("/tmp/a\nb", "must not hold '\"', '\\' or a newline"),
                          ("/" + "a" * 4090, "is too long"),
                          ("/tmp/a\tb\x01", "holds a control character"),
                          (os.fsdecode(b"/tmp/a\xff"), "is not UTF-8 text")):
        code, _, err = rig.run(RLCTL, "run", "--limit", "1/s", "--segment", path, "--", "true")
        equal((code, err), (2, f"rlctl: the segment's path {message}\n"))


def test_rlctl__run_help_tells_its_exit_codes(rig):
    out = rig.run(RLCTL, "run", "--help")[1]
    contains(out, "exit status: the command's own, or 128 + the signal that ended it; 126 it "
                  "cannot be\nrun, 127 it is not there; 2 an error of rlctl's own")


def test_rlctl__answer_that_cannot_be_written_is_an_error(rig):
    rig.agent({"login": "5/h"})
    for argv in (("status",), ("--json", "status"), ("get", "login", "b"), ("rules",), ("--help",),
                 ("--version",), ("run", "--help")):
        for where, why in ((">/dev/full", "No space left on device"), (">&-", "")):
            code, _, err = rig.run("sh", "-c", f'exec "$@" {where}', "sh", RLCTL, "--segment",
                                   rig.segment, *argv)
            equal((argv, where, code), (argv, where, 2))
            contains(err, f"rlctl: cannot write the answer: {why}")


def test_rlctl__path_that_is_not_text_is_shown_escaped_in_json(rig):
    rig.agent({"login": "5/h"})
    odd = rig.segment + os.fsdecode(b"-\xff")
    os.link(rig.segment, odd)
    code, out, _ = rig.run(RLCTL, "--segment", odd, "--json", "status")
    equal((code, json.loads(out)["segment"]), (0, rig.segment + "-\\xff"))


def test_rlctl__absent_segment_says_how_to_get_one(rig):
    for argv in (("status",), ("get", "r", "k"), ("rules",), ("run", "--rule", "r", "--", "true")):
        code, out, err = rig.rlctl(*argv)
        equal((code, out), (2, ""))
        contains(err, f"cannot read the segment {rig.segment}: there is no such file")
        contains(err, "rl-agent --config FILE")
    code, out, err = rig.rlctl("check", "r", "k")
    equal((code, out), (2, ""))
    contains(err, "is rl-agent running?")


def test_rlctl__path_that_is_no_segment_is_refused_at_once_by_every_command(rig):
    os.mkfifo(rig.path("fifo"))
    os.mkdir(rig.path("dir"))
    with open(rig.path("zeros"), "wb") as f:
        f.write(bytes(9000))
    for name, message in (("fifo", "it is not a regular file"),
                          ("dir", "it is a directory, not a segment"),
                          ("zeros", "it is not a Ratel segment; name another path or remove it")):
        for argv in (("status",), ("get", "r", "k"), ("check", "r", "k"), ("rules",),
                     ("run", "--rule", "r", "--", "true"),
                     ("run", "--limit", "5/s", "--", "true")):
            code, out, err = rig.run(RLCTL, "--segment", rig.path(name), *argv, seconds=5)
            equal((name, argv, code, out), (name, argv, 2, ""))
            contains(err, message)


def test_rlctl__status_shows_the_agent_first(rig):
    agent = rig.agent({"login": "5/h", "api": "100/m"})
    rig.rlctl("check", "login", "bob")
    code, out, err = rig.rlctl("status")
    equal((code, err), (0, ""))
    lines = out.splitlines()
    assert lines[0].startswith("agent    alive: heartbeat "), lines[0]
    contains(lines[0], f"pid {agent.pid}")
    equal(lines[1], "state    fresh")
    contains(out, f"segment  {rig.segment}, ABI 6.0, ")
    contains(out, "table    17 of ")  # and two rules' pools
    contains(out, " slots used, 1.7 % of its 1008 keys; freed 0, re-based 0, reaped 0, evicted 0\n")
    contains(out, "totals   allowed 1, limited 0, errors 0; without a slot 0\n")
    contains(out, "rules    2, generation 1\n         login                    5/h\n"
                  "         api                      100/m\n")


COUNTS = ("allowed", "limited", "shadowed", "errors", "near", "pooled", "refunded")


def counts(rig):
    """Of each rule, what is not 0."""
    return {rule["name"]: {name: n for name, n in rule["counts"].items() if n}
            for rule in rig.status()["rules"]}


def test_rlctl__status_counts_by_rule(rig):
    rig.agent({"login": "2/h", "api": "100/m", "new": {"limit": "1/h", "shadow": "true"}})
    equal(counts(rig), {"login": {}, "api": {}, "new": {}})
    for cost in (1, 1, 1, 3):
        rig.rlctl("check", "login", "bob", "--cost", str(cost))
    rig.rlctl("check", "api", "bob", "--cost", "90")
    for _ in range(2):
        rig.rlctl("check", "new", "bob")
    equal(counts(rig), {"login": {"allowed": 2, "limited": 1, "errors": 1, "near": 1},
                        "api": {"allowed": 90},
                        "new": {"allowed": 1, "limited": 1, "shadowed": 1, "near": 1}})
    totals = rig.status()["totals"]
    equal([totals[name] for name in ("allowed", "limited", "errors")], [93, 2, 1])
    out = rig.rlctl("status")[1]
    contains(out, "counts   login                    allowed 2 (near the limit 1), limited 1, "
                  "errors 1\n")
    contains(out, "counts   api                      allowed 90 (near the limit 0), limited 0\n")
    contains(out, "limited 1 (passed by shadow 1)\n")


def test_rlctl__counts_outlive_their_process_the_agent_and_the_rule(rig):
    agent = rig.agent({"login": "9/h", "api": "100/m"})
    rig.rlctl("check", "login", "bob", "--cost", "5")
    agent.stop()
    agent = rig.agent({"api": "100/m"})
    rig.rlctl("check", "api", "bob")
    equal(counts(rig), {"api": {"allowed": 1}})
    equal(rig.status()["totals"]["allowed"], 6)
    agent.stop()
    rig.agent({"new": "1/s", "api": "100/m", "login": "9/h"})
    equal(counts(rig), {"new": {}, "api": {"allowed": 1}, "login": {"allowed": 5}})


CHECKS = """
import ctypes, sys
rl = ctypes.CDLL(sys.argv[1])
client, rule = ctypes.c_void_p(), ctypes.c_uint64()
assert rl.rl_attach(sys.argv[2].encode(), ctypes.byref(client), None) == 0
assert rl.rl_rule(client, b"login", ctypes.byref(rule)) == 0
for _ in range(5000):
    rl.rl_check(client, rule, b"bob", ctypes.c_size_t(3), 1, 0, None)
"""


def test_rlctl__status_has_the_latency_of_checks(rig):
    rig.agent({"login": "1000000/h"})
    equal(rig.run(sys.executable, "-c", CHECKS, os.path.join(BUILD, "librl.so.1"),
                  rig.segment)[0], 0)
    latency = rig.status()["latency"]
    equal(latency["one_in"], 1024)
    assert 3 <= latency["timed"] <= 7, latency
    equal((sum(latency["buckets"]), len(latency["buckets"])), (latency["timed"], 32))
    first = next(b for b, n in enumerate(latency["buckets"]) if n)
    assert 2 << first <= latency["p50_below_ns"] <= latency["p99_below_ns"], latency
    equal(latency["p99_below_ns"], latency["max_below_ns"])
    assert re.search(r"\nlatency  p50 below \d+ ns, p99 below \d+ ns, max below "
                     r"\d+ ns, of \d checks timed, 1 in 1024\n", rig.rlctl("status")[1])


def test_rlctl__status_as_json_has_its_fields(rig):
    agent = rig.agent({"login": "5/10s"})
    status = rig.status()
    equal(sorted(status), ["agent", "audit", "bytes", "clock", "fleet", "generation", "given_back", "latency",
                           "members", "orders", "partitions", "redis", "rules", "rules_from", "segment",
                           "state", "sync", "table", "totals"])
    equal(status["latency"], None)
    equal([status[name] for name in ("fleet", "redis", "sync", "clock", "partitions")], [None] * 5)
    for name in ("slots", "audit"):  # test_watch.py
        del status["rules"][0][name]
    equal(status["agent"]["pid"], agent.pid)
    equal(status["agent"]["alive"], True)
    equal(status["rules"], [{"name": "login", "limit": 5, "window_s": 10.0, "consistency": "local", "algorithm": "sliding",
                             "bound": 5, "in_force": "local: at most 5 on this host",
                             "bound_in_force": {"units": 5, "of": "host"}, "promise": None,
                             "counts": {name: 0 for name in COUNTS}}])
    equal(status["totals"], {"allowed": 0, "limited": 0, "errors": 0, "table_full": 0,
                              "mended": 0})


def test_rlctl__check_spends_and_get_does_not(rig):
    rig.agent({"login": "2/h"})
    for _ in range(5):
        code, out, _ = rig.rlctl("get", "login", "bob")
        equal((code, out), (0, "allowed: 2 of 2 remaining under login (2/h), state fresh\n"))
    equal(rig.rlctl("check", "login", "bob"),
          (0, "allowed: 1 of 2 remaining under login (2/h), state fresh\n", ""))
    equal(rig.rlctl("check", "login", "bob")[0], 0)
    code, out, _ = rig.rlctl("check", "login", "bob")
    equal(code, 1)
    assert re.match(r"limited: 0 of 2 remaining under login \(2/h\), try again in (59 m|1 h)", out)
    code, out, _ = rig.rlctl("get", "login", "bob")
    equal(code, 1)
    contains(out, "limited: 0 of 2 remaining")


def test_rlctl__answers_as_json(rig):
    rig.agent({"login": "1/h"})
    code, out, _ = rig.rlctl("--json", "check", "login", "bob")
    equal((code, json.loads(out)), (0, {"rule": "login", "key": "bob", "allowed": True, "limit": 1,
                                        "remaining": 0, "window_s": 3600.0, "retry_after_s": 0.0,
                                        "delay_s": 0.0,
                                        "state": "fresh", "decided_by": "window"}))
    code, out, _ = rig.rlctl("check", "login", "bob", "--json")
    equal((code, json.loads(out)["allowed"]), (1, False))
    assert 3590 < json.loads(out)["retry_after_s"] <= 3600.1
    code, out, _ = rig.rlctl("get", "--json", "login", b"\xff\x01".decode("utf-8", "surrogateescape"))
    equal(json.loads(out)["key"], "hex:ff01")


def test_rlctl__rules_of_other_algorithms_are_shown_and_answered(rig):
    rig.agent({"fixed": {"limit": "5/365d", "algorithm": "fixed"},
               "token": {"limit": "10/h", "algorithm": "token_bucket", "burst": 20},
               "all": {"limit": "1000/h", "interpolate": "true"}})
    equal(rig.rlctl("rules")[1].splitlines(), [
        "fixed                    5/365d       local, fixed",
        "token                    10/h         local, token_bucket, burst 20",
        "all                      1000/h       local, interpolate"])
    equal(json.loads(rig.rlctl("rules", "--json")[1])[1], {
        "name": "token", "limit": "10/h", "consistency": "local", "algorithm": "token_bucket",
        "burst": 20})
    equal([rule["bound"] for rule in rig.status()["rules"]], [10, 30, 1045])
    equal(rig.rlctl("get", "token", "bob")[1],
          "allowed: 20 remaining under token (10/h), state fresh\n")
    equal(rig.rlctl("check", "token", "bob", "--cost", "19")[1],
          "allowed: 1 of 10 remaining under token (10/h), state fresh\n")
    equal(rig.rlctl("get", "token", "bob")[1],
          "allowed: 1 of 10 remaining under token (10/h), state fresh\n")
    code, out, _ = rig.rlctl("check", "token", "bob", "--cost", "2")
    equal(code, 1)
    contains(out, "limited: 1 of 10 remaining under token (10/h), try again in 5 m")
    code, _, err = rig.rlctl("check", "token", "bob", "--cost", "21")
    equal((code, err), (2, "rlctl: could not decide: the cost is above what the rule can ever "
                           "admit at once\n"))
    equal(rig.rlctl("check", "fixed", "bob", "--cost", "5")[0], 0)
    code, out, _ = rig.rlctl("check", "fixed", "bob")
    equal(code, 1)
    contains(out, "limited: 0 of 5 remaining under fixed (5/365d), try again in ")


def test_rlctl__delay_of_a_leaky_bucket_is_told(rig):
    rig.agent({"leaky": {"limit": "10/h", "algorithm": "leaky_bucket", "burst": 5, "delay": 2}})
    contains(rig.rlctl("rules")[1], "local, leaky_bucket, burst 5, delay 2")
    equal(rig.rlctl("check", "leaky", "bob", "--cost", "3")[1],
          "allowed: 3 of 10 remaining under leaky (10/h), state fresh\n")
    code, out, _ = rig.rlctl("check", "leaky", "bob")
    equal((code, out), (0, "allowed after a delay of 5 m 59 s: 2 of 10 remaining under leaky "
                           "(10/h), state fresh\n"))
    answer = json.loads(rig.rlctl("--json", "get", "leaky", "bob")[1])
    equal((answer["allowed"], answer["remaining"]), (True, 2))
    assert 700 < answer["delay_s"] <= 720, answer


HOLDER = """
import ctypes, sys, time
rl = ctypes.CDLL(sys.argv[1])
client, rule, result = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.create_string_buffer(128)
assert rl.rl_attach(sys.argv[2].encode(), ctypes.byref(client), None) == 0
assert rl.rl_rule(client, b"up", ctypes.byref(rule)) == 0
assert rl.rl_acquire(client, rule, b"bob", ctypes.c_size_t(3), 2, result) == 0
time.sleep(60)
"""


def test_rlctl__requests_in_flight_are_told_and_given_back_when_their_process_dies(rig):
    rig.agent({"up": {"limit": 3, "algorithm": "concurrency"}})
    equal(rig.rlctl("rules")[1].split(), ["up", "3", "in", "flight", "local,", "concurrency"])
    equal(rig.rlctl("check", "up", "bob", "--cost", "3")[:2],
          (0, "allowed: 3 in flight, 0 of 3 remaining under up, state fresh\n"))

    def in_flight():
        return json.loads(rig.rlctl("--json", "get", "up", "bob")[1])["in_flight"]
    equal(in_flight(), 0)  # released at once
    library = os.path.join(os.path.dirname(RLCTL), "librl.so.1")
    holder = rig.start(sys.executable, "-c", HOLDER, library, rig.segment)
    wait_for("the holder", lambda: in_flight() == 2)
    time.sleep(1)
    equal(rig.rlctl("check", "up", "bob", "--cost", "2")[:2],
          (1, "limited: 2 in flight, 1 of 3 remaining under up, state fresh\n"))
    os.kill(holder.pid, signal.SIGKILL)
    wait_for("what it held", lambda: in_flight() == 0, 5.0)
    contains(rig.rlctl("status")[1], "given back of dead processes: 2\n")
    code, out, err = rig.rlctl("run", "--rule", "up", "--", "true")
    equal((code, out), (2, ""))
    contains(err, "the rule 'up' limits requests in flight")


def test_rlctl__segment_comes_from_the_environment(rig):
    rig.agent({"login": "1/h"})
    code, out, _ = rig.run(RLCTL, "get", "login", "bob", env={"RL_SEGMENT": rig.segment})
    equal((code, out), (0, "allowed: 1 of 1 remaining under login (1/h), state fresh\n"))


def test_rlctl__reading_commands_need_no_write_permission(rig):
    rig.agent({"login": "1/h"}).stop()
    os.chmod(rig.segment, stat.S_IRUSR)
    if os.geteuid() == 0:  # root may write anyway: show that the map is read-only
        argv = ("strace", "-f", "-e", "trace=openat,mmap", RLCTL, "--segment", rig.segment, "status")
        try:
            _, _, err = rig.run(*argv)
            contains(err, f'openat(AT_FDCWD, "{rig.segment}", O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC)')
            assert "O_RDWR" not in err, err
        except FileNotFoundError:
            pass  # no strace here
    for argv in (("status",), ("rules",), ("get", "login", "bob")):
        assert rig.rlctl(*argv)[0] in (0, 1), argv


def test_rlctl__rules_are_shown_and_checked(rig):
    rig.agent({"login": "5/10s", "api": "100/minute"})
    equal(rig.rlctl("rules"), (0, "login                    5/10s        local\n"
                                  "api                      100/m        local\n", ""))
    code, out, _ = rig.rlctl("rules", "show", "--json")
    equal(json.loads(out), [{"name": "login", "limit": "5/10s", "consistency": "local",
                             "algorithm": "sliding"},
                            {"name": "api", "limit": "100/m", "consistency": "local",
                             "algorithm": "sliding"}])
    good = rig.write("good.yaml", "rules: []\n")
    equal(rig.rlctl("rules", "check", good), (0, f"{good}: fine, 0 rules\n", ""))
    bad = rig.write("bad.yaml", "rulez: []\n")
    code, _, err = rig.rlctl("rules", "check", bad)
    equal(code, 1)
    contains(err, f"{bad}:1:1: unknown key 'rulez' (did you mean 'rules'?)")


SHARED = {
    "strict": {"limit": "10/10s", "consistency": "strict", "wait": "500ms"},
    "share": {"limit": "99/10s", "no_credit": "deny"},
    "open": {"limit": "5/10s", "on_unreachable": "open", "beta": "0%"},
    "own": {"limit": "7/10s", "on_unreachable": "local"},
    "alone": {"limit": "9/10s", "consistency": "local"},
    "late": {"limit": "8/10s", "consistency": "eventual"},
}


def fleet_of_two(rig):
    """A Redis and two hosts, a and b, that know of each other."""
    redis = rig.redis()
    a, b = rig.host("a"), rig.host("b")
    agents = a.agent(SHARED), b.agent(SHARED)
    for host in (a, b):
        host.wait_state("fresh")
        wait_for("both hosts", lambda h=host: h.status()["fleet"]["live_hosts"] == 2)
    return redis, a, b, agents


def lines_of(rig):
    code, out, err = rig.rlctl("status")
    equal(err, "")
    return code, out.splitlines()


def rules_of(lines):
    return [line.split(None, 1)[1] for line in lines if line.startswith("  ") and "/10s" in line]


def test_rlctl__status_tells_of_the_fleet(rig):
    _, a, b, _ = fleet_of_two(rig)
    for host in (a, b):
        equal(host.rlctl("check", "strict", "k")[0], 0)
    wait_for("the sync", lambda: a.status()["sync"]["calls"] > 0)
    code, lines = lines_of(a)
    equal((code, lines[1]), (0, "state    fresh"))
    assert re.fullmatch(r"redis    up for .*, round trip [0-9.]+ ms", lines[2]), lines[2]
    assert re.fullmatch(r"store    redis [0-9.]+, unix:.*", lines[3]), lines[3]
    equal(lines[4], "fleet    default, this host is a, 2 live hosts")
    assert re.fullmatch(r"sync     calls \d+ \(sent again \d+\), keys \d+; credit granted [1-9]\d*, "
                        r"returned unspent \d+; units dropped 0; clashes 0", lines[5]), lines[5]
    equal(rules_of(lines), [
        "10/10s  strict: at most 10 of all hosts (on_unreachable closed)",
        "99/10s  bounded: at most 107 of all hosts (on_unreachable share)",
        "5/10s  bounded: at most 9 of all hosts (on_unreachable open)",
        "7/10s  bounded: at most 11 of all hosts (on_unreachable local)",
        "9/10s  local: at most 9 on this host",
        "8/10s  eventual: 8 and what other hosts admit in two syncs, at most 16 of all hosts "
        "(on_unreachable share)"])


def test_rlctl__status_of_a_fleet_as_json_has_its_fields(rig):
    _, a, _, _ = fleet_of_two(rig)
    status = a.status()
    equal(sorted(status["redis"]), ["nodes", "oldest_unanswered_s", "round_trip_s", "since_s",
                                     "store", "up"])
    equal(status["redis"]["nodes"], [{"where": a.redis_url, "up": True,
                                      "partitions": list(range(16))}])
    equal(status["redis"]["up"], True)
    equal(status["fleet"], {"name": "default", "host": "a", "live_hosts": 2, "duplicate": None})
    equal(sorted(status["sync"]), ["calls", "clashes", "dropped", "granted", "keys", "returned",
                                   "sent_again", "slowed_all", "slowed_far"])
    for name in ("slots", "audit", "promise"):  # test_watch.py
        del status["rules"][1][name]
    equal(status["rules"][1], {
        "name": "share", "limit": 99, "window_s": 10.0, "consistency": "bounded",
        "algorithm": "sliding",
        "on_unreachable": "share", "no_credit": "deny", "beta": 0.1, "wait_s": 0.002,
        "bound": 107, "in_force": "bounded: at most 107 of all hosts",
        "bound_in_force": {"units": 107, "of": "fleet"},
        "counts": {name: 0 for name in COUNTS}})


def test_rlctl__without_redis_status_says_what_each_rule_goes_by(rig):
    redis, a, b, _ = fleet_of_two(rig)
    redis.signal(signal.SIGKILL)
    redis.wait()
    for host in (a, b):
        host.wait_state("stale")
    code, lines = lines_of(a)
    equal((code, lines[1]), (1, "state    stale"))
    assert re.fullmatch(r"redis    down for .*, oldest call unanswered for \d.*s", lines[2]), lines[2]
    equal(rules_of(lines), [
        "10/10s  closed: leftover credit, then nothing "
        "(when fresh strict: at most 10 of all hosts)",
        "99/10s  share: this host admits 49 of 99 "
        "(when fresh bounded: at most 107 of all hosts)",
        "5/10s  open: no limit (when fresh bounded: at most 9 of all hosts)",
        "7/10s  local: 7 on this host (when fresh bounded: at most 11 of all hosts)",
        "9/10s  local: at most 9 on this host",
        "8/10s  share: this host admits 4 of 8 (when fresh eventual: 8 and what other hosts admit "
        "in two syncs, at most 16 of all hosts)"])
    equal(a.status()["rules"][0]["in_force"], "closed: leftover credit, then nothing")
    rig.redis()
    for host in (a, b):
        host.wait_state("fresh", 1.2)  # also partitions that have nothing to say
        equal(lines_of(host)[0], 0)


def test_rlctl__redis_that_hangs_is_a_finding(rig):
    redis, a, _, _ = fleet_of_two(rig)
    redis.signal(signal.SIGSTOP)
    a.wait_state("stale")
    code, lines = lines_of(a)
    redis.signal(signal.SIGCONT)
    equal(code, 1)
    contains(lines[2], "oldest call unanswered for ")


def test_rlctl__dead_agent_of_a_fleet_is_alone(rig):
    _, a, b, agents = fleet_of_two(rig)
    agents[0].signal(signal.SIGKILL)
    agents[0].wait()
    a.wait_state("alone")
    code, lines = lines_of(a)
    equal((code, lines[1]), (1, "state    alone"))
    contains(lines[0], "agent    dead: ")
    contains(rules_of(lines)[0], "closed: leftover credit, then nothing")
    equal(lines_of(b)[1][1], "state    fresh")
    a.agent_again()
    a.wait_state("fresh")


def test_rlctl__two_hosts_of_one_id_are_named_on_both(rig):
    _, a, _, (agent, _) = fleet_of_two(rig)
    twin = rig.host("c")
    twin.name = "a"
    second = twin.agent(SHARED)
    for host, pid, other, other_pid in ((a, agent.pid, twin, second.pid),
                                        (twin, second.pid, a, agent.pid)):
        found = wait_for("the finding", lambda h=host: h.status()["fleet"]["duplicate"])
        contains(found["other"], f"pid {other_pid} segment {other.segment}")
        code, lines = lines_of(host)
        equal((code, lines[6]), (1, "WARNING  two hosts use the host id 'a': give each its own "
                                    "'host'"))
        contains(lines[7], f"pid {other_pid} segment {other.segment} (")
        contains(lines[8], f"pid {pid} segment {host.segment}")


def test_rlctl__text_of_a_segment_is_printed_harmlessly(rig):
    _, a, _, _ = fleet_of_two(rig)
    at = 73728 + 128  # rl_fleet.host and .fleet
    with open(a.segment, "r+b") as f:
        f.seek(at)
        f.write(b"\x1b[2Jxy\xff\n" * 8 + b"\x1b" * 64)
    code, out, _ = a.rlctl("status")
    equal(code, 0)
    contains(out, "?[2Jxy??")
    assert "\x1b" not in out
    equal(a.status()["fleet"]["name"], "?" * 63)


def test_rlctl__answers_of_a_shared_rule_tell_of_credit(rig):
    redis, a, _, _ = fleet_of_two(rig)
    code, out, _ = a.rlctl("check", "strict", "k")
    equal(code, 0)
    assert re.fullmatch(r"allowed: \d of 10 at hand on this host under strict \(10/10s\), state "
                        r"fresh\n", out), out
    equal(json.loads(a.rlctl("--json", "check", "strict", "k")[1])["decided_by"], "credit")
    contains(a.rlctl("get", "strict", "never-seen")[1], "allowed: 0 of 10 at hand on this host")
    contains(a.rlctl("check", "alone", "k")[1], "allowed: 8 of 9 remaining under alone")
    for _ in range(10):
        a.rlctl("check", "strict", "k")
    code, out, _ = a.rlctl("check", "strict", "k")
    equal(code, 1)
    contains(out, "limited: 0 of 10 at hand on this host under strict (10/10s), try again in ")
    redis.signal(signal.SIGKILL)
    for rule in ("strict", "open"):  # each partition when its own call has no answer
        wait_for("stale", lambda: json.loads(a.rlctl("--json", "get", rule, "k")[1])["state"] ==
                 "stale")
    code, out, _ = a.rlctl("check", "strict", "k")
    equal((code, out), (1, "limited: by on_unreachable under strict (10/10s), try again in 1 s, "
                           "state stale\n"))
    answer = json.loads(a.rlctl("--json", "get", "strict", "k")[1])
    equal((answer["state"], answer["decided_by"]), ("stale", "policy"))
    contains(a.rlctl("check", "open", "k")[1], "allowed: by on_unreachable under open (5/10s), ")


def test_rlctl__rules_show_how_they_are_shared(rig):
    _, a, b, _ = fleet_of_two(rig)
    equal(a.rlctl("rules")[1].splitlines(), [
        "strict                   10/10s       strict, wait 500 ms, on_unreachable closed",
        "share                    99/10s       bounded, beta 10 %, no_credit deny, wait 2 ms, "
        "on_unreachable share",
        "open                     5/10s        bounded, beta 0 %, no_credit allow, wait 2 ms, "
        "on_unreachable open",
        "own                      7/10s        bounded, beta 10 %, no_credit allow, wait 2 ms, "
        "on_unreachable local",
        "alone                    9/10s        local",
        "late                     8/10s        eventual, on_unreachable share"])
    equal(json.loads(a.rlctl("rules", "--json")[1])[5], {
        "name": "late", "limit": "8/10s", "consistency": "eventual", "algorithm": "sliding",
        "on_unreachable": "share"})
    for host in (a, b):
        equal(host.rlctl("check", "late", "k")[0], 0)
        equal(host.rlctl("verify")[0], 0)
    equal(json.loads(a.rlctl("rules", "--json")[1])[0], {
        "name": "strict", "limit": "10/10s", "consistency": "strict", "algorithm": "sliding", "on_unreachable": "closed",
        "no_credit": "deny", "beta": 0.0, "wait_s": 0.5})


def test_rlctl__segment_that_left_its_fleet_tells_of_none(rig):
    _, a, _, (agent, _) = fleet_of_two(rig)
    agent.stop()
    a.redis_url = None
    a.agent({"login": "5/h"})
    status = a.status()
    equal([status["state"], status["redis"], status["fleet"]], ["fresh", None, None])


def run_private(rig, *argv, **kwargs):
    """rlctl run --limit without any segment named: a private one."""
    return rig.run(RLCTL, "run", "--limit", "5/10s", *argv, **kwargs)


def left_of(pid):
    """What a private run has left behind; others may run beside this test."""
    try:
        return [f for f in os.listdir("/dev/shm/rl")
                if re.fullmatch(rf"run-{pid}(\..*)?", f)]
    except FileNotFoundError:
        return []


def pid_in(text):
    return int(re.search(r"/dev/shm/rl/run-(\d+)", text).group(1))


def test_rlctl__run_sets_the_environment_and_passes_the_exit_code(rig):
    code, out, _ = run_private(rig, "--port", "8080", "--", "sh", "-c",
                               "echo $RL_RULE $RL_PORT $RL_SEGMENT; echo $LD_PRELOAD; exit 7",
                               env={"LD_PRELOAD": ""})
    equal(code, 7)
    words = out.split()
    equal(words[:2], ["run", "8080"])
    contains(words[2], "/dev/shm/rl/run-")
    equal(words[3], os.path.realpath(SHIM))
    equal(left_of(pid_in(out)), [])


def test_rlctl__run_keeps_other_preloads_behind_the_shim(rig):
    libc = "libc.so.6"
    _, out, _ = run_private(rig, "--", "sh", "-c", "echo $LD_PRELOAD", env={"LD_PRELOAD": libc})
    equal(out.strip(), f"{os.path.realpath(SHIM)}:{libc}")


def test_rlctl__run_reports_a_command_that_cannot_start(rig):
    code, _, err = run_private(rig, "--", "/nowhere/server")
    equal(code, 127)
    contains(err, "rlctl: cannot run /nowhere/server: No such file or directory")
    equal(left_of(pid_in(err)), [])
    equal(run_private(rig, "--", rig.write("no-exec", ""))[0], 126)


def test_rlctl__run_ends_with_128_plus_the_signal(rig):
    equal(run_private(rig, "--", "sh", "-c", "kill -9 $$")[0], 137)


def test_rlctl__run_forwards_signals_and_cleans_up(rig):
    program = rig.start(RLCTL, "run", "--limit", "5/10s", "--", "sh", "-c",
                        "trap 'echo got-term; exit 3' TERM; echo ready; while :; do sleep 0.05; "
                        "done")
    wait_for("the command", lambda: "ready" in program.output())
    program.signal(signal.SIGTERM)
    equal(program.wait(), 3)
    contains(program.output(), "got-term")
    equal(left_of(program.pid), [])


def test_rlctl__run_ended_while_it_starts_leaves_nothing(rig):
    for delay_ms in range(16):
        program = rig.start(RLCTL, "run", "--limit", "5/s", "--", "sleep", "5")
        time.sleep(delay_ms / 1000)
        program.signal(signal.SIGTERM)
        assert program.wait() in (128 + signal.SIGTERM, -signal.SIGTERM)
        equal((delay_ms, left_of(program.pid)), (delay_ms, []))


def test_rlctl__run_removes_what_a_killed_run_left(rig):
    killed = rig.start(RLCTL, "run", "--limit", "5/s", "--", "sleep", "1")
    wait_for("the run", lambda: "limit 5/s" in killed.output())
    attached = rig.start(RLCTL, "run", "--limit", "5/s", "--", "sleep", "5")
    wait_for("the run", lambda: "limit 5/s" in attached.output())
    for program in (killed, attached):
        program.signal(signal.SIGKILL)
        program.wait()
    segment = f"/dev/shm/rl/run-{attached.pid}"
    with open(segment, "r+b") as f:  # member 1: of a server that lives on
        f.seek(28)
        size, = struct.unpack("<I", f.read(4))
        f.seek(56)
        f.seek(struct.unpack("<Q", f.read(8))[0] + size)
        f.write(struct.pack("<Q", os.getpid()))
    # Nothing of theirs lives but, perhaps, their agents for a moment yet.
    wait_for("the clean-up", lambda: run_private(rig, "--", "true")[0] == 0 and
             not left_of(killed.pid))
    assert os.path.exists(segment)
    for name in left_of(attached.pid):
        os.unlink(f"/dev/shm/rl/{name}")


COUNT_INTERRUPTS = """
import signal, sys, time
count = 0
def on_interrupt(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, on_interrupt)
print("ready", flush=True)
end = time.monotonic() + 10
while count == 0 and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.3)
sys.exit(count)
"""


def in_terminal(argv, send):
    """Exit code of a program in a terminal of its own, which send(pid, fd) may type into."""
    try:
        pid, fd = pty.fork()
    except OSError as error:
        raise Skip(f"no pseudo-terminal here ({error}): mount devpts") from error
    if pid == 0:
        os.execvp(argv[0], argv)
    output = b""
    while b"ready" not in output:
        output += os.read(fd, 4096)
    send(pid, fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(fd)
    return code


def test_rlctl__run_in_a_terminal_passes_an_interrupt_on_once(rig):
    argv = [RLCTL, "run", "--limit", "5/s", "--segment", rig.segment, "--", "python3", "-c",
            COUNT_INTERRUPTS]
    equal(in_terminal(argv, lambda pid, fd: os.write(fd, b"\x03")), 1)  # the terminal did
    equal(in_terminal(argv, lambda pid, fd: os.kill(pid, signal.SIGINT)), 1)  # rlctl did


def test_rlctl__run_stays_with_a_command_that_goes_to_the_background(rig):
    program = rig.start(RLCTL, "run", "--limit", "5/10s", "--", "sh", "-c",
                        "(trap 'echo daemon-term; exit' TERM; echo daemon; "
                        "while :; do sleep 0.05; done) & exit 0")
    wait_for("the daemon", lambda: "daemon" in program.output())
    assert program.running()
    program.signal(signal.SIGTERM)
    equal(program.wait(), 0)
    contains(program.output(), "daemon-term")


def test_rlctl__run_starts_its_agent_again_when_it_dies(rig):
    program = rig.start(RLCTL, "run", "--limit", "5/10s", "--segment", rig.segment, "--", "sh",
                        "-c", "echo up; exec sleep 60")
    wait_for("the command", lambda: "up" in program.output())
    first = rig.status()["agent"]["pid"]
    os.kill(first, signal.SIGKILL)
    second = wait_for("another agent", lambda: rig.status()["agent"]["alive"] and
                      rig.status()["agent"]["pid"] not in (0, first) and
                      rig.status()["agent"]["pid"])
    contains(program.output(), "starting it again")
    program.signal(signal.SIGTERM)
    equal(program.wait(), 128 + signal.SIGTERM)
    wait_for("the agent's end", lambda: not os.path.exists(f"/proc/{second}"))
    assert os.path.exists(rig.segment)  # it was named: it stays


def test_rlctl__run_killed_takes_its_agent_with_it(rig):
    program = rig.start(RLCTL, "run", "--limit", "5/10s", "--segment", rig.segment, "--", "sleep",
                        "1")
    agent = wait_for("the agent", lambda: os.path.exists(rig.segment) and
                     rig.rlctl("status")[0] == 0 and rig.status()["agent"]["pid"])
    program.signal(signal.SIGKILL)
    program.wait()
    wait_for("the agent's end", lambda: not os.path.exists(f"/proc/{agent}"))


def test_rlctl__two_runs_of_one_limit_and_segment_share_it(rig):
    argv = (RLCTL, "run", "--limit", "3/h", "--segment", rig.segment, "--")
    rig.start(*argv, "sleep", "60")
    wait_for("the agent", lambda: os.path.exists(rig.segment) and rig.rlctl("status")[0] == 0)
    code, out, _ = rig.run(*argv, "sh", "-c", "echo $RL_SEGMENT")
    equal((code, out.strip()), (0, rig.segment))
    code, _, err = rig.run(RLCTL, "run", "--limit", "4/h", "--segment", rig.segment, "--", "true")
    equal(code, 2)
    contains(err, "has an agent without this limit")


def test_rlctl__runs_started_together_share_one_agent(rig):
    for _ in range(3):
        programs = [rig.start(RLCTL, "run", "--limit", "3/h", "--segment", rig.segment, "--", "sh",
                              "-c", "echo got $RL_SEGMENT; sleep 0.5") for _ in range(3)]
        for program in programs:
            equal((program.wait(), program.output()), (0, program.output()))
            contains(program.output(), f"got {rig.segment}\n")
        os.unlink(rig.segment)


def test_rlctl__run_on_the_segment_of_a_stopped_agent_does_not_wait_for_ever(rig):
    agent = rig.agent({"run": "3/h"})
    agent.signal(signal.SIGSTOP)
    wait_for("state alone", lambda: rig.status()["state"] == "alone")
    code, _, err = rig.rlctl("run", "--limit", "3/h", "--", "true")
    agent.signal(signal.SIGCONT)
    equal(code, 2)
    contains(err, f"is kept by process {agent.pid}, which has not answered for 5 s")


def test_rlctl__run_does_not_take_over_the_rules_of_a_stopped_agent(rig):
    rig.agent({"login": "5/h"}).stop()
    code, _, err = rig.rlctl("run", "--limit", "4/h", "--", "true")
    equal(code, 2)
    contains(err, "has other rules, and its agent is not running")
    equal(rig.rlctl("rules")[1], "login                    5/h          local\n")


def test_rlctl__run_by_rule_becomes_the_command(rig):
    rig.agent({"login": "5/h"})
    code, out, _ = rig.rlctl("run", "--rule", "login", "--", "sh", "-c", "echo $RL_RULE; exit 4")
    equal((code, out), (4, "login\n"))


def test_rlctl__missing_companions_are_named(rig):
    lonely = rig.path("rlctl")
    with open(RLCTL, "rb") as f, open(lonely, "wb") as g:
        g.write(f.read())
    os.chmod(lonely, 0o755)
    code, _, err = rig.run(lonely, "run", "--limit", "1/s", "--", "true")
    equal(code, 2)
    contains(err, "there is no rl-agent beside rlctl: install it")
    os.symlink(AGENT, rig.path("rl-agent"))
    code, _, err = rig.run(lonely, "run", "--limit", "1/s", "--", "true")
    equal(code, 2)
    contains(err, "there is no librl-preload.so beside rlctl: install it")


if __name__ == "__main__":
    main()
