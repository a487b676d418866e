"""Goal: a pushed set of rules is in force on all hosts, whole or not at all, over agents that start later or
without Redis; counts stay; one of two pushes at once wins, and who cannot take a set shows it.
Method: the real programs, two hosts or three on one machine with a Redis of their own."""

import signal
import threading

from ordered import DOCUMENTS, RULES, done, fleet, redis_of, refused, spend
from rig import contains, equal, main, wait_for


def pushed(host):
    """(version in force here, version wanted)"""
    rules = host.status()["rules_from"]
    return rules["version"], rules["wanted"]


def names(host):
    return sorted(rule["name"] for rule in host.status()["rules"])


PUSH = """# a whole configuration of one host
redis: redis://user:secret@example.com
rules:
  - name: login
    limit: 30/minute
    consistency: strict
  - {name: later, limit: 7/hour}
host: x
"""


def test_push__pushed_rules_are_taken_by_all_hosts_and_keep_their_counts(rig):
    a, b = fleet(rig, names="ab")
    equal(spend([a, b], "k"), 30)
    out = done(a, "rules", "push", a.write("push.yaml", PUSH), "--wait")
    contains(out, "fleet: version 1, in force on all of 2 live hosts\nnote: only 'rules' was pushed")
    for host in (a, b):
        equal((names(host), pushed(host)), (["later", "login"], (1, 1)))
    equal(spend([a, b], "k", 0.3), 0)
    out = done(b, "rules", "show", "--pushed")
    contains(out, "# version 1, pushed ")
    contains(out, "\nrules:\n  - name: login\n    limit: 30/minute\n")
    assert "secret" not in out and "secret".encode() not in redis_of(rig)("HGET", DOCUMENTS, "1")
    contains(b.rlctl("rules")[1], "these are pushed version 1 (version 1 on ")
    contains(b.rlctl("status")[1], ", pushed version 1 (version 1 on ")
    b.config({"own": "9/hour"})  # a file that changes meanwhile waits
    b.program.signal(signal.SIGHUP)
    wait_for("the warning", lambda: "the pushed set of rules stays in force" in b.program.output())
    equal(names(b), ["later", "login"])
    b.program.signal(signal.SIGKILL)
    b.program.wait()
    b.program = b.agent_again()
    equal((names(b), pushed(b)), (["later", "login"], (1, 1)))
    c = rig.host("c")
    c.program = c.agent(RULES)
    wait_for("the pushed rules", lambda: pushed(c) == (1, 1) and names(c) == ["later", "login"])
    contains(done(a, "rules", "push", "--clear", "--wait"), "every host goes by its own file again")
    equal((names(a), names(b)), (["login", "own"], ["own"]))
    contains(done(a, "rules", "show", "--pushed"), "no set of rules is pushed")


def test_push__pushed_rules_that_are_wrong_are_refused_with_their_lines(rig):
    a, b = fleet(rig, names="ab")
    bad = a.write("bad.yaml", "rules:\n  - {name: login, limt: 3/hour}\n  - {name: x, limit: 0/s}\n")
    err = refused(a, "rules", "push", bad)
    contains(err, f"{bad}:2:19: unknown key 'limt' (did you mean 'limit'?)\n")
    contains(err, f"{bad}:3:22: bad limit '0/s'")
    contains(refused(a, "rules", "push", a.path("none.yaml")), "cannot read")
    contains(refused(a, "rules", "push"), "rules push needs one of FILE, --clear and --rollback")
    contains(refused(a, "rules", "push", "--rollback"), "no set of rules was pushed before this one")
    equal((pushed(a), pushed(b)), ((0, 0), (0, 0)))


def test_push__host_that_cannot_take_pushed_rules_keeps_its_own_and_shows_it(rig):
    a, = fleet(rig, {"own": "3/hour"}, "a")
    b = rig.host("b")  # with little room
    b.write("rl.yaml", f"segment: {{path: {b.segment}, keys: 1000, lists: 1}}\n"
                       f"redis: {rig.redis_url}\nhost: b\nrules: [{{name: own, limit: 3/hour}}]\n")
    b.program = b.agent_again()
    big = a.write("big.yaml", "rules: [{name: r, limit: 9/hour, deny: [x, y, z]}]\n")
    wait_for("each other", lambda: a.status()["fleet"]["live_hosts"] == 2)
    code, out, _ = a.rlctl("rules", "push", big, "--wait")
    equal(code, 1)
    contains(out, "in force on 1 of 2 live hosts; the others were waited for in vain")
    equal((names(a), pushed(a)), (["r"], (1, 1)))
    equal((names(b), pushed(b)), (["own"], (0, 1)))
    code, out, _ = b.rlctl("status")
    equal(code, 1)
    contains(out, "the file's, NOT version 1, which this host has not taken: its agent's log says why")
    contains(b.program.output(), "event=push_refused version=1")
    small = a.write("small.yaml", "rules: [{name: r, limit: 9/hour, deny: [x]}]\n")
    contains(done(b, "rules", "push", "--clear", "--wait"), "all of 2 live hosts")
    done(a, "rules", "push", small, "--wait")
    equal((names(b), pushed(b)), (["r"], (3, 3)))


def test_push__of_two_pushes_at_once_one_wins_and_the_other_is_told(rig):
    a, b = fleet(rig, names="ab")
    files = [h.write("p.yaml", f"rules: [{{name: {h.name}, limit: 1/hour}}]\n") for h in (a, b)]
    for round_ in range(4):
        got = [None, None]

        def push(i, host=None, results=got):
            results[i] = (a, b)[i].rlctl("rules", "push", files[i])

        threads = [threading.Thread(target=push, args=(i,)) for i in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = sorted(result[0] for result in got)
        if codes == [0, 2]:
            break
        equal(codes, [0, 0])  # one after the other
        wait_for("both to know", lambda: pushed(a) == pushed(b) == (2 * round_ + 2,) * 2)
    loser = got[0] if got[0][0] == 2 else got[1]
    contains(loser[2], "was pushed meanwhile on host ")
    wait_for("one set", lambda: names(a) == names(b))


def test_push__rollback_brings_the_set_before_back(rig):
    a, b = fleet(rig, names="ab")
    for name in ("one", "two"):
        done(a, "rules", "push", a.write("p.yaml", f"rules: [{{name: {name}, limit: 1/hour}}]\n"),
             "--wait")
    equal(names(b), ["two"])
    done(b, "rules", "push", "--rollback", "--wait")
    equal((names(a), pushed(a)), (["one"], (3, 3)))
    done(b, "rules", "push", "--rollback", "--wait")
    equal(names(a), ["two"])


if __name__ == "__main__":
    main()
