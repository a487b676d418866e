"""Goal: what is commanded on one host of a fleet is in force on all of them within a second, on one
host alone when that is wanted, and stays in force over agents, cuts and lost stores; a reset key has its
limit again on all hosts and never more than that.
Method: the real programs, three hosts on one machine with a Redis of their own; the checks by librl."""

import json
import os
import random
import signal
import socket
import threading
import time

from fleet import Client, at_least, at_most, during, most
from ordered import DOCUMENTS, RULES, done, fleet, orders, peek, redis_of, refused, spend, spread
from rig import contains, equal, main, wait_for

def test_orders__each_command_is_in_force_on_all_hosts_within_a_second(rig):
    a, b, c = hosts = fleet(rig)
    took = {}
    contains(done(a, "block", "login", "bad", "10m"), "in force on 1 of 3 live hosts, the others "
                                                      "follow within a second")
    took["block"] = spread("the block", hosts, lambda h: peek(h, "login", "bad")[:2] == (1, "block"))
    done(b, "override", "login", "vip", "500/minute", "1h")
    took["override"] = spread("the limit", hosts, lambda h: peek(h, "login", "vip")[2] == 500)
    done(c, "off", "own")
    took["off"] = spread("off", hosts, lambda h: peek(h, "own", "k")[1] == "off")
    done(a, "on", "own")
    took["on"] = spread("on", hosts, lambda h: peek(h, "own", "k")[1] == "window")
    done(c, "unblock", "login", "bad")
    took["unblock"] = spread("no block", hosts, lambda h: peek(h, "login", "bad")[0] == 0)
    done(c, "override", "login", "vip", "off")
    took["its end"] = spread("the rule's limit", hosts, lambda h: peek(h, "login", "vip")[2] == 30)
    for host in hosts:
        for _ in range(3):
            assert host.client.check("own", "k")
    done(b, "reset", "own", "k")
    took["reset"] = spread("the reset", hosts, lambda h: peek(h, "own", "k")[0] == 0)
    print("# ms to three hosts:", {name: round(ms) for name, ms in took.items()})
    contains(a.program.output(), f"event=command do=block rule=login for_s=600 version=1 "
                                 f"uid={os.getuid()} pid=")
    wait_for("the log", lambda: f"event=ordered do=reset rule=own host=b uid={os.getuid()}"
             in c.program.output())
    assert "bad" not in a.program.output() and "bad".encode().hex() not in b.program.output()


def test_orders__list_says_what_stands_who_gave_it_and_until_when(rig):
    a, b = fleet(rig, names="ab")
    done(a, "block", "login", "b\u00e4d", "10m", "--wait")
    done(b, "off", "own", "--local")
    got = [(order["do"], order["rule"], order.get("host"), order["uid"], order["local"])
           for order in orders(b)]
    equal(got, [("off", "own", None, os.getuid(), True), ("block", "login", "a", os.getuid(), False)])
    block = orders(b)[1]
    equal(bytes.fromhex(block["key"]).decode(), "b\u00e4d")
    at_least(block["left_ms"], 590000)
    at_most(block["left_ms"], 600000)
    out = done(b, "orders")
    contains(out, "block     login                     b??d  for 9 m 59 s more  given ")
    contains(out, f"by uid {os.getuid()} on a\n")
    contains(out, f"by uid {os.getuid()}, for this host alone\n")
    status = b.status()["orders"]
    equal((status["count"], status["version"]), (2, 1))
    contains(b.rlctl("status")[1], "orders   2 given, the fleet's of version 1 on ")
    done(b, "on", "own", "--local")
    done(b, "unblock", "login", "b\u00e4d")
    equal(orders(b), [])
    equal(done(b, "orders"), "nothing was ordered\n")


def test_orders__local_ones_are_for_one_host_alone(rig):
    a, b = fleet(rig, names="ab")
    equal(done(a, "block", "login", "k", "10m", "--local"), "blocked under login for 10 m\n")
    done(a, "override", "own", "k", "1/hour", "1h", "--local")
    done(a, "off", "login", "--local")
    done(a, "on", "login", "--local")
    done(b, "block", "own", "other", "1h", "--wait")  # the fleet has been round
    equal(peek(a, "login", "k")[:2], (1, "block"))
    equal(peek(a, "own", "k")[2], 1)
    equal((peek(b, "login", "k")[0], peek(b, "own", "k")[2]), (0, 3))
    contains(refused(a, "reset", "login", "k", "--local"), "hosts share this rule: one of them alone "
                                                           "cannot do that")
    for _ in range(1):
        assert a.client.check("own", "k")
    done(a, "reset", "own", "k", "--local")
    assert a.client.check("own", "k")


