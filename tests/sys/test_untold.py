"""Goal: few units of a blind share are not told to Redis, and are the moment that the rule no longer
covers them: a strict limit holds at once, whatever the rule was before.
Method: two real agents and a redis-server, checks by librl; what Redis has is read from its keys."""

import time

import stored
from fleet import Client, at_most, during, hosts_of
from rig import AGENT, equal, main, wait_for
from test_fleet import connect, credit, kill, reload

BOUNDED = {"limit": "100/60s", "beta": "50%", "no_credit": "deny"}  # blind: 25 of two hosts
STRICT = {"limit": "100/60s", "consistency": "strict"}


def count_of(rig, key):
    """Units of a key of rule s that Redis knows of."""
    redis = connect(rig)
    names = redis("KEYS", f"*:k:s:{key}")
    return stored.HEAD.unpack_from(redis("GET", names[0]))[6] if names else 0


def few_units(rig, host, units, key="k"):
    """A client of this host that admitted so few of a blind share that nobody is told."""
    client = Client(host)
    wait_for("blind credit", lambda: client.check("s", key))
    for _ in range(units - 1):
        assert client.check("s", key)
    time.sleep(1.1)  # longer than a key on its blind share waits: it will not be told
    equal(count_of(rig, key), 0)
    return client


def told(rig, units, seconds=1):
    wait_for("them in Redis", lambda: count_of(rig, "k") == units, seconds)


def test_untold__few_units_are_told_when_the_key_runs_short(rig):
    a, _ = hosts_of(rig, {"s": BOUNDED})
    first = few_units(rig, a, 3)
    assert not first.check("s", "k", 30)  # more than is left
    told(rig, 3)


def test_untold__few_units_are_told_when_they_become_more(rig):
    a, _ = hosts_of(rig, {"s": BOUNDED})
    first = few_units(rig, a, 5)
    first.check("s", "k")
    told(rig, 6, 2)


def test_untold__few_units_are_told_when_the_limit_is_lowered(rig):
    a, b = hosts_of(rig, {"s": BOUNDED})
    few_units(rig, a, 4)
    for host in (b, a):
        reload(host, {"s": BOUNDED | {"limit": "30/60s"}})  # a fifth of 7
    told(rig, 4)


def test_untold__few_units_are_told_when_the_blind_part_is_lowered(rig):
    a, _ = hosts_of(rig, {"s": BOUNDED})
    few_units(rig, a, 4)
    reload(a, {"s": BOUNDED | {"beta": "10%"}})
    told(rig, 4)


def test_untold__few_units_are_told_when_the_rule_becomes_eventual(rig):
    a, _ = hosts_of(rig, {"s": BOUNDED})
    few_units(rig, a, 4)
    reload(a, {"s": {"limit": "100/60s", "consistency": "eventual"}})
    told(rig, 4)


def test_untold__units_of_a_rule_that_was_local_are_told_when_it_is_shared(rig):
    a, _ = hosts_of(rig, {"s": {"limit": "100/60s", "consistency": "local"}})
    few_units(rig, a, 30)
    reload(a, {"s": STRICT})
    told(rig, 30)


def test_untold__few_units_are_told_when_their_key_gets_a_limit_of_its_own(rig):
    a, _ = hosts_of(rig, {"s": BOUNDED})
    few_units(rig, a, 4)
    a.rlctl("override", "s", "k", "30", "1h", "--local")
    told(rig, 4)


def test_untold__few_units_are_told_as_the_share_shrinks_when_a_host_joins(rig):
    rules = {"s": BOUNDED | {"beta": "20%"}}
    a, _ = hosts_of(rig, rules)
    few_units(rig, a, 2)  # a fifth of 10
    c = rig.host("c")
    c.agent(rules)
    wait_for("the third host", lambda: a.status()["fleet"]["live_hosts"] == 3)
    told(rig, 2)
    at_most(credit(a, "k")[0], 6)  # 20 of three hosts


def test_untold__few_units_are_told_by_the_next_agent_when_it_has_another_rule(rig):
    a, _ = hosts_of(rig, {"s": BOUNDED})
    few_units(rig, a, 3)
    kill(a.program)
    a.config({"s": STRICT})
    a.program = a.start(AGENT, "--config", a.path("rl.yaml"))
    told(rig, 3, 3)


def test_untold__nine_hosts_that_keep_back_all_they_may_are_two_percent_of_the_limit(rig):
    rule = {"limit": "1000/60s", "beta": "10%", "no_credit": "deny"}
    hosts = hosts_of(rig, {"s": rule}, "abcdefghij")
    clients = [Client(host) for host in hosts]
    for client in clients[1:]:
        wait_for("blind credit", lambda one=client: one.check("s", "k"))
        assert client.check("s", "k")  # a fifth of 10
    time.sleep(1.1)
    equal(count_of(rig, "k"), 0)
    wait_for("the limit", lambda: not clients[0].check("s", "k") and count_of(rig, "k") == 1000)
    equal(clients[0].units("k"), 1000)
    equal(sum(one.units("k") for one in clients), 1018)
    for one in clients:  # and with all their shares it is what a bounded rule may be exceeded by
        for _ in range(30):
            one.check("s", "k")
    at_most(sum(one.units("k") for one in clients), 1100)


def test_untold__rule_made_strict_under_load_holds_from_the_reload_on(rig):
    a, b = hosts_of(rig, {"s": BOUNDED})
    clients = first, second = few_units(rig, a, 5), few_units(rig, b, 5)
    for _ in range(30):  # the limit is not in use: bounded, more than that might have passed
        second.check("s", "k")
    for host in (a, b):
        reload(host, {"s": STRICT})
    for _ in during(1):
        second.check("s", "k")
    for _ in during(0.3):
        first.check("s", "k")
    at_most(sum(one.units("k") for one in clients), 100)


if __name__ == "__main__":
    main()
