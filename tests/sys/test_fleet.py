"""Goal: what hosts share holds in the situations that once broke it.
Method: real agents, a real redis-server (or fake_redis.py, for answers that no Redis gives), and
checks by librl; every admit is judged by the clock readings around its call."""

import itertools
import os
import random
import shutil
import signal
import struct
import threading
import time

import fake_redis
import resp
import stored
from fleet import MAY_WAIT, Client, at_least, at_most, during, hosts_of, most
from rig import AGENT, STORE, Skip, contains, equal, main, wait_for


def reload(host, rules):
    host.config(rules)
    before = host.status()["generation"]
    host.program.signal(signal.SIGHUP)
    wait_for("the new rules", lambda: host.status()["generation"] != before)


def connect(rig):
    if not rig.redis_url.startswith("unix:"):
        raise Skip(f"looks at what Redis holds, and this is {rig.redis_url}")
    return resp.Redis(rig.redis_url.removeprefix("unix:"))


def kill(program):
    program.signal(signal.SIGKILL)
    program.wait()


def credit(host, key):
    """(credit, is a call under way) of a key by the segment's own words: shm/rl_layout.h."""
    with open(host.segment, "rb") as f:
        data = f.read()
    buckets, _, _, slots, sides, texts = struct.unpack_from("<6Q", data, 48)
    for i in range(buckets * 32):
        head, = struct.unpack_from("<Q", data, slots + 256 * i)
        text = data[texts + 64 * i:texts + 64 * (i + 1)].rstrip(b"\0")
        if not head & 1 << 21 and text == key.encode():
            return head & 0xfffff, struct.unpack_from("<Q", data, sides + 32 * i)[0] != 0
    return 0, False


def wait_until_freed(host):
    """Until the table has no keys left. An agent that reads its rules looks through it at once,
    from the beginning."""
    told = 0.0

    def freed():
        nonlocal told
        if time.monotonic() - told > 0.7:
            told = time.monotonic()
            host.program.signal(signal.SIGHUP)
        status = host.status()
        # What is left are the pools of the rules in force.
        return status["table"]["used"] == 8 * len(status["rules"])
    wait_for("free slots", freed, 8)


def test_fleet__cost_above_one_without_credit_stays_within_the_bound(rig):
    host, = hosts_of(rig, {"s": {"limit": "100/10s", "beta": "10%"}}, "a")
    client = Client(host)
    for _ in during(2):
        for cost in (10, 7, 4, 2):
            client.check("s", f"cost-{cost}", cost)
    for cost in (10, 7, 4, 2):
        at_most(client.units(f"cost-{cost}"), 120)
        at_least(client.units(f"cost-{cost}"), 90)


def partitions(rig, pattern):
    """The partitions that have a log of each key."""
    found = {}
    for name in connect(rig)("KEYS", pattern):
        tag, key = name.decode().split("}:k:")
        found.setdefault(key, set()).add(tag)
    return found


def test_fleet__slots_that_change_keys_in_an_outage_are_synced_as_their_own(rig):
    rules = {"s": {"limit": "10/500ms", "consistency": "strict", "on_unreachable": "local"}}
    redis = rig.redis()
    a, = hosts_of(rig, rules, "a", keys=200, redis=False)
    client = Client(a)
    kill(redis)
    a.wait_state("stale")
    for i in range(180):
        client.check("s", f"old{i}")
    at_least(a.status()["table"]["used"], 150)
    wait_until_freed(a)
    for i in range(180):
        client.check("s", f"new{i}")
    rig.redis()
    a.wait_state("fresh")
    b = rig.host("b")
    b.agent(rules, keys=200)
    b.wait_state("fresh")
    clients = client, Client(b)
    for turn in range(2):  # first until all that passed in the outage is out of the window
        for one in clients:
            one.forget()
        for _ in during(0.6 if turn == 0 else 1.5):
            for i in range(0, 180, 6):
                for one in clients:
                    one.check("s", f"new{i}")
    for i in range(0, 180, 6):
        at_most(most(clients, f"new{i}", 0.5), 10)
        at_least(sum(one.units(f"new{i}") for one in clients), 20)
    equal({key: tags for key, tags in partitions(rig, "*:k:s:new*").items() if len(tags) > 1}, {})


def kill_with_credit(host, client, key):
    """Kill the agent while the key has credit and no call under way."""
    def stopped_with_credit():
        for _ in during(0.1):
            for _ in range(3):
                client.check("s", key)
        host.program.signal(signal.SIGSTOP)
        if credit(host, key)[0] > 15 and not credit(host, key)[1]:
            return True
        host.program.signal(signal.SIGCONT)
        return False
    wait_for("credit", stopped_with_credit)
    kill(host.program)


