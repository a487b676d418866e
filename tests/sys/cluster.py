"""A Redis Cluster of real redis-servers on free loopback ports, joined by hand: redis-cli waits longer
than the tests take."""

import os
import signal

import resp
from rig import REDIS, equal, free_port, need, wait_for

SLOTS = 16384
PARTS = 16


class Node:
    """A server, as the cluster sees it and, on a unix socket, as tests do."""

    def __init__(self, rig, *options):
        need(REDIS, "redis-server")
        self.rig = rig
        self.number = len(rig.started)
        self.port, self.bus = free_port(), free_port()
        self.path = os.path.join(rig.shm, f"node-{self.number}.sock")
        self.options = options
        self.start()

    def start(self):
        home = self.rig.path(f"node-{self.number}")
        os.makedirs(home, exist_ok=True)
        plain = () if "--port" in self.options else ("--port", self.port)
        self.program = self.rig.start(
            REDIS, *plain, "--bind", "127.0.0.1", "--cluster-enabled", "yes",
            "--cluster-port", self.bus, "--cluster-node-timeout", "700",
            "--cluster-allow-replica-migration", "no", "--unixsocket", self.path, "--save", "",
            "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--dir", home,
            *(str(self.port) if word == "PORT" else word for word in self.options))
        self.redis = wait_for("a node", lambda: resp.connected(resp.Redis, self.path))

    def kill(self):
        self.program.signal(signal.SIGKILL)
        self.program.wait()
        os.unlink(self.path)

    def __call__(self, *words):
        return self.redis(*words)

    def id(self):
        return self("CLUSTER", "MYID").decode()

    def errors(self, kind):
        """How many commands were answered so."""
        stat = self.redis.info("errorstats").get(f"errorstat_{kind}", "count=0")
        return int(stat.partition("count=")[2])

    def info(self):
        text = self("CLUSTER", "INFO").decode()
        return dict(line.split(":", 1) for line in text.splitlines())


class Cluster:
    def __init__(self, rig, masters=3, replicas=0, options=()):
        self.masters = [Node(rig, *options) for _ in range(masters)]
        self.replicas = [Node(rig, *options) for _ in range(replicas)]
        self.all = self.masters + self.replicas
        each = SLOTS // masters + 1
        for i, node in enumerate(self.masters):
            node("CLUSTER", "ADDSLOTSRANGE", i * each, min(SLOTS, (i + 1) * each) - 1)
        for i, node in enumerate(self.all):
            node("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            node("CLUSTER", "MEET", "127.0.0.1", self.all[0].port, self.all[0].bus)
        for node in self.all:
            wait_for("the cluster", lambda n=node: n.info()["cluster_known_nodes"]
                     == str(len(self.all)), 15)
        for i, node in enumerate(self.replicas):
            node("CLUSTER", "REPLICATE", self.masters[i % masters].id())
        self.wait_ok()

    def wait_ok(self):
        for node in self.all:
            wait_for("the cluster", lambda n=node: n.info()["cluster_state"] == "ok", 15)
        for node in self.replicas:
            wait_for("a replica", lambda n=node:
                     n.redis.info("replication").get("master_link_status") == "up", 15)

    def seeds(self, nodes=None):
        """What 'redis' is in a configuration."""
        names = ", ".join(f"'127.0.0.1:{node.port}'" for node in nodes or self.masters)
        return f"{{cluster: [{names}]}}"

    def slot(self, part, fleet="default"):
        return self.all[-1]("CLUSTER", "KEYSLOT", f"{{rl:{fleet}:{part}}}:s")

    def owner(self, slot):
        for first, last, master, *_ in self.all[-1]("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(n for n in self.all if n.port == master[1])
        raise AssertionError(slot)

    def parts_of(self, node):
        return [p for p in range(PARTS) if self.owner(self.slot(p)) is node]


class Move:
    """A slot on its way from one node to another, step by step, as redis-cli does it."""

    def __init__(self, slot, source, target):
        self.slot, self.source, self.target = slot, source, target
        target("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id())
        source("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id())

    def keys(self, most=100):
        """Move as many, and say how many there were."""
        keys = self.source("CLUSTER", "GETKEYSINSLOT", self.slot, most)
        if keys:
            equal(self.source("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS",
                              *keys) in (b"OK", b"NOKEY"), True)
        return len(keys)

    def end(self):
        for node in self.target, self.source:
            node("CLUSTER", "SETSLOT", self.slot, "NODE", self.target.id())
