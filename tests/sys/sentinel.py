"""A primary with replicas and the Sentinels that watch them, on free loopback ports; and a Sentinel
that says what a test wants."""

import os
import socket
import threading

import resp
from rig import REDIS, free_port, need, wait_for

NAME = "shop"
DOWN_AFTER_MS = 500


class Tcp(resp.Redis):
    """A connection to a port of 127.0.0.1."""

    def __init__(self, port):  # pylint: disable=super-init-not-called
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")


class Server:
    """A redis-server on a port, started again at the same one."""

    def __init__(self, rig, *options):
        need(REDIS, "redis-server")
        self.rig = rig
        self.port = free_port()
        self.options = options
        self.start()

    def start(self):
        self.program = self.rig.start(
            REDIS, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", self.rig.dir, "--dbfilename", f"{self.port}.rdb", "--repl-diskless-sync",
            "yes", "--repl-diskless-sync-delay", "0", *self.options)
        self.wait()

    def wait(self):
        def there():
            assert self.program.running(), self.program.output()
            try:
                self.connect()("PING")
            except resp.Error:
                pass  # it wants a password
            except OSError:
                return False
            return True
        wait_for("a server", there)

    def connect(self):
        return Tcp(self.port)

    def signal(self, number):
        self.program.signal(number)

    def role(self):
        return self.connect()("ROLE")[0].decode()


class Sentinel(Server):
    def __init__(self, rig, text):
        self.text = text
        super().__init__(rig)

    def start(self):
        path = os.path.join(self.rig.dir, f"sentinel-{self.port}.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"port {self.port}\nbind 127.0.0.1\ndir {self.rig.dir}\n{self.text}")
        self.program = self.rig.start(REDIS, path, "--sentinel")
        self.wait()

    def master(self):
        """What it says of the primary, by name."""
        flat = self.connect()("SENTINEL", "MASTER", NAME)
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def port_of_master(self):
        return int(self.connect()("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])


class Group:
    """One primary, one replica that is in step, Sentinels that know of each other: they are told, as
    to find out takes them seconds."""

    def __init__(self, rig, sentinels=3, options=()):
        self.primary = Server(rig, *options)
        self.replica = Server(rig, "--replicaof", "127.0.0.1", self.primary.port, *options)
        self.sentinels = [Sentinel(rig, "") for _ in range(0)]
        ports = [free_port() for _ in range(sentinels)]
        for index, port in enumerate(ports):
            others = "".join(f"sentinel known-sentinel {NAME} 127.0.0.1 {p} {i + 1:040x}\n"
                             for i, p in enumerate(ports) if i != index)
            sentinel = Sentinel.__new__(Sentinel)
            sentinel.rig, sentinel.port, sentinel.options = rig, port, ()
            sentinel.text = (
                f"sentinel myid {index + 1:040x}\n"
                f"sentinel monitor {NAME} 127.0.0.1 {self.primary.port} {sentinels // 2 + 1}\n"
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {NAME} 3000\n"
                f"sentinel known-replica {NAME} 127.0.0.1 {self.replica.port}\n{others}")
            sentinel.start()
            self.sentinels.append(sentinel)
        wait_for("the replica", lambda: self.replica.connect().info("replication").get(
            "master_link_status") == "up")
        for sentinel in self.sentinels:
            wait_for("a Sentinel that is ready", lambda s=sentinel: self.is_ready(s, sentinels))

    @staticmethod
    def is_ready(sentinel, count):
        told = sentinel.master()
        flat = sentinel.connect()("SENTINEL", "REPLICAS", NAME)
        replica = dict(zip(flat[0][::2], flat[0][1::2])) if flat else {}
        return (told["flags"] == "master" and int(told["num-other-sentinels"]) == count - 1
                and replica.get(b"flags") == b"slave"
                and replica.get(b"master-link-status") == b"ok")

    def url(self):
        return "sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels) + f"/{NAME}"


def bulk(word):
    data = str(word).encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(*words):
    return b"*%d\r\n%s" % (len(words), b"".join(bulk(word) for word in words))


class FakeSentinel:
    """Says that the primary is at this port, by this epoch. port None: it watches none of that name.
    silent: it takes questions and says nothing."""

    def __init__(self, port, epoch=1, others=()):
        self.primary, self.epoch, self.others = port, epoch, list(others)
        self.silent = False
        self.asked = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        file = connection.makefile("rb")
        try:
            while True:
                line = file.readline()
                if not line:
                    return
                words = []
                for _ in range(int(line[1:])):
                    words.append(file.read(int(file.readline()[1:]) + 2)[:-2].decode())
                if self.silent:
                    continue
                connection.sendall(self._answer([word.upper() for word in words]))
        except (OSError, ValueError):
            pass
        finally:
            connection.close()

    def _answer(self, words):
        if words[0] == "PING":
            return b"+PONG\r\n"
        if words[1] == "SENTINELS":
            return b"*%d\r\n%s" % (len(self.others), b"".join(
                array("ip", "127.0.0.1", "port", port, "flags", "sentinel")
                for port in self.others))
        self.asked += 1
        if self.primary is None:
            return b"*-1\r\n" if "ADDR" in words[1] else b"-ERR No such master with that name\r\n"
        if words[1] == "MASTER":
            return array("name", NAME, "flags", "master", "config-epoch", self.epoch)
        return array("127.0.0.1", self.primary)