def test_fleet__credit_that_lapsed_with_its_agent_is_not_spent_after_a_restart(rig):
    a, b = hosts_of(rig, {"s": {"limit": "1000/1s", "consistency": "strict"}})
    first, second = Client(a), Client(b)
    redis = connect(rig)
    kill_with_credit(a, first, "k")
    row, = [row for row in leases(redis) if row.startswith("a:")]
    deadline = time.monotonic() + 13
    while row in leases(redis):  # Redis has not yet taken them for used
        assert time.monotonic() < deadline
        if not second.check("s", "k"):
            time.sleep(0.001)
    second.forget()
    restart = time.monotonic() + 1.5
    for _ in during(3):
        while second.check("s", "k"):
            pass
        if restart is not None and time.monotonic() > restart:
            first.forget()
            a.program = a.start(AGENT, "--config", a.path("rl.yaml"))
            restart = None
        if restart is None:
            first.check("s", "k")
    at_most(most([first, second], "k", 1.0), 1000)
    at_least(most([second], "k", 1.0), 900)


def leases(redis):
    """Of the key k under the rule s: which row holds how much."""
    name, = redis("KEYS", "*:k:s:k")
    return stored.leases(redis, name[:name.index(b"}") + 1], b"s:k")


def test_fleet__rules_removed_amid_a_call_do_not_hold_up_others(rig):
    keep = {"keep": {"limit": "1000/1s", "consistency": "strict"}}
    both = {name: {"limit": "100/60s", "consistency": "strict"} for name in ("one", "two")}
    redis = rig.redis()
    rig.redis_url = f"{{url: '{rig.redis_url}', timeout: 300ms}}"
    a, = hosts_of(rig, keep | both, "a", redis=False)
    client = Client(a)

    def all_users(seconds):
        for _ in during(seconds):
            for i in range(64):
                client.check("one", f"user{i}")
                client.check("two", f"user{i}")
    all_users(0.5)
    redis.signal(signal.SIGSTOP)
    all_users(0.2)
    reload(a, keep)
    wait_for("the loss", lambda: not a.status()["redis"]["up"])
    redis.signal(signal.SIGCONT)
    a.wait_state("fresh")
    for i in range(48):
        wait_for("credit", lambda n=i: client.check("keep", f"k{n}", 1, MAY_WAIT), 3)
    assert "redis_refuses" not in a.program.output(), a.program.output()


def test_fleet__slots_of_a_rule_that_became_local_are_freed(rig):
    slots_are_freed(rig, {"s": {"limit": "10/500ms", "consistency": "local"}})


def test_fleet__slots_of_a_rule_that_was_removed_are_freed(rig):
    slots_are_freed(rig, {"other": "1/1s"})


def slots_are_freed(rig, new_rules):
    redis = rig.redis()
    a, = hosts_of(rig, {"s": {"limit": "10/500ms", "beta": "50%"}}, "a", redis=False)
    client = Client(a)
    for _ in during(0.1):
        for i in range(150):
            client.check("s", f"key{i}")
    redis.signal(signal.SIGSTOP)  # so that calls are under way, and units wait to be reported
    for i in range(150):
        client.check("s", f"key{i}")
    reload(a, new_rules)
    redis.signal(signal.SIGCONT)
    wait_until_freed(a)


def test_fleet__reload_from_bounded_to_strict_takes_blind_credit_away(rig):
    bounded = {"s": {"limit": "100/20s", "beta": "50%", "no_credit": "deny"}}
    strict = {"s": {"limit": "100/20s", "consistency": "strict"}}
    a, b = hosts_of(rig, bounded)
    clients = first, second = Client(a), Client(b)
    wait_for("blind credit", lambda: first.check("s", "k") and credit(a, "k")[0] > 10)
    time.sleep(0.5)  # so that the key rests: the next call would tell Redis of its credit
    reload(b, strict)
    reload(a, strict)

    def exhausted():
        second.check("s", "k")
        return sum(one.units("k") for one in clients) >= 100
    wait_for("the whole limit", exhausted)
    for _ in during(0.3):
        first.check("s", "k")
        second.check("s", "k")
    equal(sum(one.units("k") for one in clients), 100)


