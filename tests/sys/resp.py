"""A private redis-server on a unix socket, and the little RESP2 that the tests speak to it."""

import os
import socket

from rig import need, wait_for

SERVER = os.environ.get("REDIS_SERVER", "redis-server")


class Error(Exception):
    """An error reply."""


def start(rig, *options):
    """Start a server that stores nothing and listens on no port; a connection to it."""
    need(SERVER, "redis-server")
    path = rig.path("redis.sock")
    rig.start(SERVER, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no",
              "--dir", rig.dir, *options)

    def connected():
        try:
            return Redis(path)
        except OSError:
            return None
    return wait_for("redis-server", connected)


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
