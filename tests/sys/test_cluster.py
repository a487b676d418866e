"""Goal: a fleet whose counts are in a Redis Cluster keeps its limits, whatever the cluster does: slots
that move under load, primaries that die, nodes that talk nonsense. No check fails for any of it.
Method: real agents and a real cluster (cluster.py); for what no Redis says, fake_redis.py."""

import os
import re
import threading
import time

import fake_redis
from cluster import PARTS, Cluster, Move
from fleet import Client, at_least, at_most, hosts_of, most
from rig import REDIS, contains, equal, free_port, main, wait_for
from test_redis import ROOT, Certificates, documented_acl, password_file, set_user

LIMIT = 40
STRICT = {"s": {"limit": f"{LIMIT}/1s", "consistency": "strict"}}
KEYS = [f"key-{n}" for n in range(48)]  # some in each partition, but for one fleet in a hundred


def events(program, name):
    return [line for line in program.output().splitlines() if f"event={name} " in line]


def cluster_rights():
    """What docs/OPERATIONS.md says a cluster needs besides."""
    with open(os.path.join(ROOT, "docs/OPERATIONS.md"), encoding="utf-8") as f:
        line, = re.findall(r"^    ACL SETUSER ratel (\+cluster.*)$", f.read(), re.M)
    return line.split()


class Load:
    """Checks on all hosts in threads of their own, until stop()."""

    def __init__(self, hosts, keys=None):
        self.clients = [Client(host) for host in hosts]
        self.keys = keys or KEYS
        self.wrong = []
        self.slowest = 0.0
        self.ending = False
        self.threads = [threading.Thread(target=self._run, args=(client,))
                        for client in self.clients]
        for thread in self.threads:
            thread.start()

    def _run(self, client):
        turn = 0
        while not self.ending:
            for _ in range(20):
                began = time.monotonic()
                client.check("s", self.keys[turn % len(self.keys)])
                self.slowest = max(self.slowest, time.monotonic() - began)
                if client.code < 0:
                    self.wrong.append(client.code)
                turn += 7
            time.sleep(0.002)

    def stop(self):
        self.ending = True
        for thread in self.threads:
            thread.join()
        equal(self.wrong, [])
        return self

    def worst(self):
        return max(most(self.clients, key, 1.0) for key in self.keys)

    def units(self):
        return sum(client.units(key) for client in self.clients for key in self.keys)


def joined(rig, cluster, rules=None, names="ab", seeds=None):
    rig.redis_url = cluster.seeds(seeds)
    return hosts_of(rig, rules or STRICT, names, redis=False)


def nodes_of(host):
    """Port -> partitions, of the nodes that are up."""
    return {int(node["where"].rsplit(":", 1)[1]): node["partitions"]
            for node in host.status()["redis"]["nodes"] if node["up"]}


def test_cluster__one_limit_holds_over_hosts_and_nodes(rig):
    cluster = Cluster(rig)
    hosts = joined(rig, cluster, seeds=cluster.masters[:1])
    load = Load(hosts)
    time.sleep(2.2)
    load.stop()
    at_most(load.worst(), LIMIT)
    at_least(load.units(), len(KEYS) * LIMIT)
    for node in cluster.masters:  # each has keys of the partitions that are its own, and no others
        own = cluster.parts_of(node)
        there = {int(key.split(b"}")[0].rsplit(b":", 1)[1]) for key in node("KEYS", "{rl:*")}
        equal(there, set(own))
        equal(node.errors("MOVED"), 0)
    equal(nodes_of(hosts[0]), {node.port: cluster.parts_of(node) for node in cluster.masters})
    contains(hosts[0].rlctl("status")[1], ", 3 of 3 nodes up, ")
    equal(len(events(hosts[0].program, "redis_up")), 1)
    equal(len(events(hosts[0].program, "redis_server")), 1)  # appendonly is off: once, not thrice
    equal(events(hosts[0].program, "redis_down"), [])


