"""Goal: what is published of the promise is so: untold units, staleness, credit, the bound in force, the
store's clock; and the audit finds no excess where there is none, and the excess where there is one.
Method: real agents, a real redis-server that is stopped and goes on (or fake_redis.py, for a clock that
is wrong); checks by librl, whose admits are counted here as well."""

import re
import signal
import time

import fake_redis
from fleet import MAY_WAIT, Client, at_least, at_most, during, hosts_of, most
from rig import contains, equal, main, wait_for


def rule_of(host, name="s"):
    return next(rule for rule in host.status()["rules"] if rule["name"] == name)


def flood(clients, seconds, rules="s", key="k", flags=0):
    for _ in during(seconds):
        for client in clients:
            for rule in rules:
                for _ in range(5):
                    client.check(rule, key, 1, flags)


def test_watch__untold_and_stale_grow_while_redis_is_stopped(rig):
    redis = rig.redis()
    a, _ = hosts_of(rig, {"s": {"limit": "300/2s", "beta": "10%", "no_credit": "deny",
                                "on_unreachable": "local"}}, redis=False)
    client = Client(a)
    flood([client], 0.5)
    wait_for("all to be told", lambda: rule_of(a)["promise"]["untold"] == 0)
    equal(rule_of(a)["bound_in_force"], {"units": 330, "of": "fleet"})
    redis.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    a.wait_state("stale")
    client.forget()
    flood([client], 1.5)
    admitted = client.units("k")
    at_least(admitted, 20)
    # What was under way when Redis stopped is not known there either.
    wait_for("untold", lambda: admitted <= rule_of(a)["promise"]["untold"] <= admitted + 60)
    rule = rule_of(a)
    equal(rule["bound_in_force"], {"units": 300, "of": "host"})
    equal(rule["in_force"], "local: 300 on this host")
    elapsed = time.monotonic() - stopped
    at_least(rule["promise"]["stale_s"], elapsed - 0.5)
    at_most(rule["promise"]["stale_s"], elapsed + 0.5)
    at_least(rule["promise"]["untold_for_s"], 1.4)
    at_most(rule["promise"]["untold_for_s"], elapsed + 0.5)
    parts = a.status()["partitions"]
    equal(len(parts), 16)
    assert all(part["state"] == "stale" and part["unanswered_s"] > 1 for part in parts), parts
    assert all(elapsed - 3.5 < part["last_answer_age_s"] for part in parts), parts
    redis.signal(signal.SIGCONT)
    a.wait_state("fresh")
    wait_for("all to be told", lambda: rule_of(a)["promise"]["untold"] == 0)
    equal(rule_of(a)["bound_in_force"], {"units": 330, "of": "fleet"})


def test_watch__credit_is_held_under_load_and_given_back(rig):
    a, _ = hosts_of(rig, {"s": {"limit": "100000/1s", "consistency": "strict"}})
    client = Client(a)
    held = []
    for _ in during(1):
        for _ in range(50):
            client.check("s", "k", 1, MAY_WAIT)
        held.append(rule_of(a)["promise"]["credit"])
    at_least(max(held), 1)
    equal(rule_of(a)["promise"]["active_keys"], 1)
    wait_for("it to be given back", lambda: rule_of(a)["promise"]["credit"] == 0)
    wait_for("rest", lambda: rule_of(a)["promise"]["active_keys"] == 0)


def test_watch__numbers_are_there_without_an_agent(rig):
    redis = rig.redis()
    a, _ = hosts_of(rig, {"s": {"limit": "300/10s", "on_unreachable": "open"}}, redis=False)
    client = Client(a)
    flood([client], 0.2)
    redis.signal(signal.SIGSTOP)
    a.wait_state("stale")
    client.forget()
    flood([client], 0.3)
    a.program.signal(signal.SIGKILL)
    a.program.wait()
    a.wait_state("alone")
    flood([client], 0.3)
    # What came after its death is counted by who looks.
    wait_for("a count", lambda: rule_of(a)["promise"]["untold"] >= client.units("k"), 4)
    rule = rule_of(a)
    at_most(rule["promise"]["untold"], client.units("k") + 60)
    at_least(rule["promise"]["untold_for_s"], 1)
    equal(rule["bound_in_force"], {"units": None, "of": "host"})
    contains(a.rlctl("status")[1], "(counted just now, as no agent does; stale and for:")
    redis.signal(signal.SIGCONT)


def test_watch__status_fits_into_80_columns(rig):
    a, _ = hosts_of(rig, {"a-rule-with-a-rather-long-name": {"limit": "2000000000/365d", "audit": 1},
                          "s": {"limit": "10/1s", "consistency": "strict", "audit": 1}})
    client = Client(a)
    flood([client], 0.3, ["a-rule-with-a-rather-long-name", "s"], flags=MAY_WAIT)
    wait_for("an audit", lambda: rule_of(a)["audit"]["keys"] == 1)
    lines = a.rlctl("status")[1].split("\n")
    tables = lines[next(i for i, line in enumerate(lines) if line.startswith("clock")):]
    assert all(len(line) <= 80 for line in tables), tables
    assert re.match(r"clock    the store's is [0-9.e-]+ ms (ahead of|behind) this host's "
                    r"\(\+- [0-9.]+ ms\)$", tables[0]), tables[0]
    equal(tables[1], "promise  rule                    bound   stale  untold    for  credit  active")
    assert re.match(r"         a-rule-with-a-ra     2G fleet ", tables[2]), tables[2]