def test_fleet__eventual_key_that_is_full_is_refused_everywhere_and_costs_redis_nothing(rig):
    a, b = hosts_of(rig, {"s": {"limit": "20/60s", "consistency": "eventual"}})
    clients = first, second = Client(a), Client(b)
    while first.check("s", "k"):
        pass
    at_least(first.units("k"), 19)  # its own window may hold back the rest of a group
    wait_for("word of it on the other host", lambda: not second.check("s", "k"), 1)
    at_most(most(clients, "k", 60), 40)
    at_least(second.result.retry_after_ns, 50 * 10**9)
    time.sleep(0.3)  # what was admitted since is told, and answered
    before = [host.status()["sync"]["keys"] for host in (a, b)]
    for _ in during(0.5):
        for one in clients:
            assert not one.check("s", "k")
    equal([host.status()["sync"]["keys"] for host in (a, b)], before)


def test_fleet__eventual_key_at_rest_learns_of_the_others_within_a_tick(rig):
    a, b = hosts_of(rig, {"s": {"limit": "1000/10s", "consistency": "eventual"}})
    first, second = Client(a), Client(b)
    for key in ("k1", "k2", "k3"):  # a machine that is busy elsewhere may be later than that
        equal((first.check("s", key), second.check("s", key, 900)), (True, True))
        time.sleep(0.5)  # both at rest; the first was told of the 900, or not
        equal(first.check("s", key), True)
        time.sleep(0.06)  # T is 100 ms
        if not first.check("s", key, 100):
            return
    raise AssertionError("not told of the other host's units")


def test_fleet__rule_made_eventual_gives_its_credit_back_and_keeps_its_count(rig):
    terms = {"limit": "100/20s", "consistency": "strict"}
    a, b = hosts_of(rig, {"s": terms})
    first, second = Client(a), Client(b)
    wait_for("credit", lambda: first.check("s", "k", 1, MAY_WAIT) and credit(a, "k")[0] > 0)
    for host in (a, b):
        reload(host, {"s": terms | {"consistency": "eventual"}})
    wait_for("no credit", lambda: credit(a, "k")[0] == 0 and (first.check("s", "k") or True))
    wait_for("the lease given back", lambda: not connect(rig)("KEYS", "*:l:s:k"))
    wait_for("the limit", lambda: not (first.check("s", "k") | second.check("s", "k")), 5)
    at_least(first.units("k") + second.units("k"), 95)
    # And back: what was admitted is still counted, and nothing can be lent.
    time.sleep(0.3)
    for host in (a, b):
        reload(host, {"s": terms})
    for _ in during(0.3):
        assert not first.check("s", "k") and not second.check("s", "k")


def test_fleet__eventual_key_without_redis_goes_by_its_on_unreachable(rig):
    rules = {name: {"limit": "10/60s", "consistency": "eventual", "on_unreachable": name}
             for name in ("share", "local", "open", "closed")}
    a, _ = hosts_of(rig, rules)
    client = Client(a)
    for name in rules:
        equal(client.check(name, "k"), True)
    rig.started[0].signal(signal.SIGKILL)
    a.wait_state("stale")
    for _ in range(30):
        for name in rules:
            client.check(name, name)
    equal({name: client.units(name) for name in rules},
          {"share": 1, "local": 10, "open": 30, "closed": 0})


def test_fleet__raised_limit_is_seen_by_a_key_that_was_refused(rig):
    a, = hosts_of(rig, {"s": {"limit": "5/60s", "consistency": "strict"}}, "a")
    client = Client(a)
    wait_for("the limit", lambda: client.check("s", "k", 1, MAY_WAIT) and client.units("k") == 5)
    wait_for("a refusal of long", lambda: not client.check("s", "k") and
             client.result.retry_after_ns > 10**10)
    reload(a, {"s": {"limit": "20/60s", "consistency": "strict"}})
    wait_for("an admit", lambda: client.check("s", "k"), 1)


def test_fleet__lowered_limit_takes_credit_away(rig):
    a, = hosts_of(rig, {"s": {"limit": "100000/10s", "consistency": "strict"}}, "a")
    client = Client(a)

    def rich():
        for _ in range(300):
            client.check("s", "k")
        return credit(a, "k")[0] > 500
    wait_for("credit", rich)
    reload(a, {"s": {"limit": "10/10s", "consistency": "strict"}})
    client.forget()
    for _ in during(0.5):
        client.check("s", "k")
    equal(client.units("k"), 0)  # the window is full of what passed before