def test_cluster__slots_that_move_under_load_lose_nothing(rig):
    """All partitions of one node go to the next, with all that a client may be told meanwhile."""
    cluster = Cluster(rig)
    hosts = joined(rig, cluster)
    source, target = cluster.masters[:2]
    load = Load(hosts)
    time.sleep(1.1)
    for part in cluster.parts_of(source):
        move = Move(cluster.slot(part), source, target)
        while move.keys(7):
            time.sleep(0.01)
        asked = target.redis.info("commandstats").get("cmdstat_asking", "calls=0,")
        time.sleep(0.15)  # nothing is left there, and it is not the other's yet
        move.end()
    moved = time.monotonic()
    for host in hosts:
        host.wait_state("fresh", 5)
    fresh = time.monotonic() - moved
    time.sleep(1.1)
    load.stop()
    at_most(load.worst(), LIMIT)
    told = {kind: sum(node.errors(kind) for node in cluster.masters)
            for kind in ("MOVED", "ASK", "TRYAGAIN")}
    print(f"# told {told}, asking {asked.split(',')[0]}; fresh {fresh * 1000:.0f} ms after the last;"
          f" {load.units()} admitted; slowest check {load.slowest * 1000:.2f} ms")
    for kind, times in told.items():
        at_least(times, 1)
        at_most(times, 2000)
    equal(cluster.parts_of(source), [])
    for host in hosts:
        equal(events(host.program, "redis_refuses"), [])
    # All of it is where it belongs, and nowhere else.
    equal(source("KEYS", "*"), [])
    wait_for("two nodes", lambda: len(nodes_of(hosts[0])) == 2)
    contains(hosts[0].rlctl("status")[1], ", 2 of 2 nodes up, ")



def test_cluster__primary_that_dies_under_load_is_followed_by_its_replica(rig):
    cluster = Cluster(rig, replicas=3)
    hosts = joined(rig, cluster)
    victim = cluster.masters[0]
    load = Load(hosts)
    time.sleep(1.1)
    victim.kill()
    cluster.all.remove(victim)
    killed = time.monotonic()
    for host in hosts:
        host.wait_state("stale", 5)
    stale = time.monotonic() - killed
    wait_for("the replica", lambda: cluster.replicas[0].redis.info("replication")["role"]
             == "master")
    promoted = time.monotonic() - killed
    for host in hosts:
        host.wait_state("fresh", 10)
    fresh = time.monotonic() - killed
    time.sleep(1.5)
    load.stop()
    print(f"# stale after {stale * 1000:.0f} ms, promoted after {promoted * 1000:.0f}, fresh after "
          f"{fresh * 1000:.0f}; at most {load.worst()} of {LIMIT} in a window; slowest check "
          f"{load.slowest * 1000:.2f} ms")
    at_most(fresh - promoted, 1.5)
    at_most(load.worst(), 2 * LIMIT)
    for client in load.clients:
        client.forget()
    # From here on as ever.
    load = Load(hosts)
    time.sleep(2.2)
    load.stop()
    at_most(load.worst(), LIMIT)
    at_least(load.units(), len(KEYS) * LIMIT)


def test_cluster__tls_and_a_user_with_the_documented_rights_are_enough(rig):
    """One node that has all slots is a cluster, too."""
    authority = Certificates(rig, "ca")
    certificate, key = authority.issue("node", "IP:127.0.0.1")
    cluster = Cluster(rig, masters=1, options=(
        "--port", "0", "--tls-port", "PORT", "--tls-cluster", "yes", "--tls-cert-file", certificate,
        "--tls-key-file", key, "--tls-ca-cert-file", authority.ca, "--tls-auth-clients", "no"))
    node, = cluster.masters
    set_user(node, documented_acl() + cluster_rights())
    node("ACL", "SETUSER", "default", "-@all", "+ping")
    login = f"tls: {{ca_file: {authority.ca}}}, user: ratel, password_file: {password_file(rig)}"
    rig.redis_url = f"{{cluster: ['127.0.0.1:{node.port}'], {login}}}"
    host, = hosts_of(rig, STRICT, "a", redis=False)
    client = Client(host)
    wait_for("credit", lambda: client.check("s", "k"))
    equal(events(host.program, "redis_down") + events(host.program, "redis_refuses"), [])
    host.program.stop()


def test_cluster__what_is_no_cluster_or_not_configured_as_one_is_said(rig):
    cluster = Cluster(rig, masters=1)
    rig.redis_url = f"redis://127.0.0.1:{cluster.masters[0].port}"
    host = rig.host("a")
    program = host.agent(STRICT)
    wait_for("the event", lambda: "msg=\"the server is a node of a cluster: name some of its nodes "
             "in redis.cluster, in place of redis.url\"" in program.output())
    program.stop()
    port = free_port()
    rig.start(REDIS, "--port", port, "--save", "", "--dir", rig.dir)
    rig.redis_url = f"{{url: '127.0.0.1:{port}', cluster: true}}"
    host = rig.host("b")
    program = host.agent(STRICT)
    wait_for("the event", lambda: "msg=\"the server is not in cluster mode: name it in redis.url, "
             "in place of redis.cluster\"" in program.output())


# --- what no Redis says ---

def slot_of(key):
    """CRC16 (XMODEM) of the hash tag."""
    crc = 0
    for byte in key[key.index(b"{") + 1:key.index(b"}")]:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xffff
    return crc % 16384


