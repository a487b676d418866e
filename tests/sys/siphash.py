"""SipHash-1-3 with 128 bits of result (Aumasson, Bernstein, 2012), for files that a test changes."""

MASK = (1 << 64) - 1


def _turn(x, bits):
    return (x << bits | x >> (64 - bits)) & MASK


def _round(a, b, c, d):
    a, c = (a + b) & MASK, (c + d) & MASK
    b, d = _turn(b, 13) ^ a, _turn(d, 16) ^ c
    a = _turn(a, 32)
    c, a = (c + b) & MASK, (a + d) & MASK
    b, d = _turn(b, 17) ^ c, _turn(d, 21) ^ a
    return a, b, _turn(c, 32), d


def siphash(data, key=(0, 0)):
    """16 bytes."""
    v = (key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d ^ 0xee,
         key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573)
    whole = len(data) // 8 * 8
    last = data[whole:] + bytes(7 - len(data) % 8) + bytes([len(data) & 0xff])
    for i in range(0, whole + 8, 8):
        word = int.from_bytes((data[:whole] + last)[i:i + 8], "little")
        v = _round(v[0], v[1], v[2], v[3] ^ word)
        v = (v[0] ^ word, *v[1:])
    v = (v[0], v[1], v[2] ^ 0xee, v[3])
    out = b""
    for turn in range(2):
        for _ in range(3):
            v = _round(*v)
        out += (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")
        v = (v[0], v[1] ^ 0xdd, v[2], v[3])
    return out