def test_fleet__hot_key_is_rebased_after_a_raise(rig):
    a, = hosts_of(rig, {"s": {"limit": "23000/10s", "consistency": "strict"}}, "a")
    client, hot = Client(a), Client(a)
    done = threading.Event()

    def hammer():
        while not done.wait(0.001):
            hot.check("s", "k", 1, MAY_WAIT)
    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        wait_for("heat", lambda: hot.units("k") > 300)
        reload(a, {"s": {"limit": "1000000/10s", "consistency": "strict"}})
        wait_for("a large cost", lambda: client.check("s", "k", 40000, MAY_WAIT), 2)
    finally:
        done.set()
        thread.join()


def test_fleet__slow_and_large_requests_that_do_not_wait_pass(rig):
    a, _ = hosts_of(rig, {"s": {"limit": "100/10s", "consistency": "strict"}})
    client = Client(a)
    passed = []
    for i in range(6):
        passed.append(client.check("s", "slow"))
        if not client.units("large"):
            client.check("s", "large", 60)
        if i < 5:
            time.sleep(0.4)  # the client's own pace
    equal(passed[1:], [True] * 5)
    equal(client.units("large"), 60)


ODD = {
    "foreign tags": lambda tags: fake_redis.reply(
        [fake_redis.answer(random.getrandbits(64), 5) for _ in tags]),
    "a huge grant": lambda tags: fake_redis.sane(tags, 2**32 - 1),
    "a status of no meaning": lambda tags: fake_redis.reply([], status=7),
    "an answer too few": lambda tags: fake_redis.reply(
        [fake_redis.answer(tag, 5) for tag in tags[1:]]) if tags else b":1\r\n",
    "no answer": lambda tags: None,
    "loading": lambda tags: b"-LOADING Redis is loading the dataset in memory\r\n",
    "no memory": lambda tags: b"-OOM command not allowed\r\n",
    "read only": lambda tags: b"-READONLY You can't write against a read only replica.\r\n",
    "no script": lambda tags: b"-NOSCRIPT No matching script.\r\n",
    "nil": lambda tags: b"*5\r\n:0\r\n:0\r\n$-1\r\n$-1\r\n$-1\r\n",
    "a length of no meaning": lambda tags: b"$999999999999\r\nxx",
    "another form": lambda tags: b"*0\r\n",
    "nested": lambda tags: b"*5\r\n" * 200,
    "nothing odd": fake_redis.sane,
}


def with_fake(rig, answers, rules, timeout="150ms"):
    path = os.path.join(rig.shm, "redis.sock")
    rig.redis_url = f"{{url: 'unix:{path}', timeout: {timeout}}}"
    redis = fake_redis.FakeRedis(path, answers)
    a = rig.host("a")
    a.program = a.agent(rules)
    return redis, a


def test_fleet__odd_answers_admit_nothing_above_the_limit_and_lose_nothing(rig):
    odd = itertools.cycle(ODD.values())
    redis, a = with_fake(rig, lambda tags: next(odd)(tags),
                         {"s": {"limit": "10/60s", "consistency": "strict"},
                          "b": {"limit": "10/60s", "no_credit": "deny", "on_unreachable": "closed"}})
    client = Client(a)
    keys = [(rule, f"{rule}{i}") for rule in "sb" for i in range(40)]
    deadline = time.monotonic() + 8
    while redis.calls < 12 * len(ODD):
        assert a.program.running() and time.monotonic() < deadline, redis.calls
        for rule, key in keys:
            client.check(rule, key)
        time.sleep(0.005)
    redis.answers = fake_redis.sane
    a.wait_state("fresh")
    for rule, key in keys:
        at_most(client.units(key), 10 if rule == "s" else 11)
        if rule == "s":
            wait_for("credit", lambda r=rule: client.check(r, "fresh-" + r, 1, MAY_WAIT))
    wait_for("all units", lambda: redis.reported >= sum(map(client.units, client.admits)))
    equal(redis.reported, sum(map(client.units, client.admits)))
    assert a.program.running()
    redis.close()


def test_fleet__another_hosts_words_do_not_make_log_lines(rig):
    evil = b'evil"\nlevel=error event=fake msg="\x00\x1b[2J\r'

    def answers(tags):
        return fake_redis.reply([fake_redis.answer(tag) for tag in tags], other=evil)
    redis, a = with_fake(rig, answers, {"s": "10/1s"})
    wait_for("the event", lambda: "event=duplicate_host" in a.program.output())
    for line in a.program.output().splitlines():
        assert not line.startswith("level=error event=fake"), line
        equal([c for c in line if not " " <= c < "\x7f"], [])
    redis.close()


