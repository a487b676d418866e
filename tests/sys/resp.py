"""A private redis-server on a unix socket, and the little RESP2 that the tests speak to it. With
STORE=url in the environment it is that backend of the store, behind tests/store/store_bridge.c:
then a test that looks at what Redis itself holds is skipped there."""

import os
import socket

from rig import BUILD, REDIS, STORE, Skip, need, wait_for


class Error(Exception):
    """An error reply."""


def start(rig, *options):
    """Start a server that stores nothing and listens on no port; a connection to it."""
    path = rig.path("redis.sock")
    if STORE:
        bridge = rig.path("bridge.sock")
        rig.start(os.path.join(BUILD, "tests/store_bridge"), STORE.format(dir=rig.dir), bridge)
        return wait_for("the bridge", lambda: connected(Bridged, bridge))
    need(REDIS, "redis-server")
    rig.start(REDIS, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no",
              "--dir", rig.dir, *options)
    return wait_for("redis-server", lambda: connected(Redis, path))


def connected(kind, path):
    try:
        return kind(path)
    except OSError:
        return None


class Redis:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(30)
        self.file = self.socket.makefile("rb")

    @staticmethod
    def encode(words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        return b"".join(parts)

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.file.read(size + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        raise Error(rest.decode(errors="replace") if line else "closed")

    def __call__(self, *words):
        self.socket.sendall(self.encode(words))
        return self.read()

    def info(self, section):
        text = self("INFO", section).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


class Unseen:
    """What a Redis would have shown. Compared with anything it is no fault; whoever needs more of it
    is about Redis."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def _ask(self, *_):
        raise Skip(f"is about what Redis holds, and this is {STORE}")

    __iter__ = __len__ = __getitem__ = __int__ = __lt__ = __gt__ = __getattr__ = _ask


class Bridged(Redis):
    """What store_bridge.c understands; a test that changes more is about Redis."""

    def __call__(self, *words):
        if words[0] not in ("SCRIPT", "EVALSHA", "FLUSHALL"):
            raise Skip(f"is about what Redis holds ({words[0]}), and this is {STORE}")
        return super().__call__(*words)