def test_watch__strict_fleet_under_a_flood_has_no_excess_over_all_hosts(rig):
    hosts = hosts_of(rig, {"s": {"limit": "200/1s", "consistency": "strict", "audit": 1},
                           "l": {"limit": "50/1s", "consistency": "local", "audit": 1}})
    clients = [Client(host) for host in hosts]
    flood(clients, 3.2, "sl", flags=MAY_WAIT)
    for host, client in zip(hosts, clients):
        wait_for("the notes", lambda h=host, c=client: rule_of(h)["audit"]["admits"] +
                 rule_of(h, "l")["audit"]["admits"] == c.units("k"))
        equal(host.status()["audit"]["missed"], 0)
        for name in "sl":
            audit = rule_of(host, name)["audit"]
            equal((audit["excess"], audit["excess_last_minute"], audit["keys"]), (0, 0, 1))
        equal(rule_of(host, "l")["audit"]["windows"], rule_of(host, "l")["audit"]["admits"])
        equal(rule_of(host, "l")["audit"]["fleet_windows"], 0)
        at_least(rule_of(host)["audit"]["fleet_windows"], 5)
    at_least(sum(client.units("k") for client in clients), 500)


def test_watch__excess_of_an_eventual_fleet_is_measured(rig):
    hosts = hosts_of(rig, {"s": {"limit": "100/1s", "consistency": "eventual", "audit": 1}})
    clients = [Client(host) for host in hosts]
    for client in clients:  # before either is told of the other
        for _ in range(120):
            client.check("s", "k")
    flood(clients, 1)
    truth = most(clients, "k", 1) - 100
    at_least(truth, 60)
    wait_for("the excess", lambda: max(rule_of(host)["audit"]["excess"] for host in hosts)
             >= truth * 9 // 10)
    for host in hosts:
        audit = rule_of(host)["audit"]
        at_most(audit["excess"], 100)
        equal(audit["excess_percent"], float(audit["excess"]))
        equal(audit["excess"], audit["excess_last_minute"])


def test_watch__audit_follows_a_reload(rig):
    rig.agent({"s": {"limit": "5/1s", "audit": 0}})
    client = Client(rig)
    flood([client], 0.1)
    equal(rule_of(rig)["audit"]["one_in"], 0)
    rig.config({"s": {"limit": "5/1s"}})
    rig.write("rl.yaml", "audit: 1\n" + open(rig.path("rl.yaml"), encoding="utf-8").read())
    rig.started[-1].signal(signal.SIGHUP)
    wait_for("the rule", lambda: rule_of(rig)["audit"]["one_in"] == 1)

    def seen():
        client.check("s", "k")
        return rule_of(rig)["audit"]["admits"] > 0
    wait_for("an admit", seen, 4)


def skewed(offset):
    """The store's time is ours and so many seconds, which the test may change."""
    def answers(tags):
        now = int((time.time() + offset[0]) * 1000)
        return fake_redis.Applied(fake_redis.reply([fake_redis.answer(tag, 5) for tag in tags],
                                                   now=now))
    return answers


def test_watch__clock_that_is_wrong_is_measured_and_its_step_noticed(rig):
    offset = [3.0]
    fake_redis.FakeRedis(rig.segment + ".redis", skewed(offset))
    rig.redis_url = f"unix:{rig.segment}.redis"
    agent = rig.agent({"s": "10/1s"})
    rig.wait_state("fresh")
    clock = wait_for("the clock", lambda: rig.status()["clock"])
    assert abs(clock["skew_s"] - 3) <= clock["uncertainty_s"] + 0.001, clock
    at_most(clock["uncertainty_s"], 0.05)
    equal(clock["steps"], 0)
    said = re.search(r"event=clock_skew ms=(\d+) by_ms=([\d.]+) ", agent.output())
    assert abs(int(said[1]) - 3000) <= float(said[2]) + 1, said[0]
    offset[0] = 1.0
    clock = wait_for("the step", lambda: rig.status()["clock"]["steps"] and rig.status()["clock"])
    assert abs(clock["last_step_s"] + 2) < 0.05 and abs(clock["skew_s"] - 1) < 0.05, clock
    contains(agent.output(), "event=store_clock_stepped ms=-")
    time.sleep(0.5)  # no second one comes
    equal(rig.status()["clock"]["steps"], 1)
    equal(agent.output().count("clock_skew"), 1)
    contains(rig.rlctl("status")[1], "stepped 1 time, last by -2")


main()