def test_fleet__missing_redis_is_said_and_the_host_is_fresh_when_it_comes(rig):
    if STORE:
        raise Skip(f"is about a Redis that is not there, and this is {STORE}")
    rig.redis_url = "unix:" + os.path.join(rig.shm, "redis.sock")
    a = rig.host("a")
    agent = a.agent({"s": "10/1s"})
    wait_for("the event", lambda: "event=redis_down" in agent.output())
    a.wait_state("stale")
    rig.redis()
    a.wait_state("fresh", 4)
    wait_for("the event", lambda: "event=redis_up" in agent.output(), 2)


def test_fleet__wrong_redis_url_is_said_by_check(rig):
    for url in ("redis://host:99999", "http://host", "redis://", "unix:"):
        rig.redis_url = f"'{url}'"
        config = rig.config({"s": "10/1s"})
        code, out, err = rig.run(AGENT, "--config", config, "--check")
        equal((code, out), (1, ""))
        contains(err, f"{config}:4:")


def test_fleet__clock_of_redis_set_back_blocks_for_a_window_at_most(rig):
    a, = hosts_of(rig, {"s": {"limit": "20/500ms", "consistency": "strict"}}, "a")
    client = Client(a)
    keys = [f"k{i}" for i in range(8)]

    def use(seconds):
        for _ in during(seconds):
            for key in keys:
                client.check("s", key, 1, MAY_WAIT)
    use(0.6)
    redis = connect(rig)
    ahead = int(redis("TIME")[0]) * 1000 + 600000
    for name in redis("KEYS", "*:s"):
        redis("HSET", name, "now", ahead)
    use(0.8)
    client.forget()
    use(1)
    for key in keys:
        at_least(client.units(key), 20)
        at_most(most([client], key, 0.5), 20)


def test_fleet__fresh_hosts_that_start_together_stay_within_the_bound(rig):
    rules = {"s": {"limit": "100/5s", "beta": "50%", "no_credit": "deny"}}
    rig.redis()
    hosts = [rig.host(f"h{i}") for i in range(5)]
    clients = []
    for host in hosts:  # each is used before it can know of the next
        host.config(rules)
        agent = host.start(AGENT, "--config", host.path("rl.yaml"))
        wait_for("its rules", lambda a=agent: "event=started" in a.output())
        clients.append(Client(host))
        wait_for("an admit", lambda: clients[-1].check("s", "k", 1, MAY_WAIT))
    use_up(clients, "k")
    for host in hosts:
        wait_for("all hosts", lambda h=host: h.status()["fleet"]["live_hosts"] == 5)
    use_up(clients, "later")


def use_up(clients, key):
    """The last takes what it gets; then the others, who may have something left."""
    for client in clients:
        client.check("s", key)
    for some in (clients[-1:], clients):
        for _ in during(0.3):
            for client in some:
                while client.check("s", key):
                    pass
    total = sum(client.units(key) for client in clients)
    at_most(total, 150)
    at_least(total, 90)


def judge_two(clients):
    """Strict, 10 in half a second, of one key."""
    for client in clients:
        client.forget()
    for _ in during(1.5):
        for client in clients:
            client.check("s", "k")
    at_most(most(clients, "k", 0.5), 10)
    at_least(sum(client.units("k") for client in clients), 20)


def test_fleet__two_hosts_of_one_id_hold_the_limit_and_name_each_other(rig):
    rules = {"s": {"limit": "10/500ms", "consistency": "strict"}}
    rig.redis()
    a, b = rig.host("a"), rig.host("b")
    b.name = "a"
    agents = a.agent(rules), b.agent(rules)
    for host in (a, b):
        host.wait_state("fresh")
    judge_two([Client(a), Client(b)])
    for agent, other in zip(agents, reversed(agents)):
        wait_for("the event", lambda g=agent: "event=duplicate_host" in g.output())
        contains(agent.output(), f"pid {other.pid} segment")


def test_fleet__copied_segment_is_found_and_the_limit_holds(rig):
    rules = {"s": {"limit": "10/500ms", "consistency": "strict"}}
    a, = hosts_of(rig, rules, "a")
    client = Client(a)
    wait_for("an admit", lambda: client.check("s", "k"))
    a.program.stop()
    b = rig.host("b")
    b.name = "a"
    shutil.copy(a.segment, b.segment)
    agents = a.agent(rules), b.agent(rules)
    clients = client, Client(b)

    def found():
        for one in clients:
            one.check("s", "k")
        logs = "".join(agent.output() for agent in agents)
        return "event=identity_clash" in logs or "event=duplicate_host" in logs
    wait_for("the event", found)
    for host in (a, b):
        host.wait_state("fresh")
    for _ in during(0.6):
        found()
    judge_two(clients)


if __name__ == "__main__":
    main()
