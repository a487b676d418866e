"""What the script keeps in Redis, read as agent/store/rl_sync.lua writes it (FORMAT 2)."""

import hashlib
import struct

HEAD, LEASE, GROUP, K = struct.Struct("<BBBHddfdffHII"), struct.Struct("<8sIfd"), 10, 32
ROOM = 16  # leases in a key's string


def leases(redis, tag, name):
    """Row -> what it holds of tag:k:name, from the key's string and from the hash beside it."""
    names = {}
    for row in redis("ZRANGE", tag + b":h", 0, -1):
        words = struct.unpack(">II", hashlib.sha1(row).digest()[:8])
        names[struct.pack("<II", *words)] = row.decode()
    data = redis("GET", tag + b":k:" + name) or bytes(HEAD.size)
    result = {}
    for at in range(HEAD.size, HEAD.size + LEASE.size * data[1], LEASE.size):
        row, held, _, _ = LEASE.unpack_from(data, at)
        result[names[row]] = held
    flat = redis("HGETALL", tag + b":l:" + name)
    result.update({row.decode(): struct.unpack("<I", data[:4])[0]
                   for row, data in zip(flat[::2], flat[1::2])})
    return result
