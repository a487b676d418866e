"""Goal: the script that keeps what a fleet is told swaps one text for another as a whole or not at
all, once however often it is sent, tells who does not know the new one, and counts who goes by it;
what others wrote into its keys is refused or mended, and never stops it.
Method: a private redis-server; the requests' bytes are made here."""

import os
import random
import struct

from resp import Error, start
from rig import contains, equal, main

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                      "../../agent/store/rl_control.lua")
NONE = b"0" * 16
COUNT, REPORT, SWAP = 1, 2, 4
ANSWER = struct.Struct("<QIIII16s16sII")


class Control:
    def __init__(self, rig):
        self.redis = start(rig)
        with open(SOURCE, "rb") as f:
            self.sha = self.redis("SCRIPT", "LOAD", f.read())

    def raw(self, row, request):
        return self.redis("EVALSHA", self.sha, 3, "{t}:c", "{t}:r", "{t}:h",
                          row.split(":")[0], row, "words", request)

    def ask(self, row="a:1", flags=0, known=(NONE, NONE), has=(NONE, NONE), swap=None):
        """swap: document, expected tip, new tip, text."""
        more = b""
        if swap:
            flags += SWAP << swap[0]
            more = swap[1] + swap[2] + swap[3]
        reply = self.raw(row, struct.pack("<II", 10000, flags) + b"".join(known + has) + more)
        (self.now, self.swapped, self.live, orders, rules, *tips, size, _) = ANSWER.unpack_from(reply)
        self.having, self.tip = [orders, rules], tips
        self.text = [reply[ANSWER.size:ANSWER.size + size], reply[ANSWER.size + size:]]
        return self

    def state(self):
        return {key: self.redis("HGETALL", key) for key in self.redis("KEYS", "*")}


def tip(number):
    return b"%016d" % number


def test_control_script__swap_needs_the_tip_that_is_there_and_is_done_once(rig):
    c = Control(rig)
    equal(c.ask().tip, [NONE, NONE])
    equal(c.ask(swap=(0, NONE, tip(1), b"one")).swapped, 1)
    equal((c.tip, c.text), ([tip(1), NONE], [b"", b""]))
    equal(c.ask(swap=(0, NONE, tip(1), b"one")).swapped, 1)  # sent again
    c.ask("b:1", swap=(0, NONE, tip(2), b"two"))  # at once: the second is told, and what is there
    equal((c.swapped, c.tip[0], c.text[0]), (2, tip(1), b"one"))
    equal(c.ask("b:1", swap=(0, tip(1), tip(2), b"two\0\xff")).swapped, 1)
    equal(c.ask(known=(tip(1), NONE)).text, [b"two\0\xff", b""])
    equal(c.ask(known=(tip(2), NONE)).text, [b"", b""])
    equal(c.ask(swap=(1, NONE, tip(9), b"rules"), known=(tip(2), NONE)).tip, [tip(2), tip(9)])
    equal(c.ask(known=(tip(2), tip(8))).text, [b"", b"rules"])


def test_control_script__counts_the_live_rows_that_go_by_what_is_there(rig):
    c = Control(rig)
    c.ask(swap=(0, NONE, tip(1), b"x"))
    now = c.now
    for row, age in (("a:1", 0), ("b:1", 9000), ("c:1", 11000)):
        c.redis("ZADD", "{t}:h", now - age, row)
    for row in ("b:1", "c:1"):
        c.ask(row, flags=REPORT, has=(tip(1), NONE))
    c.ask(flags=COUNT, has=(tip(1), NONE))  # its own word is newer than any report
    equal((c.live, c.having), (2, [2, 2]))
    equal(c.redis("HKEYS", "{t}:r"), [b"b:1"])
    equal(c.ask("d:1", flags=COUNT).live, 3)  # one that no call has shown yet
    equal(c.having, [1, 2])
    assert 50000 < c.redis("PTTL", "{t}:r") <= 60000


def test_control_script__what_others_wrote_is_refused_or_mended(rig):
    c = Control(rig)
    c.redis("SET", "{t}:r", "x")
    c.redis("SET", "{t}:h", "x")
    c.ask(flags=COUNT)
    equal((c.live, c.having), (1, [1, 1]))
    c.ask(flags=COUNT + REPORT, has=(tip(1), NONE))
    equal(c.redis("HLEN", "{t}:r"), 1)
    for words, what in ((("SET", "{t}:c", "x"), "no hash"),
                        (("HSET", "{t}:c", "t0", "short"), "a tip that is none"),
                        (("HSET", "{t}:c", "t1", tip(5), "1", "x" * 1048577),
                         "a text of 1048577 bytes")):
        c.redis("DEL", "{t}:c")
        c.redis(*words)
        before = c.redis("DUMP", "{t}:c")
        try:
            c.ask()
            raise AssertionError("not refused")
        except Error as error:
            contains(str(error), "RLCONTROL {t}:c holds " + what)
        equal(c.redis("DUMP", "{t}:c"), before)
    c.redis("DEL", "{t}:c")
    c.redis("HSET", "{t}:c", "t0", tip(5))  # a tip without its text
    equal(c.ask().text, [b"", b""])


def test_control_script__no_request_breaks_it(rig):
    c = Control(rig)
    seed = random.randrange(1 << 32)
    print(f"# SEED={seed}")
    rng = random.Random(seed)
    c.ask(swap=(0, NONE, tip(1), b"x"))
    for _ in range(2000):
        try:
            c.raw("a:1", rng.randbytes(rng.choice((0, 71, 72, 73, 103, 104, 105, 200))))
        except Error as error:
            contains(str(error), "ERR rl_control:")
    assert c.redis("HGET", "{t}:c", "0") == b"x"  # nobody guesses a tip


if __name__ == "__main__":
    main()
