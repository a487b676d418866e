"""Goal: the agent finds its primary by Sentinel and follows each failover; no check fails meanwhile, and
what a failover lets through beyond the limit is bounded.
Method: real agents, redis-servers and Sentinels on free loopback ports, killed, stopped and failed
over; and Sentinels played by the test, for what a real one seldom says. Every admit is judged by the
clock readings around its call."""

import os
import signal
import threading
import time

from fleet import Client, at_least, at_most, during, most
from rig import contains, equal, main, wait_for
from sentinel import NAME, FakeSentinel, Group, Server

WINDOW_S, LIMIT = 4, 200
STRICT = {"limit": f"{LIMIT}/4s", "consistency": "strict"}
SHARE = {"limit": f"{LIMIT}/4s"}


def agent(rig, redis, rules=None, name="a"):
    """A host whose configuration has this as its redis; not waited for."""
    rig.redis_url = redis
    host = rig.host(name)
    host.program = host.agent(rules or {"s": STRICT})
    return host


def events(host, name):
    return [line for line in host.program.output().splitlines() if f"event={name} " in line]


def is_up_at(host, port):
    up = events(host, "redis_up")
    return up and f"redis=redis://127.0.0.1:{port} " in up[-1]


def spends(host, key):
    client = Client(host)
    for _ in during(5):
        if client.check("s", key):
            return
    raise AssertionError("no credit came")


