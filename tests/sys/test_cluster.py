"""Goal: a fleet whose counts are in a Redis Cluster keeps its limits, whatever the cluster does: slots
that move under load, primaries that die, nodes that talk nonsense. No check fails for any of it.
Method: real agents and a real cluster (cluster.py); for what no Redis says, fake_redis.py."""

import os
import signal
import threading
import time

import fake_redis
from cluster import PARTS, Cluster, Move
from fleet import LIB, MAY_WAIT, Client, at_least, at_most, during, hosts_of, most
from rig import contains, equal, free_port, main, wait_for

LIMIT = 40
STRICT = {"s": {"limit": f"{LIMIT}/1s", "consistency": "strict"}}
KEYS = [f"key-{n}" for n in range(48)]  # some in each partition, but for one fleet in a hundred


def events(program, name):
    return [line for line in program.output().splitlines() if f"event={name} " in line]


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


if __name__ == "__main__":
    main()