def test_orders__stand_over_agents_with_and_without_redis(rig):
    a, b = fleet(rig, names="ab")
    done(a, "block", "login", "bad", "1h")
    done(a, "override", "own", "vip", "77", "1h")
    done(a, "off", "own", "--wait")
    done(b, "block", "own", "here", "1h", "--local")
    rig.started[0].signal(signal.SIGKILL)  # Redis
    rig.started[0].wait()
    for host in (a, b):
        host.program.signal(signal.SIGKILL)
        host.program.wait()
        equal(peek(host, "login", "bad")[:2], (1, "block"))  # without any agent
        host.program = host.agent_again()
        equal(peek(host, "login", "bad")[:2], (1, "block"))
        equal(peek(host, "own", "vip")[1], "off")
    equal([order["do"] for order in orders(b)], ["block", "block", "override", "off"])
    rig.redis()  # as empty as after a crash: the agents give it what they have
    c = rig.host("c")
    c.program = c.agent(RULES)
    wait_for("what the fleet was told", lambda: len(orders(c)) == 3)
    equal(peek(c, "login", "bad")[:2], (1, "block"))
    done(c, "on", "own", "--wait")
    equal(peek(a, "own", "vip"), (0, "window", 77))
    equal(peek(b, "own", "here")[:2], (1, "block"))


def test_orders__that_have_ended_are_over_by_themselves(rig):
    a, b = fleet(rig, names="ab")
    done(a, "block", "own", "k", "2s")
    done(a, "override", "login", "vip", "500/minute", "2s", "--wait")
    equal((peek(b, "own", "k")[1], peek(b, "login", "vip")[2]), ("block", 500))
    b.program.signal(signal.SIGSTOP)  # nobody takes them out
    for host in (a, b):
        wait_for("their end", lambda h=host: peek(h, "own", "k")[0] == 0 and
                 peek(h, "login", "vip")[2] == 30, 4)
    b.program.signal(signal.SIGCONT)
    equal(orders(a), [])
    equal(done(a, "block", "own", "other", "1h", "--wait").splitlines()[1],
          "fleet: version 3, in force on all of 2 live hosts")
    assert b'"k"' not in redis_of(rig)("HGET", DOCUMENTS, "0")


def test_orders__temporary_limit_counts_for_all_hosts_together(rig):
    a, b, c = hosts = fleet(rig)
    done(a, "override", "login", "vip", "100/minute", "1h", "--wait")
    def units(key):
        return sum(host.client.units(key) for host in hosts)

    def press():
        for host in hosts:
            host.client.check("login", "vip")
            host.client.check("login", "other")
        return units("vip") >= 95 and units("other") == 30

    wait_for("the limits", press)
    for _ in during(0.3):
        press()
    admitted = units("vip")
    equal(units("other"), 30)
    at_most(admitted, 100)
    done(b, "override", "login", "vip", "10", "1h", "--wait")
    equal(peek(c, "login", "vip")[2], 10)
    before = admitted
    for _ in during(0.3):
        for host in hosts:
            host.client.check("login", "vip")
    equal(sum(host.client.units("vip") for host in hosts), before)
    code, _, err = a.rlctl("override", "login", "vip", "fast", "1h")
    equal(code, 2)
    contains(err, "COUNT/WINDOW")


def test_orders__reset_gives_the_limit_again_to_the_whole_fleet_and_no_more(rig):
    hosts = fleet(rig)
    equal(spend(hosts, "k"), 30)
    equal(spend(hosts, "k", 0.3), 0)
    began = time.monotonic()
    done(hosts[1], "reset", "login", "k")
    print(f"# reset took {1000 * (time.monotonic() - began):.0f} ms")
    equal(spend(hosts, "k", 2.0), 30)
    at_most(most([host.client for host in hosts], "k", 60), 60)
    contains(done(hosts[2], "reset", "login", "never seen", "--wait"), "in force on all of 3 live hosts")