class Load(threading.Thread):
    """All hosts together are asked for ten times the limit of the strict rule, and twice that of the
    bounded one, until it is told to end."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.clients = [Client(host) for host in hosts]
        self.ended = False
        self.longest = self.checks = 0
        self.start()

    def run(self):
        pause = WINDOW_S / (10 * LIMIT) * len(self.clients)
        turn, due = 0, time.monotonic()
        while not self.ended:
            for client in self.clients:
                for rule in "sb" if turn % 5 == 0 else "s":
                    began = time.monotonic()
                    client.check(rule, rule)
                    self.longest = max(self.longest, time.monotonic() - began)
                    self.checks += 1
            turn, due = turn + 1, due + pause
            time.sleep(max(0, due - time.monotonic()))

    def end(self):
        self.ended = True
        self.join()

    def most(self, rule):
        return most(self.clients, rule, WINDOW_S)

    def units(self, rule):
        return sum(client.units(rule) for client in self.clients)


def errors(hosts):
    return sum(rule["counts"]["errors"] for host in hosts for rule in host.status()["rules"])


def two_hosts(rig, url):
    hosts = [agent(rig, url, {"s": STRICT, "b": SHARE}, name) for name in "ab"]
    for host in hosts:
        host.wait_state("fresh")
        wait_for("both", lambda h=host: h.status()["fleet"]["live_hosts"] == 2)
    return hosts


def all_fresh(hosts, seconds=10):
    for host in hosts:
        host.wait_state("fresh", seconds)


def judge(what, hosts, load, more=0):
    """No caller has seen an error or waited; a window held at most this many times L more."""
    load.end()
    print(f"# {what}: most in a window: strict {load.most('s')}, bounded {load.most('b')} of "
          f"{LIMIT}; {load.checks} checks, the longest {load.longest * 1000:.1f} ms")
    equal(errors(hosts), 0)
    at_most(load.most("s"), LIMIT * (1 + more))
    at_most(load.most("b"), LIMIT * (1 + more) * 1.1)


def one_limit_again(hosts):
    load = Load(hosts)
    time.sleep(WINDOW_S)
    load.end()
    at_most(load.most("s"), LIMIT)
    at_least(load.units("s"), LIMIT // 2)


def test_sentinel__killed_primary_is_followed_and_no_check_fails(rig):
    group = Group(rig)
    hosts = two_hosts(rig, group.url())
    load = Load(hosts)
    time.sleep(1)
    killed = time.monotonic()
    group.primary.signal(signal.SIGKILL)
    wait_for("the failover", lambda: group.sentinels[0].port_of_master() == group.replica.port)
    promoted = time.monotonic()
    all_fresh(hosts, 3)
    fresh = time.monotonic()
    time.sleep(WINDOW_S)
    judge(f"kill -9: named after {promoted - killed:.2f} s, fresh {fresh - promoted:.2f} s later",
          hosts, load, 1)
    for host in hosts:
        assert is_up_at(host, group.replica.port), host.program.output()


def test_sentinel__failover_by_hand_is_followed_within_a_second(rig):
    group = Group(rig)
    hosts = two_hosts(rig, group.url())
    load = Load(hosts)
    time.sleep(1)
    group.sentinels[1].connect()("SENTINEL", "FAILOVER", NAME)
    wait_for("the failover", lambda: group.sentinels[0].port_of_master() == group.replica.port)
    named = time.monotonic()
    wait_for("both at the new one", lambda: all(
        is_up_at(host, group.replica.port) for host in hosts), 5)
    all_fresh(hosts)
    took = time.monotonic() - named
    calls = evalsha_calls(group.primary)
    time.sleep(1)
    equal(group.primary.role(), "master")  # for some 10 s more: nobody but Sentinel knows better
    equal(evalsha_calls(group.primary), calls)
    judge(f"by hand: both were there and fresh {took:.2f} s after Sentinel had named it", hosts,
          load, 1)
    at_most(took, 2.5)
    one_limit_again(hosts)


def evalsha_calls(server):
    line = server.connect().info("commandstats").get("cmdstat_evalsha", "calls=0,")
    return int(line.split("calls=")[1].split(",")[0])


def test_sentinel__stopped_primary_that_wakes_is_not_written_to(rig):
    group = Group(rig)
    os.environ["RL_TEST_TOTALS"] = "1"
    hosts = two_hosts(rig, group.url())
    del os.environ["RL_TEST_TOTALS"]
    load = Load(hosts)
    time.sleep(1)
    group.primary.signal(signal.SIGSTOP)
    wait_for("the failover", lambda: group.sentinels[0].port_of_master() == group.replica.port)
    all_fresh(hosts, 3)
    time.sleep(0.5)
    group.primary.signal(signal.SIGCONT)  # what lay in its sockets it takes; nobody reads its answer
    time.sleep(0.2)
    calls = evalsha_calls(group.primary)
    time.sleep(1)
    equal(evalsha_calls(group.primary), calls)
    judge("stopped and woken", hosts, load, 1)
    for host in hosts:
        assert is_up_at(host, group.replica.port), host.program.output()
    redis = group.replica.connect()
    for rule in "sb":  # each unit once, whoever was told of it first
        wait_for(f"the units of {rule}", lambda rule=rule: total(redis, rule) == load.units(rule))


def total(redis, rule):
    return sum(int(redis("GET", key)) for key in redis("KEYS", f"*:t:{rule}*"))


# --- what Sentinels say, and do not say ---

def test_sentinel__all_of_them_down_costs_nothing_while_the_primary_lives(rig):
    group = Group(rig)
    host = agent(rig, group.url())
    host.wait_state("fresh")
    redis = group.primary.connect()
    connections = int(redis.info("stats")["total_connections_received"])
    for sentinel in group.sentinels:
        sentinel.signal(signal.SIGKILL)
        sentinel.program.wait()
        spends(host, f"k{sentinel.port}")
    time.sleep(1)
    equal(host.status()["state"], "fresh")
    equal(int(redis.info("stats")["total_connections_received"]), connections)
    redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # nobody can be asked: where it was
    wait_for("another connection", lambda: int(
        redis.info("stats")["total_connections_received"]) > connections)
    host.wait_state("fresh")
    spends(host, "again")


def test_sentinel__one_that_has_missed_a_failover_is_not_believed(rig):
    old, new = Server(rig), Server(rig)
    stale, good = FakeSentinel(old.port, 1), FakeSentinel(old.port, 1)
    host = agent(rig, f"sentinel://127.0.0.1:{stale.port},127.0.0.1:{good.port}/{NAME}")
    host.wait_state("fresh")
    good.primary, good.epoch = new.port, 2
    wait_for("the new one", lambda: is_up_at(host, new.port))
    host.wait_state("fresh")
    redis, asked = old.connect(), stale.asked
    connections = redis.info("stats")["total_connections_received"]
    wait_for("its word", lambda: stale.asked > asked + 4)
    equal(redis.info("stats")["total_connections_received"], connections)
    spends(host, "k")
    stale.close()
    good.close()


def test_sentinel__replica_that_is_named_is_not_written_to(rig):
    primary = Server(rig)
    replica = Server(rig, "--replicaof", "127.0.0.1", primary.port)
    told = FakeSentinel(replica.port)
    host = agent(rig, f"sentinel://127.0.0.1:{told.port}/{NAME}")
    wait_for("a word", lambda: "the server is no primary, though Sentinel says so"
             in host.program.output())
    equal(evalsha_calls(replica), 0)
    told.primary = primary.port
    wait_for("the primary", lambda: is_up_at(host, primary.port))
    spends(host, "k")
    told.close()


def test_sentinel__those_that_are_named_are_asked_too_and_followed(rig):
    first, second = Server(rig), Server(rig)
    named = FakeSentinel(first.port)
    configured = FakeSentinel(first.port, others=[named.port])
    host = agent(rig, f"sentinel://127.0.0.1:{configured.port}/{NAME}")
    host.wait_state("fresh")
    wait_for("it is asked", lambda: named.asked > 0)
    configured.close()
    named.primary, named.epoch = second.port, 2
    wait_for("the second", lambda: is_up_at(host, second.port))
    spends(host, "k")
    named.close()


def test_sentinel__one_that_says_nothing_delays_nothing(rig):
    first, second = Server(rig), Server(rig)
    silent, good = FakeSentinel(first.port), FakeSentinel(first.port)
    host = agent(rig, f"sentinel://127.0.0.1:{silent.port},127.0.0.1:{good.port}/{NAME}")
    host.wait_state("fresh")
    silent.silent = True
    good.primary, good.epoch = second.port, 2
    began = time.monotonic()
    wait_for("the second", lambda: second.connect().info("clients")["connected_clients"] != "1")
    at_most(time.monotonic() - began, 1.5)
    silent.close()
    good.close()


def says(rig, redis, *parts):
    host = agent(rig, redis, name=f"a{len(rig.started)}")
    for part in parts:
        wait_for(part, lambda part=part: part in host.program.output())
    equal(events(host, "redis_up"), [])
    host.program.stop()
    return host


def test_sentinel__what_is_wrong_is_said(rig):
    server, unknown = Server(rig), FakeSentinel(None)
    says(rig, f"sentinel://127.0.0.1:{unknown.port}/{NAME}", f"redis=sentinel://127.0.0.1:"
         f"{unknown.port}/{NAME} msg=\"no Sentinel says where '{NAME}' is: 127.0.0.1:"
         f"{unknown.port}: it watches no primary of that name: correct redis.master")
    says(rig, f"sentinel://127.0.0.1:{server.port}/{NAME}",
         "it is no Sentinel: correct redis.sentinels, whose port is usually 26379")
    unknown.close()
    says(rig, f"sentinel://127.0.0.1:{unknown.port},127.0.0.1:1/{NAME}",
         f"127.0.0.1:{unknown.port}: Connection refused (and 1 more)")


def test_sentinel__sentinel_may_want_a_password_of_its_own(rig):
    group = Group(rig, sentinels=1)
    sentinel, = group.sentinels
    connection = sentinel.connect()
    connection("ACL", "SETUSER", "default", ">sesame")
    connection("ACL", "SETUSER", "default", "resetpass", ">sesame")
    connection("ACL", "SETUSER", "look", "reset", "on", ">open", "-@all", "+auth", "+ping",
               "+sentinel|master", "+sentinel|get-master-addr-by-name", "+sentinel|sentinels")
    hosts = f"sentinels: ['127.0.0.1:{sentinel.port}'], master: {NAME}"
    path = rig.write("password", "wrong")
    os.chmod(path, 0o600)
    says(rig, f"{{{hosts}}}", "wants a password (NOAUTH): set redis.sentinel_password_file, and "
         "redis.sentinel_user")
    host = agent(rig, f"{{{hosts}, sentinel_user: look, sentinel_password_file: {path}}}", name="b")
    wait_for("a word", lambda: f"the server does not take the password in {path} for user 'look'"
             in host.program.output())
    rig.write("password", "open")
    host.wait_state("fresh")
    spends(host, "k")


if __name__ == "__main__":
    main()
