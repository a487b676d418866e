"""What the script keeps in Redis, read as agent/store/rl_sync.lua writes it (FORMAT 3)."""

import hashlib
import struct

GROUP, K = 10, 32
ROOM = 16  # leases in a key's string
SPILLED = 32  # added to their number: there are more in the hash beside it


class Record:
    """struct.Struct that knows numbers of six bytes, too ("6s" in its format)."""

    def __init__(self, form, sixes):
        self.struct, self.sixes, self.size = struct.Struct(form), sixes, struct.calcsize(form)

    def pack(self, *fields):
        return self.struct.pack(*(field.to_bytes(6, "little") if i in self.sixes else field
                                  for i, field in enumerate(fields)))

    def unpack_from(self, data, at=0):
        return tuple(int.from_bytes(field, "little") if i in self.sixes else field
                     for i, field in enumerate(self.struct.unpack_from(data, at)))


# format, leases, places of the ring, the oldest's, groups, second of the last look, units in the
# window, leases of all, demand and its time, time and units of the newest group
HEAD = Record("<BBBBBB6s6sf6s6sI", (6, 7, 9, 10))
LEASE = Record("<If6s8s", (2,))  # credit, demand, its time, the row's id


def leases(redis, tag, name):
    """Row -> what it holds of tag:k:name, from the key's string and from the hash beside it."""
    names = {}
    for row in redis("ZRANGE", tag + b":h", 0, -1):
        words = struct.unpack(">II", hashlib.sha1(row).digest()[:8])
        names[struct.pack("<II", *words)] = row.decode()
    data = redis("GET", tag + b":k:" + name) or bytes(HEAD.size)
    result = {}
    for at in range(HEAD.size, HEAD.size + LEASE.size * (data[1] % SPILLED), LEASE.size):
        held, _, _, row = LEASE.unpack_from(data, at)
        result[names[row]] = held
    flat = redis("HGETALL", tag + b":l:" + name)
    result.update({row.decode(): struct.unpack("<I", data[:4])[0]
                   for row, data in zip(flat[::2], flat[1::2])})
    return result