def test_orders__reset_behind_a_slow_answer_is_of_now(rig):
    hosts = fleet(rig)
    equal(spend(hosts, "full", 0.5), 30)
    for key, most_of_it in (("full", 30), ("half", 15), ("third", 9)):
        while sum(host.client.units(key) for host in hosts) < most_of_it:
            for host in hosts:
                host.client.check("login", key)
            time.sleep(0.001)
        rig.started[0].signal(signal.SIGSTOP)  # Redis, for longer than between two questions
        time.sleep(0.6)
        rig.started[0].signal(signal.SIGCONT)
        for host in hosts:
            host.wait_state("fresh")
        done(hosts[1], "reset", "login", key)
        equal(spend(hosts, key, 1.0), 30)


def test_orders__reset_under_load_does_not_come_back(rig):
    hosts = fleet(rig, {"login": {"limit": "30/10s", "consistency": "strict"}})
    stop = threading.Event()

    def press(host):
        client = Client(host)
        host.pressing = client
        while not stop.is_set():
            client.check("login", "k")
            time.sleep(0.0005)

    threads = [threading.Thread(target=press, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    try:
        wait_for("the limit", lambda: sum(h.pressing.units("k") for h in hosts
                                          if hasattr(h, "pressing")) == 30)
        time.sleep(0.3)
        at = time.monotonic()
        done(hosts[0], "reset", "login", "k")
        wait_for("all of it again", lambda: sum(h.pressing.units("k") for h in hosts) == 60, 5)
        took = time.monotonic() - at
        for _ in during(1.5):  # and what hosts tell from now on takes nothing away or adds to it
            pass
        print(f"# the limit again after {1000 * took:.0f} ms")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    clients = [host.pressing for host in hosts]
    equal(sum(client.units("k") for client in clients), 60)
    at_most(most(clients, "k", 10), 60)


def test_orders__host_that_was_cut_off_forgets_what_was_reset_and_obeys_the_rest(rig):
    a, b = fleet(rig, {"login": {"limit": "40/minute", "on_unreachable": "local"}}, "ab")
    done(a, "block", "login", "gone", "1h", "--wait")
    path = rig.redis_url[len("unix:"):]
    os.rename(path, path + ".away")  # who is connected stays so: cut b's agent off by a restart
    b.program.signal(signal.SIGKILL)
    b.program.wait()
    b.program = b.agent_again()
    contains(refused(b, "block", "login", "x", "1h"), "nothing was done; with --local it is done on "
                                                      "this host alone")
    equal(peek(b, "login", "gone")[:2], (1, "block"))
    b.wait_state("stale")
    passed = sum(b.client.check("login", "k") for _ in range(60))
    at_least(passed, 30)
    done(a, "block", "login", "new", "1h")
    done(a, "unblock", "login", "gone")
    done(a, "reset", "login", "k")
    os.rename(path + ".away", path)
    b.wait_state("fresh")
    wait_for("the block", lambda: peek(b, "login", "new")[:2] == (1, "block"))
    equal(peek(b, "login", "gone")[0], 0)
    wait_for("what was reset", lambda: peek(b, "login", "k")[0] == 0)
    again = spend([a, b], "k", 2.0)
    at_least(again, 40)  # nothing of the outage's is told
    at_most(again, 44)


def test_orders__without_redis_the_fleet_is_not_told_and_nothing_is_half_done(rig):
    a, b = fleet(rig, names="ab")
    rig.started[0].signal(signal.SIGKILL)
    rig.started[0].wait()
    wait_for("Redis to be missed", lambda: not a.status()["redis"]["up"])
    for args in (("block", "login", "k", "1h"), ("off",), ("reset", "login", "k"),
                 ("override", "login", "k", "9/minute", "1h")):
        contains(refused(a, *args), "the fleet cannot be reached, as its Redis cannot: nothing was "
                                    "done; with --local it is done on this host alone")
    equal(orders(a), [])
    done(a, "block", "login", "k", "1h", "--local")
    equal(peek(a, "login", "k")[:2], (1, "block"))
    push = a.write("push.yaml", "rules: []\n")
    contains(refused(a, "rules", "push", push), "nothing was done")
    rig.redis()
    for host in (a, b):
        wait_for("Redis", lambda h=host: h.status()["redis"]["up"])
    done(b, "block", "own", "z", "1h", "--wait")
    equal([order["key"] for order in orders(b)], [b"z".hex()])


def test_orders__redis_that_stops_in_the_middle_is_not_waited_for(rig):
    a, _ = fleet(rig, names="ab")
    rig.started[0].signal(signal.SIGSTOP)
    began = time.monotonic()
    contains(refused(a, "block", "login", "k", "1h"), "the fleet")
    at_most(time.monotonic() - began, 4.9)
    rig.started[0].signal(signal.SIGCONT)
    a.wait_state("fresh")
    done(a, "block", "login", "k", "1h", "--wait")
    equal(len(orders(a)), 1)


def test_orders__two_commands_amid_a_lost_connection_are_both_done(rig):
    a, _ = fleet(rig, names="ab")
    redis = rig.started[0]
    redis.signal(signal.SIGSTOP)
    threads = [threading.Thread(target=done, args=(a, "block", "login", key, "1h")) for key in "xyz"]
    for thread in threads:
        thread.start()
    time.sleep(0.5)  # one is on its way, the others wait for its answer
    redis.signal(signal.SIGKILL)
    redis.wait()
    rig.redis()
    for thread in threads:
        thread.join()
    equal(sorted(order["key"] for order in orders(a)), ["78", "79", "7a"])
    equal([peek(a, "login", key)[1] for key in "xyz"], ["block"] * 3)


def test_orders__what_others_write_there_is_refused_with_a_message(rig):
    a, b = fleet(rig, names="ab")
    done(a, "block", "login", "bad", "1h", "--wait")
    redis = redis_of(rig)
    seed = random.randrange(1 << 32)
    print(f"# SEED={seed}")
    rng = random.Random(seed)
    good = redis("HGET", DOCUMENTS, "0")
    for number in range(300):
        text = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            text[rng.randrange(len(text))] = rng.choice(b'{}[]",:0123456789abcnul\\\0\xff')
        redis("HSET", DOCUMENTS, "t0", b"%016d" % (number + 1), "0", bytes(text),
              "t1", b"%016d" % (number + 1), "1", rng.choice((bytes(text), b"{}", b"", b"[[[[")))
        if number % 60 == 0:
            redis("HSET", DOCUMENTS, "1", json.dumps({"format": 1, "life": "1" * 16, "version": 3,
                                                      "text": "rules: [1]", "sha256": "0" * 64}))
            time.sleep(0.5)
    redis("HSET", DOCUMENTS, "t0", b"x" * 16, "0", b"junk", "t1", b"x" * 16, "1", b"junk")
    for host in (a, b):
        wait_for("the message", lambda h=host: "cannot be read: it is no JSON object"
                 in h.program.output())
        equal(host.program.running(), True)
    contains(refused(a, "block", "login", "k", "1h"), "cannot be read")
    redis("DEL", DOCUMENTS)
    wait_for("what they have", lambda: redis("HGET", DOCUMENTS, "0"))
    redis("DEL", DOCUMENTS)
    redis("SET", DOCUMENTS, "junk")
    contains(wait_for("refusal", lambda: a.rlctl("block", "login", "k", "1h")[2]),
             "something else wrote there; DEL it, and the agents write what they have")
    redis("DEL", DOCUMENTS)
    wait_for("what they have", lambda: redis("HGET", DOCUMENTS, "0"))
    wait_for("a command", lambda: a.rlctl("block", "login", "k", "1h")[0] == 0)
    wait_for("it everywhere", lambda: peek(b, "login", "k")[:2] == (1, "block"))


def test_orders__two_commands_at_once_are_both_done(rig):
    hosts = fleet(rig)

    def give(host):
        for i in range(10):
            done(host, "block", "login", f"{host.name}{i}", "1h")

    threads = [threading.Thread(target=give, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for host in hosts:
        wait_for("all thirty", lambda h=host: len(orders(h)) == 30)
        equal(peek(host, "login", "a9")[:2], (1, "block"))


def test_orders__without_a_fleet_they_are_this_hosts_and_kept(rig):
    agent = rig.agent({"login": "2/hour"})
    client = Client(rig)
    equal(done(rig, "override", "login", "vip", "5", "1h"), "another limit under login: 5 for 1 h\n")
    equal(sum(client.check("login", "vip") for _ in range(9)), 5)
    done(rig, "block", "login", "bad", "1h")
    equal(client.check("login", "bad"), False)
    contains(refused(rig, "rules", "push", rig.write("p.yaml", "rules: []\n")),
             "this agent has no 'redis'")
    agent.signal(signal.SIGKILL)
    agent.wait()
    assert os.stat(rig.segment + ".orders").st_mode & 0o777 == 0o600
    agent = rig.agent_again()
    equal(client.check("login", "bad"), False)
    equal(peek(rig, "login", "vip")[2], 5)
    done(rig, "unblock", "login", "bad")
    done(rig, "override", "login", "vip", "off")
    equal(peek(rig, "login", "vip")[2], 2)
    equal(os.path.exists(rig.segment + ".orders"), False)
    agent.signal(signal.SIGTERM)
    agent.wait()
    with open(rig.segment + ".orders", "w", encoding="utf-8") as junk:
        junk.write("{")
    contains(rig.agent_again().output(), "event=orders_lost")


def test_orders__list_that_is_full_takes_no_more_and_changes_nothing(rig):
    rig.config({"login": "2/hour"})
    rig.write("rl.yaml", f"segment: {{path: {rig.segment}, keys: 1000, lists: 2}}\n"
                         "rules: [{name: login, limit: 2/hour}]\n")
    rig.agent_again()
    for key in ("one", "two"):
        done(rig, "block", "login", key, "1h")
    contains(refused(rig, "block", "login", "three", "1h"), "this host has no room for another order")
    equal([peek(rig, "login", key)[0] for key in ("one", "two", "three")], [1, 1, 0])
    equal(len(orders(rig)), 2)


def command_of(rig, count, **command):
    """Answers of the agent's own socket to as many commands, each with another key of 1 KiB."""
    with socket.socket(socket.AF_UNIX) as ctl:
        ctl.connect(rig.segment + ".ctl")
        lines = ctl.makefile("rw")
        for i in range(count):
            key = (b"%04d" % i).ljust(1024, b"k").hex()
            lines.write(json.dumps(dict(command, key=key)) + "\n")
            lines.flush()
            yield json.loads(lines.readline())


def test_orders__what_cannot_be_kept_is_not_done(rig):
    rig.agent({"login": "2/hour"})
    given = 0
    for answer in command_of(rig, 400, do="block", rule="login", for_s=3600):
        if not answer["ok"]:
            break
        given += 1
    contains(answer["error"], "own standing orders would be longer than 512 KiB: take some back first")
    at_least(given, 200)
    equal(len(orders(rig)), given)  # an answer of 600 KB
    rig.started[-1].signal(signal.SIGKILL)
    rig.started[-1].wait()
    rig.agent_again()
    equal(len(orders(rig)), given)


def test_orders__file_that_others_may_write_is_not_gone_by(rig):
    agent = rig.agent({"login": "2/hour"})
    done(rig, "off", "login")
    path = rig.segment + ".orders"
    for spoil, why in ((lambda: os.chmod(path, 0o666), "others may write it: chmod go-w it"),
                       (lambda: (os.unlink(path), os.mkfifo(path, 0o600)), "not a regular file"),
                       (lambda: (os.unlink(path), os.symlink("/dev/zero", path)), "symbolic")):
        agent.signal(signal.SIGKILL)
        agent.wait()
        spoil()
        agent = rig.agent_again()
        contains(agent.output(), f"event=orders_lost file={path} msg=\"")
        contains(agent.output(), why)


def test_orders__options_that_do_not_go_together_are_explained(rig):
    rig.agent({"login": "2/hour"})
    for args, what in ((("status", "--local"), "--local and --wait go with off, on, reset"),
                       (("check", "login", "k", "--wait"), "--local and --wait go with off"),
                       (("rules", "--clear"), "do not go with this"),
                       (("rules", "push", "x", "--clear"), "needs one of FILE"),
                       (("override", "login", "k", "5/s"), "needs RULE, KEY, LIMIT and TIME"),
                       (("override", "login", "k", "5/s", "0"), "'override RULE KEY off' ends one"),
                       (("override", "login", "k", "0/s", "1h"), "the agent did not do it"),
                       (("orders", "x"), "orders takes no argument")):
        contains(refused(rig, *args), what)


if __name__ == "__main__":
    main()