def slots(*ranges):
    """The answer to CLUSTER SLOTS: (first, last, port) each."""
    return b"*%d\r\n" % len(ranges) + b"".join(
        b"*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % one for one in ranges)


def fakes(count):
    nodes = [fake_redis.FakeRedis(None) for _ in range(count)]
    for node in nodes:
        node.greeting["INFO"] = fake_redis.bulk(
            b"redis_version:7.0.15\r\nredis_mode:cluster\r\nrole:master\r\ncluster_enabled:1\r\n")
        node.greeting["PING"] = b"+PONG\r\n"
        node.greeting["ASKING"] = b"+OK\r\n"
        node.greeting["CLUSTER"] = slots((0, 16383, nodes[0].port))
    return nodes


def with_fakes(rig, nodes):
    rig.redis_url = f"{{cluster: ['127.0.0.1:{nodes[0].port}']}}"
    host = rig.host(f"a{len(rig.started)}")
    host.program = host.agent(STRICT)
    return host


def test_cluster__redirections_in_turns_are_bounded_and_over_when_they_end(rig):
    a, b = fakes(2)

    def elsewhere(this, other, word):
        return lambda tags: b"-%s %d 127.0.0.1:%d\r\n" % (word, slot_of(this.key), other.port)
    for word in b"MOVED", b"ASK":
        a.answers, b.answers = elsewhere(a, b, word), elsewhere(b, a, word)
        host = with_fakes(rig, (a, b))
        wait_for("both", lambda: a.calls > 100 and b.calls > 20)
        before = a.calls + b.calls
        time.sleep(1)
        calls = a.calls + b.calls - before
        print(f"# {word.decode()} in turns: {calls} calls a second")
        at_most(calls, PARTS * 6 * 12)  # five redirections, then 100 ms
        host.wait_state("stale")
        a.answers = b.answers = fake_redis.sane
        host.wait_state("fresh")
        host.program.stop()
    # To nowhere, to another slot's node, and to nobody who is there.
    host = with_fakes(rig, (a, b))
    host.wait_state("fresh")
    port = free_port()
    for odd in (b"-MOVED\r\n", b"-MOVED 99999 h:1\r\n", b"-MOVED 0 127.0.0.1:%d\r\n" % b.port,
                b"-ASK x :\r\n", b"-MOVED 1 :0\r\n"):
        a.answers = lambda tags, odd=odd: odd
        host.wait_state("stale")
        a.answers = fake_redis.sane
        host.wait_state("fresh")
    contains(host.program.output(), "event=redis_refuses")
    a.answers = lambda tags: b"-MOVED %d 127.0.0.1:%d\r\n" % (slot_of(a.key), port)
    host.wait_state("stale")
    a.answers = fake_redis.sane
    host.wait_state("fresh")  # by the map, which says that a has them
    for node in a, b:
        node.close()


def test_cluster__map_that_makes_no_sense_is_refused_with_a_word(rig):
    a, b = fakes(2)
    host = None
    for odd, word in (
            (b":5\r\n", "CLUSTER SLOTS is answered in another form"),
            (slots((5, 4, a.port)), "CLUSTER SLOTS is answered with a range that is none"),
            (slots((0, 16383, 0)), "CLUSTER SLOTS names a node that has no host or port"),
            (slots((0, 16383, a.port), (5, 16383, b.port)),
             "CLUSTER SLOTS says of a slot that two nodes own it"),
            (b"-NOPERM this user has no permissions to run the 'cluster|slots' command\r\n",
             "'cluster|slots' command: see 'ACL' in rl-agent(8)"),
            (b"-ERR not today\r\n", "CLUSTER SLOTS is answered ERR not today"),
            (slots(), "no node serves some slots that are ours: redis-cli --cluster check")):
        a.greeting["CLUSTER"] = odd
        host = with_fakes(rig, (a, b))
        wait_for(word, lambda h=host, w=word: w in h.program.output())
        at_most(len(events(host.program, "redis_down")), 4)
        host.wait_state("stale")
        a.greeting["CLUSTER"] = slots((0, 16383, a.port))
        host.wait_state("fresh")
        if odd == b":5\r\n":
            # Who has a good one keeps it, whatever is said later.
            a.greeting["CLUSTER"] = odd
            a.answers = lambda tags: b"-MOVED %d 127.0.0.1:%d\r\n" % (slot_of(a.key), b.port)
            wait_for("the other", lambda: b.calls > 0)
            host.wait_state("fresh")
            a.answers = fake_redis.sane
        host.program.stop()
        b.calls = 0
    for node in a, b:
        node.close()


if __name__ == "__main__":
    main()
