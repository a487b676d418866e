"""A Redis that knows the commands of GREETING and EVALSHA only, and answers syncs as a test wants.

Formats: the head of agent/store/rl_sync.lua.
"""

import os
import socket
import struct
import threading


def bulk(data):
    return b"$%d\r\n%s\r\n" % (len(data), data)


def answer(tag, grant=1, flags=0, retry=0, count=0, others=0):
    return struct.pack("<QIIIIII", tag, grant, flags, retry, count, others, 0)


def reply(answers, status=0, hosts=1, other=b"", now=1):
    return (b"*5\r\n:%d\r\n:%d\r\n:%d\r\n" % (status, now, hosts)) + bulk(other) + bulk(b"".join(answers))


INFO = b"redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n"
# To rl_control.lua: nothing was ever ordered.
NO_ORDERS = bulk(struct.pack("<QIIII16s16sII", 1, 0, 0, 0, 0, b"0" * 16, b"0" * 16, 0, 0))
# What a connection begins with: what it is, the script, and the question what that may do.
GREETING = {"INFO": bulk(INFO), "SCRIPT": bulk(b"a" * 40), "EVAL": b"*0\r\n"}


class Applied(bytes):
    """A reply to a call that has been applied: its units are counted as reported."""


def sane(tags, grant=1):
    """Every key gets a grant."""
    return Applied(reply([answer(tag, grant) for tag in tags]))


class FakeRedis:
    """answers: a function of the tags of a call that returns the bytes of the reply, or None
    for none: then the connection is silent from there on, as replies come in order. A call that
    was Applied is answered so again. reported: units of all such calls. path None: it is on a
    loopback port."""

    def __init__(self, path, answers=sane):
        self.answers = answers
        self.greeting = dict(GREETING)
        self.calls = 0
        self.reported = 0
        self.applied = {}
        self.lock = threading.Lock()
        self.key = None  # the first of the call that is being answered
        if path is None:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        else:
            if os.path.exists(path):
                os.unlink(path)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts, who would take the next fd
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _command(file):
        line = file.readline()
        words = []
        for _ in range(int(line[1:]) if line else 0):
            size = int(file.readline()[1:])
            words.append(file.read(size + 2)[:-2])
        return words

    def _serve(self, connection):
        file = connection.makefile("rb")
        try:
            while True:
                words = self._command(file)
                if not words:
                    return
                data = self.greeting.get(words[0].decode()) or self._sync(words)
                if data is None:
                    file.read()
                    return
                connection.sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            connection.close()

    def _sync(self, words):
        keys = int(words[2])
        if not words[3].endswith(b"}:s"):  # no sync
            return NO_ORDERS
        arguments = words[3 + keys:]
        items, at = [], 0  # offsets
        while at < len(arguments[4]):
            items.append(at)
            at += 64 + 16 * (struct.unpack_from("<I", arguments[4], at + 60)[0] >> 8)
        tags = [struct.unpack_from("<Q", arguments[4], item + 20)[0] for item in items]
        with self.lock:
            self.calls += 1
            self.key = words[3]
            call = (arguments[1], words[3], arguments[3][:16])  # row, partition, number and nonce
            data = self.applied.get(call) or self.answers(tags)
            if isinstance(data, Applied) and call not in self.applied:
                self.applied[call] = data
                self.reported += sum(struct.unpack_from("<Q", arguments[4], item + 28)[0]
                                     for item in items)
        return data
