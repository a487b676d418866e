"""Goal: rlctl off, on, reset, block and unblock do through the agent what they say, and only for
those who may; nothing that is sent to the control socket hurts the agent.
Method: the real programs; the socket's other end in the test."""

import json
import os
import random
import signal
import socket
import subprocess

from rig import AGENT, RLCTL, Skip, contains, equal, main, wait_for


def ctl(rig, *args):
    return rig.run(RLCTL, "--segment", rig.segment, *args)


def check(rig, rule, key):
    return ctl(rig, "check", rule, key)[0]


def ask(rig, line):
    """One line to the agent, its answer; None when it hangs up."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(rig.segment + ".ctl")
        try:  # it may hang up before it has all of it
            peer.sendall(line + b"\n")
            got = peer.makefile().readline()
        except (BrokenPipeError, ConnectionResetError):
            return None
        return json.loads(got) if got else None


def test_control__off_lets_everything_pass_until_on(rig):
    agent = rig.agent({"login": "1/hour", "api": "1/hour"})
    equal([check(rig, "login", "k") for _ in range(2)], [0, 1])
    code, out, err = ctl(rig, "off", "login")
    equal((code, out, err), (0, "off login: everything passes and nothing is counted until it is "
                                "switched on\n", ""))
    equal([check(rig, "login", "k") for _ in range(3)], [0, 0, 0])
    contains(ctl(rig, "check", "login", "k")[1], "the rule is switched off")
    contains(ctl(rig, "status")[1], "SWITCHED OFF: everything passes")
    contains(ctl(rig, "rules")[1], "SWITCHED OFF")
    equal([check(rig, "api", "k") for _ in range(2)], [0, 1])
    equal(ctl(rig, "on", "login")[:2], (0, "on login\n"))
    equal(check(rig, "login", "k"), 1)
    contains(agent.output(), "event=command do=off rule=login uid=0 pid=" if os.getuid() == 0
             else "event=command do=off rule=login uid=")


def test_control__switch_outlives_reload_and_agent_and_off_of_all_is_another_one(rig):
    agent = rig.agent({"login": "1/hour"})
    equal(ctl(rig, "off")[0], 0)
    equal(ctl(rig, "off", "login")[0], 0)
    equal([check(rig, "login", "k") for _ in range(2)], [0, 0])
    rig.config({"login": "1/hour", "later": "1/hour"})
    agent.signal(signal.SIGHUP)
    wait_for("the reload", lambda: len(rig.status()["rules"]) == 2)
    equal([check(rig, "later", "k") for _ in range(2)], [0, 0])
    agent.signal(signal.SIGKILL)
    agent.wait()
    rig.agent({"login": "1/hour", "later": "1/hour"})
    equal([check(rig, "later", "k") for _ in range(2)], [0, 0])
    equal(ctl(rig, "on")[0], 0)
    equal([check(rig, "later", "k") for _ in range(2)], [0, 1])
    equal([check(rig, "login", "k") for _ in range(2)], [0, 0])
    equal(ctl(rig, "on", "login")[0], 0)
    equal([check(rig, "login", "k") for _ in range(2)], [0, 1])


def test_control__reset_and_block_and_unblock(rig):
    rig.agent({"login": "2/hour"})
    key = "caf\u00e9 \u00fc/1"
    equal([check(rig, "login", key) for _ in range(3)], [0, 0, 1])
    equal(ctl(rig, "reset", "login", key),
          (0, "reset: the key has its whole limit under login\n", ""))
    equal([check(rig, "login", key) for _ in range(3)], [0, 0, 1])
    equal(ctl(rig, "reset", "login", key)[0], 0)
    equal(ctl(rig, "block", "login", key, "90s")[:2], (0, "blocked under login for 1 m 30 s\n"))
    code, out, _ = ctl(rig, "get", "login", key)
    equal(code, 1)
    contains(out, "limited: blocked under login")
    equal(json.loads(ctl(rig, "--json", "check", "login", key)[1])["decided_by"], "block")
    equal(ctl(rig, "unblock", "login", key)[:2], (0, "unblocked under login\n"))
    equal(check(rig, "login", key), 0)
    equal(ctl(rig, "--json", "reset", "login", "never seen"), (0, '{"ok": true}\n', ""))


def test_control__wrong_words_are_explained(rig):
    rig.agent({"login": "2/hour"})
    code, _, err = ctl(rig, "off", "logn")
    equal(code, 2)
    contains(err, "login")
    for args, want in ((("off", "a", "b"), "off takes one RULE, or none for all of them"),
                       (("reset", "login"), "reset needs RULE and KEY, e.g. rlctl reset login"),
                       (("block", "login", "k"), "block needs RULE, KEY and TIME"),
                       (("block", "login", "k", "soon"), "bad time 'soon'"),
                       (("block", "login", "k", "0"), "rlctl unblock ends a block"),
                       (("reset", "login", "x" * 1025), "a key is 1 .. 1024 bytes long"),
                       (("reset", "nope", "k"), "nope")):
        code, out, err = ctl(rig, *args)
        equal((code, out), (2, ""))
        contains(err, want)


def test_control__without_an_agent_says_so(rig):
    agent = rig.agent({"login": "2/hour"})
    agent.signal(signal.SIGTERM)
    agent.wait()
    assert not os.path.exists(rig.segment + ".ctl")
    code, _, err = ctl(rig, "off")
    equal((code, err), (2, f"rlctl: no agent listens at {rig.segment}.ctl: is rl-agent running for "
                           "this segment?\n"))
    agent = rig.agent({"login": "2/hour"})
    agent.signal(signal.SIGKILL)
    agent.wait()
    contains(ctl(rig, "off")[2], "is rl-agent running for this segment?")
    rig.agent({"login": "2/hour"})  # takes the name that the killed one left
    equal(ctl(rig, "off")[0], 0)


def test_control__stopped_agent_is_not_waited_for_without_end(rig):
    agent = rig.agent({"login": "2/hour"})
    agent.signal(signal.SIGSTOP)
    code, _, err = ctl(rig, "off")
    agent.signal(signal.SIGCONT)
    equal(code, 2)
    contains(err, "did not answer in 5 s")


def test_control__who_may_not_write_the_segment_may_not_command(rig):
    if os.getuid() != 0:
        raise Skip("needs root, to be somebody else")
    rig.agent({"login": "1/hour"})
    equal(os.stat(rig.segment + ".ctl").st_mode & 0o777, os.stat(rig.segment).st_mode & 0o666)
    os.chmod(os.path.dirname(rig.segment), 0o755)
    done = subprocess.run([RLCTL, "--segment", rig.segment, "off"], user=65534, group=65534,
                          extra_groups=[], capture_output=True, text=True, check=False)
    equal(done.returncode, 2)
    contains(done.stderr, "Permission denied")
    equal([check(rig, "login", "k") for _ in range(2)], [0, 1])


def test_control__whatever_is_sent_the_agent_answers_or_hangs_up(rig):
    agent = rig.agent({"login": "1/hour"})
    for line in (b"", b"{", b"[]", b"7", b"{}", b'{"do": 1}', b'{"do": "dance"}', b"\xff\xfe",
                 b'{"do": "off", "rule": 7}', b'{"do": "reset", "rule": "login"}',
                 b'{"do": "reset", "rule": "login", "key": ""}',
                 b'{"do": "reset", "rule": "login", "key": "abc"}',
                 b'{"do": "reset", "rule": "login", "key": "zz"}',
                 b'{"do": "reset", "rule": "login", "key": "' + b"61" * 1025 + b'"}',
                 b'{"do": "block", "rule": "login", "key": "61"}',
                 b'{"do": "block", "rule": "login", "key": "61", "for_s": -1}',
                 b'{"do": "block", "rule": "login", "key": "61", "for_s": 9999999999}',
                 b'{"do": "off", "rule": "log\\nin"}', b'{"do": "off", "do": "on"}',
                 b'{"do": "off", "rules": "login"}'):
        answer = ask(rig, line)
        assert answer is not None and answer["ok"] is False, (line, answer)
    equal(ask(rig, b"x" * 700000), None)
    equal(ask(rig, b'{"do": "reset", "rule": "login", "key": "' + b"61" * 1024 + b'"}'),
          {"ok": True})
    seed = random.randrange(1 << 32)
    print(f"# SEED={seed}")
    rng = random.Random(seed)
    for _ in range(300):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(rig.segment + ".ctl")
            try:
                peer.sendall(rng.randbytes(rng.randrange(6000)) + b"\n" * rng.randrange(3))
            except (BrokenPipeError, ConnectionResetError):
                pass
    equal(agent.running(), True)
    wait_for("an answer", lambda: ask(rig, b'{"do": "off"}') == {"ok": True})


def test_control__many_callers_are_turned_away_and_idle_ones_hung_up_on(rig):
    rig.agent({"login": "1/hour"})
    idle = []
    for _ in range(40):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(20)
        peer.connect(rig.segment + ".ctl")
        idle.append(peer)
    equal(check(rig, "login", "k"), 0)
    code, _, err = ctl(rig, "off")
    equal(code, 2)
    contains(err, "hung up: it has ended, or too many others command it")
    for peer in idle:
        equal(peer.recv(1), b"")
        peer.close()
    wait_for("an answer", lambda: ask(rig, b'{"do": "off"}') == {"ok": True})


def test_control__answers_that_nobody_reads_are_not_kept(rig):
    agent = rig.agent({"login": "1/hour"})
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(rig.segment + ".ctl")
        peer.settimeout(30)
        sent, hung_up = 0, False
        try:
            while sent < 4 << 20:
                sent += peer.send(b"\n" * 4096)
        except (BrokenPipeError, ConnectionResetError):
            hung_up = True
    equal(hung_up, True)
    print(f"# {sent} bytes taken")
    equal(agent.running(), True)
    equal(ask(rig, b'{"do": "off"}'), {"ok": True})
    with socket.socket(socket.AF_UNIX) as peer:  # one that does read gets them all
        peer.connect(rig.segment + ".ctl")
        answers = peer.makefile()
        for _ in range(20):
            peer.sendall(b'{"do": "on"}\n' * 200)
            for _ in range(200):
                equal(answers.readline(), '{"ok":true}\n')


def test_control__agent_that_was_replaced_leaves_the_next_ones_socket(rig):
    agent = rig.agent({"login": "1/hour"})
    for name in ("", ".lock"):
        os.unlink(rig.segment + name)
    rig.agent({"login": "1/hour"})
    equal(agent.wait(), 2)
    equal(ctl(rig, "off")[0], 0)


def test_control__group_that_cannot_be_given_is_not_replaced_by_the_agents(rig):
    if os.getuid() != 0:
        raise Skip("needs root, to be somebody else")
    agent = rig.agent({"login": "1/hour"})
    agent.signal(signal.SIGTERM)
    agent.wait()
    for folder in (rig.dir, os.path.dirname(rig.segment)):
        for path in [folder] + [os.path.join(folder, name) for name in os.listdir(folder)]:
            os.chown(path, 65534, 12345)  # a group that it is no member of
    with open(rig.path("nobody.log"), "wb") as log, subprocess.Popen(
            [AGENT, "--config", agent.argv[-1]], user=65534, group=65534, extra_groups=[],
            stdout=log, stderr=log) as nobody:
        try:
            wait_for("its socket", lambda: os.path.exists(rig.segment + ".ctl") and
                     ask(rig, b'{"do": "on"}') == {"ok": True})
            equal(os.stat(rig.segment).st_gid, 12345)
            equal(os.stat(rig.segment + ".ctl").st_mode & 0o777, 0o600)
        finally:
            nobody.terminate()


if __name__ == "__main__":
    main()
