"""The counts in memory (agent/memory) behind a pipe, called as test_script.py calls the script."""

import os
import struct
import subprocess

from resp import Error
from rig import BUILD

FRONT = os.path.join(BUILD, "tests/memory/front")
SYNC, SWEEP, FLUSH, USE, TOTAL, LEASES, CONTROL = range(1, 8)
CLOCK = 10**12  # ms; what is not told another time happens then


def data_of(text):
    return text if isinstance(text, bytes) else str(text).encode()


class Front:
    def __init__(self, max_bytes=64 << 20):
        self.clock = CLOCK
        self.process = subprocess.Popen([FRONT, str(max_bytes)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def close(self):
        """0 when all was well, to the last free()."""
        self.process.stdin.close()
        return self.process.wait(timeout=30)

    def ask(self, what, *texts, head=b""):
        body = b"".join([struct.pack("<Id", what, self.clock), head]
                        + [struct.pack("<I", len(text)) + text for text in texts])
        self.process.stdin.write(struct.pack("<I", len(body)) + body)
        self.process.stdin.flush()
        size, = struct.unpack("<I", self.process.stdout.read(4))
        return self.process.stdout.read(size)

    def sync(self, part, host, row, words, header, items):
        """The script's answer, or its error; items are (name, bytes) pairs."""
        texts = [data_of(text) for text in (part, host, row, words, header)]
        for name, item in items:
            texts += [data_of(name), item]
        return self.parts(self.ask(SYNC, *texts, head=struct.pack("<I", len(items))))

    def control(self, part, row, request):
        """The answer of rl_control.lua, or its error."""
        texts = [data_of(text) for text in (part, row.split(":")[0], row, "words", request)]
        return self.parts(self.ask(CONTROL, *texts))[4]

    @staticmethod
    def parts(reply):
        numbers, at, parts = struct.unpack("<qqq", reply[:24]), 24, []
        while at < len(reply):
            size, = struct.unpack_from("<I", reply, at)
            parts.append(reply[at + 4:at + 4 + size])
            at += 4 + size
        if parts[0]:
            raise Error(parts[0].decode())
        return [*numbers, *parts[1:]]

    def use(self, what=USE, *texts):
        """{keys, rows, bytes, refused, total}"""
        names = ("keys", "rows", "bytes", "refused", "total")
        return dict(zip(names, struct.unpack("<QQQQQ", self.ask(what, *texts))))

    def leases(self, part, name):
        """Row -> what it holds."""
        reply, at, result = self.ask(LEASES, data_of(part), data_of(name)), 0, {}
        while at < len(reply):
            held, size = struct.unpack_from("<II", reply, at)
            result[reply[at + 8:at + 8 + size].decode()] = held
            at += 8 + size
        return result
