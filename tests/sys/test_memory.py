"""Goal: the counts in memory answer as the script in Redis does, to the last unit; what they
take is bounded, ends, and is given back; and a call that is refused changes nothing.
Method: random calls of hosts that are repeated, lost, cloned, restarted and malformed, with the
time in their headers, to both: every byte of every answer is compared. SEED=N repeats a run,
CALLS=N makes it longer. What test_script.py expects of the script is expected here as well,
test by test, where it does not look into Redis itself. "test_memory.py cost" prints what a key
costs, and tests nothing."""

import os
import random
import sys

import test_control_script as control_cases
import test_script as cases
from front import CLOCK, FLUSH, SWEEP, TOTAL, Front
from resp import Error
from rig import Rig, contains, equal, main
from test_script import (BATCH, CHAINED, FORGET, LEASE_MS, PUSH_ONLY, REPORT, Answer, Script,
                         item)

CALLS = int(os.environ.get("CALLS", 12000))
WORLDS = 24  # of hosts and keys of their own, one after the other


class Memory(Script):
    """What test_script.py has of the script, of the counts in memory."""

    def __init__(self, rig, tag=b"{rl:test:3}", **kwargs):
        self.tag, self.readers = tag, 0
        self.front = Front(**kwargs)
        self.redis = self.as_redis

    def batch(self, row, seq, items, now, host=None, words=None, nonce=None, flags=0,
              lease_ms=LEASE_MS):
        header = BATCH.pack(seq, nonce or b"n%07d" % (seq % 10**7), lease_ms, flags, now)
        return self.front.sync(self.tag, host or row.rsplit(":", 1)[0], row,
                               words or "host of " + row, header, items)

    def as_redis(self, word, *rest):
        """The few commands by which tests set the stage."""
        if word == "FLUSHALL":
            return self.front.use(FLUSH)
        if word == "GET":
            return b"%d" % self.front.use(TOTAL, self.tag, rest[0][len(self.tag) + 3:])["total"]
        raise AssertionError(f"no {word} here")

    def leases(self, name=b"k"):
        return self.front.leases(self.tag, name)


# Those of test_script.py that look at nothing but answers and leases.
ALIKE = """
two_live_hosts_with_one_id_learn_of_each_other
reboot_is_not_taken_for_a_second_host
live_counts_rows_seen_within_the_lease_time
old_lease_beside_a_new_epoch_is_charged_when_silent_and_leaves_w_later
lease_is_charged_one_moment_after_the_lease_time
host_back_after_its_lease_was_charged_restates_its_credit
group_leaves_exactly_w_after_its_last_unit
full_window_says_when_it_has_room
report_says_when_what_is_counted_leaves
report_of_a_host_that_had_a_lease_gives_it_back
leases_of_others_alone_ask_for_patience_within_t
near_the_limit_who_asks_alone_gets_all_that_is_left
units_are_placed_by_their_age_in_order
small_limit_is_an_exact_log
units_of_before_a_pause_leave_without_those_after_it
pauses_leave_groups_for_the_rest_of_the_limit
clock_that_was_ahead_and_is_set_right_blocks_for_one_window
restarted_server_without_data_accepts_any_sequence
chained_call_whose_predecessor_is_missing_is_told_so
random_hosts_losses_and_deaths_never_exceed_the_limit
waiting_callers_get_95_percent_and_fair_parts
quiet_fleet_is_not_refused
""".split()


def alike(name):
    def run(rig):
        cases.Script = Memory
        try:
            getattr(cases, "test_script__" + name)(rig)
        finally:
            cases.Script = Script
    run.__name__ = "test_memory__" + name
    return run


for _name in ALIKE:
    globals()["test_memory__" + _name] = alike(_name)


class Life:
    """One life of a host: what it would call with next."""

    def __init__(self, rand, name):
        self.row = "%s:%x" % (name, rand.randrange(2**40))
        self.words = "pid %d" % rand.randrange(10**5)
        self.seq = rand.choice((1, rand.randrange(2**20), 2**53 - 10**6))
        self.credit = {}
        self.last = None  # the arguments of its last call


class Kind:
    """A key: what hosts say of it."""

    def __init__(self, rand, number):
        self.name = b"k%d\0%s" % (number, b"x" * rand.randrange(100))
        self.limit = rand.choice((1, 2, 10, 30, 100, 100, 1000, 10**6, 2**32 - 1))
        self.window = rand.choice((10, 200, 1000, 1000, 60000, 86400000))
        self.interval = rand.choice((0, 1, 10, 20, 50, 100))
        self.blind = rand.choice((0, 0, 0, 1, self.limit // 20))


class Both:
    """The same calls to the script and to the memory."""

    def __init__(self, script, memory, rand, hosts, kinds):
        self.script, self.memory, self.rand = script, memory, rand
        self.names = ["h%d" % i for i in range(hosts)]
        self.lives = [Life(rand, name) for name in self.names]
        self.kinds = [Kind(rand, i) for i in range(kinds)]
        self.now, self.calls, self.granted, self.statuses = 10**9, 0, 0, {}

    def call(self, *args, **kwargs):
        replies = []
        for one in (self.script, self.memory):
            try:
                replies.append(one.batch(*args, **kwargs))
            except Error as error:
                replies.append(str(error)[:12])
        self.calls += 1
        if replies[0] != replies[1]:
            self.differ(replies, args, kwargs)
        return replies[0]

    def differ(self, replies, args, kwargs):
        rows = [[r if isinstance(r, str) else
                 r[:4] + [Answer(r[4][i:i + 32]) for i in range(0, len(r[4]), 32)]]
                for r in replies]
        raise AssertionError(f"call {self.calls}\n  {args} {kwargs}\n  script {rows[0]}\n  "
                             f"memory {rows[1]}")

    def amount(self, most):
        return self.rand.choice((0, 0, 1, self.rand.randrange(10), self.rand.randrange(most + 1)))

    def item(self, life, kind):
        rand, held = self.rand, life.credit.get(kind.name, 0)
        used = rand.choice((0, rand.randrange(held + 1), held))
        if rand.random() < 0.02:
            used += self.amount(kind.limit)  # an outage, or allow
        held -= min(used, held)
        if rand.random() < 0.1:
            held = rand.choice((0, held // 2, held + self.amount(kind.limit)))
        held = min(held, 2**32 - 1)
        life.credit[kind.name] = held
        flags = rand.choice((0,) * 12 + (PUSH_ONLY, REPORT, REPORT + PUSH_ONLY))
        pieces = []
        if rand.random() < 0.05:
            ages = sorted((self.amount(kind.window + 9) for _ in range(rand.randrange(1, 25))),
                          reverse=True)
            pieces = [(self.amount(kind.limit // 4), age) for age in ages]
        if rand.random() < 0.02:
            flags += FORGET
            pieces.append((rand.randrange(9), self.amount(kind.window + 5)))
        data = item(limit=kind.limit, window=kind.window, interval=kind.interval, units=used,
                    age=self.amount(kind.window + 5), credit=held,
                    demand=self.amount(max(used, kind.limit // 5)),
                    waiting=rand.choice((0, 0, 0, 1, min(self.amount(kind.limit), 2**31))),
                    blind=kind.blind if rand.random() < 0.9 else 0, flags=flags,
                    pieces=pieces, tag=rand.randrange(2**53))
        return kind.name, data

    def take(self, life, reply, items):
        for at, (name, _) in enumerate(items):
            answer = Answer(reply[4][32 * at:32 * at + 32])
            self.granted += answer.grant
            life.credit[name] = min(life.credit.get(name, 0) + answer.grant, 2**32 - 1)

    def fresh(self, life):
        life.seq += self.rand.choice((1, 1, 1, 1, 2, 17))
        kinds = self.rand.sample(self.kinds, self.rand.randrange(min(len(self.kinds), 6) + 1))
        items = [self.item(life, kind) for kind in kinds]
        life.last = (life.row, life.seq, items)
        reply = self.call(*life.last, self.now, words=life.words, lease_ms=self.lease)
        self.statuses[reply[0]] = self.statuses.get(reply[0], 0) + 1
        if reply[0] == 0 and self.rand.random() < 0.9:
            self.take(life, reply, items)
        elif reply[0] == 0:
            self.again(life)

    def again(self, life):
        """Lost: repeated as it was, or with other content under the same number."""
        if life.last is None:
            return
        row, seq, items = life.last
        if self.rand.random() < 0.3:
            items = [(name, self.item(life, next(k for k in self.kinds if k.name == name))[1])
                     for name, _ in items]
        reply = self.call(row, seq, items, self.now, words=life.words, lease_ms=self.lease)
        self.statuses[reply[0]] = self.statuses.get(reply[0], 0) + 1

    def odd(self, life):
        what = self.rand.randrange(6)
        if what == 0 and life.last:
            reply = self.call(life.row, life.seq - self.rand.randrange(2), [], self.now,
                              nonce=b"anothern", words=self.rand.choice(("a clone", life.words)))
            self.statuses[reply[0]] = self.statuses.get(reply[0], 0) + 1
        elif what == 1:
            self.call(life.row, life.seq + 1, [self.item(life, self.kinds[0])] * 2, self.now)
        elif what == 2:
            name, data = self.item(life, self.kinds[-1])
            self.call(life.row, life.seq + 1, [(name, data[:self.rand.randrange(64)])], self.now)
        elif what == 3:
            self.call(life.row, life.seq + 1, [], self.now, host="another")
        elif what == 4:
            life.seq += self.rand.choice((1, 1, 2, 9))
            reply = self.call(life.row, life.seq, [], self.now, words=life.words, flags=CHAINED)
            self.statuses[reply[0]] = self.statuses.get(reply[0], 0) + 1
        else:
            self.call("new%d:1" % self.calls, 1, [], self.now)

    def step(self):
        rand = self.rand
        self.lease = LEASE_MS if rand.random() < 0.95 else rand.choice((300, 60000))
        self.now += rand.choice((0, 0, 1, 1, rand.randrange(20), rand.randrange(300)))
        if rand.random() < 0.01:
            self.now += rand.choice((1000, 6000, 11000, 70000, -500, -1999, -2500, -10**6,
                                     rand.randrange(2 * 86400000)))
        number = rand.randrange(len(self.lives))
        life = self.lives[number]
        chance = rand.random()
        if chance < 0.03:
            self.again(life)
        elif chance < 0.05:
            self.odd(life)
        elif chance < 0.055:
            self.lives[number] = Life(rand, self.names[number])
        else:
            self.fresh(life)


def seeded():
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    print(f"# SEED={seed}", flush=True)
    return random.Random(seed)


def test_memory__random_calls_are_answered_byte_for_byte_as_by_the_script(rig):
    rand = seeded()
    script, memory = Script(rig), Memory(rig)
    calls, granted, statuses = 0, 0, {}
    for number in range(WORLDS):
        hosts, kinds = ((2, 1), (3, 3), (6, 8), (14, 2))[number % 4]
        both = Both(script, memory, rand, hosts, kinds)
        script.tag = memory.tag = b"{rl:test:%d}" % number
        while both.calls < CALLS // WORLDS:
            both.step()
        calls, granted = calls + both.calls, granted + both.granted
        statuses = {status: statuses.get(status, 0) + both.statuses.get(status, 0)
                    for status in (0, 1, 2, -1, -2)}
    print(f"# {calls} calls, {granted} granted, by status {statuses}", flush=True)
    assert granted > 0 and min(statuses.values()) > 0 and statuses[0] > CALLS // 2, statuses
    equal(memory.front.close(), 0)


class Swapped(control_cases.Control):
    """What test_control_script.py has of rl_control.lua, of the counts in memory."""

    def __init__(self, rig):
        self.front, self.memory = None, Memory(rig, tag=b"{t}")
        self.redis = self.as_redis

    def raw(self, row, request):
        return self.memory.front.control("{t}", row, request)

    def as_redis(self, word, *rest):
        """rl_sync.lua says who was seen when; nothing else of Redis is here."""
        raise AssertionError(f"no {word} here: {rest}")


def test_memory__documents_are_swapped_as_in_redis(rig):
    rand = seeded()
    both = control_cases.Control(rig), Swapped(rig)
    tips = [control_cases.tip(i) for i in range(6)] + [control_cases.NONE]
    for call in range(1500):
        if rand.random() < 0.01:
            tips = [control_cases.tip(100 * call + i) for i in range(6)] + [control_cases.NONE]
        row = "h%d:1" % rand.randrange(4)
        swap = None
        if rand.random() < 0.5:
            swap = (rand.randrange(2), rand.choice(tips), rand.choice(tips[:6]),
                    b"x" * rand.choice((0, 1, 100)))
        args = {"flags": rand.randrange(4), "known": (rand.choice(tips), rand.choice(tips)),
                "has": (rand.choice(tips), rand.choice(tips)), "swap": swap}
        for one in both:
            one.ask(row, **args)
        got = [(one.swapped, one.live, one.having, one.tip, one.text) for one in both]
        equal(got[1], got[0])
    for request in (b"", b"x" * 71, cases.struct.pack("<II", 1, 4) + b"0" * 64 + b"x" * 31):
        for one in both:
            try:
                raise AssertionError(one.raw("a:1", request))
            except Error as error:
                contains(str(error), "ERR rl_control")
    equal(both[1].memory.front.close(), 0)


def test_memory__reports_are_counted_of_rows_that_were_seen(rig):
    c = Swapped(rig)
    front, tip = c.memory.front, control_cases.tip
    c.ask("a:1", flags=control_cases.REPORT, swap=(0, control_cases.NONE, tip(1), b"text"))
    for number, row in enumerate(("a:1", "b:1", "c:1")):
        c.memory.batch(row, 1, [], 0)
        c.ask(row, flags=control_cases.REPORT, has=(tip(number % 2), control_cases.NONE))
    got = c.ask("a:1", flags=control_cases.COUNT, has=(tip(1), control_cases.NONE))
    equal((got.live, got.having), (3, [2, 3]))
    # Silent for 10 s, as this one asks: out, and told anew when they come again.
    front.clock += 10000
    c.memory.batch("b:1", 2, [], 0)
    equal(c.ask("a:1", flags=control_cases.COUNT, has=(tip(7), tip(7))).live, 3)
    front.clock += 1
    got = c.ask("a:1", flags=control_cases.COUNT, has=(tip(7), tip(7)))
    equal((got.live, got.having), (2, [1, 1]))
    # Texts outlive everything but the process, and count as room.
    front.clock += 10**10
    swept(c.memory)
    equal(c.ask("z:1").text, [b"text", b""])


def test_memory__text_without_room_is_refused_and_changes_nothing(rig):
    c = Swapped(rig)
    c.memory = Memory(rig, tag=b"{t}", max_bytes=50000)
    equal(c.ask(swap=(1, control_cases.NONE, control_cases.tip(1), b"x" * 30000)).swapped, 1)
    try:
        raise AssertionError(c.ask(swap=(1, control_cases.tip(1), control_cases.tip(2), b"y" * 30000)))
    except Error as error:
        contains(str(error), "OOM")
    equal(c.ask().tip[1], control_cases.tip(1))


def test_memory__more_hosts_than_a_key_in_redis_has_room_for_get_as_much(rig):
    """Redis keeps leases above 16 beside the key's string, and rounds them at other moments: a
    fraction of a unit may go either way. What is held in all is within L in both."""
    rand, script, memory = seeded(), Script(rig), Memory(rig)
    held, seq, apart = [{}, {}], 1, 0
    for call in range(1500):
        row, now = "h%d:1" % rand.randrange(40), 10**9 + 7 * call
        units = rand.randrange(3)
        counts = []
        for at, one in enumerate((script, memory)):
            spent = min(units, held[at].get(row, 0))
            got = one.sync(row, seq, now, limit=200, units=spent, demand=5,
                           credit=held[at].get(row, 0) - spent)
            held[at][row] = held[at].get(row, 0) - spent + got.grant
            counts.append((got.count, sum(held[at].values())))
            assert got.count + sum(held[at].values()) <= 200, (at, got, held[at])
        apart = max(apart, *(abs(a - b) for a, b in zip(*counts)))
        seq += 1
    print(f"# apart by {apart} of 200", flush=True)
    assert apart <= 10, apart
    equal(memory.front.close(), 0)


def test_memory__batch_sent_again_is_answered_alike_and_changes_nothing(rig):
    memory = Memory(rig)
    items = [(b"k\0\r\n\xff", item(units=7, demand=20, waiting=5, tag=2**53 - 1)),
             (b"other", item(units=3, blind=10, demand=3))]
    first = memory.batch("a:1", 5, items, 1000)
    equal(first[:4], [0, 1000, 1, b""])
    before = memory.front.use()
    for now in (1000, 1500, 9000):
        equal(memory.batch("a:1", 5, items, now), [1, now, 1, b"", first[4]])
        equal(memory.front.use(), before)
    # Another content under the same number and nonce is still the same batch.
    equal(memory.batch("a:1", 5, [(b"x", item(units=9))], 1500)[4], first[4])
    equal(memory.sync("a:1", 6, 1500, name=b"k\0\r\n\xff", flags=PUSH_ONLY).count, 7)


def test_memory__two_fleets_and_partitions_do_not_meet(rig):
    memory = Memory(rig)
    equal(memory.sync("a:1", 1, 1000, waiting=60).grant, 60)
    memory.tag = b"another"
    equal(memory.sync("b:1", 1, 1000, waiting=100).grant, 100)
    equal(memory.front.use()["rows"], 2)


def test_memory__keys_end_when_what_they_hold_cannot_matter_any_more(rig):
    memory = Memory(rig)
    for window, lease_ms in ((10, 60000), (1000, LEASE_MS), (86400000, LEASE_MS)):
        lives = 2 * window + max(lease_ms, 10000) + 5000
        for late, count in ((-1, 7), (0, 0)):
            memory.front.clock = CLOCK
            memory.front.use(FLUSH)
            memory.batch("a:1", 1, [(b"k", item(window=window, units=7))], 1000,
                         lease_ms=lease_ms)
            memory.front.clock += lives + late
            equal(memory.count(1000, window=window), count)
    # Also one that holds nothing but a lease, and is restated and nothing else.
    memory.front.use(FLUSH)
    memory.sync("a:1", 1, 1000, waiting=9)
    memory.front.clock += 16900
    equal(memory.sync("a:1", 2, 6000, credit=9).grant, 0)
    memory.front.clock += 16999
    equal(memory.sync("b:1", 1, 6000, flags=PUSH_ONLY).others, 9)
    memory.front.clock += 1
    equal(memory.sync("b:1", 2, 6000, flags=PUSH_ONLY).others, 0)


def swept(memory):
    """Until all lists were looked at."""
    for _ in range(64):
        use = memory.front.use(SWEEP)
    return use


def test_memory__what_has_ended_is_given_back(rig):
    memory = Memory(rig)
    empty = memory.front.use()["bytes"]
    for seq in range(50):
        memory.batch("h%d:1" % (seq % 5), seq + 1,
                     [(b"k%d-%d" % (seq, i), item(units=1, waiting=2)) for i in range(64)], 1000)
    equal(swept(memory)["keys"], 3200)
    memory.front.clock += 2000 + 15000 - 1
    equal(swept(memory)["keys"], 3200)
    memory.front.clock += 1
    use = swept(memory)
    equal((use["keys"], use["rows"]), (0, 5))
    # Who called, and a partition that nobody calls, after a day.
    memory.front.clock += 86400000 - 17000 - 1
    equal(swept(memory)["rows"], 5)
    memory.front.clock += 1
    use = swept(memory)
    equal((use["rows"], use["bytes"]), (0, empty))
    equal(memory.front.close(), 0)


def test_memory__rows_silent_for_a_day_are_removed_two_each_sixteenth_call(rig):
    memory = Memory(rig)
    for name in "abcde":
        memory.batch(name + ":1", 1, [], 1000)
    memory.batch("e:2", 1, [], 2000)
    memory.batch("f:1", 1, [], 1000 + 86400000)
    for seq, left in ((15, 7), (16, 5), (31, 5), (32, 3), (48, 2), (64, 2)):
        memory.batch("f:1", seq, [], 1001 + 86400000)
        equal(memory.front.use()["rows"], left)
    # "e" is known by its younger row: that of before is gone.
    equal(memory.batch("e:2", 1, [], 1002 + 86400000)[0], 1)
    equal(memory.batch("d:1", 1, [], 1002 + 86400000, nonce=b"another1")[0], 0)


def test_memory__full_memory_refuses_and_changes_nothing(rig):
    memory = Memory(rig, max_bytes=60000)
    equal(memory.sync("a:1", 1, 1000, waiting=5, units=3).count, 3)
    seq, refused = 2, 0
    while not refused:
        before = memory.front.use()
        try:
            memory.batch("a:1", seq, [(b"%d-%d" % (seq, i), item(units=1)) for i in range(9)],
                         1000)
            seq += 1
        except Error as error:
            contains(str(error), "OOM")
            refused = seq
    after = memory.front.use()
    equal(after["refused"], 1)
    equal([after[name] for name in ("keys", "rows")], [before[name] for name in ("keys", "rows")])
    assert after["bytes"] <= 60000, after
    assert 100 < after["keys"] < 600, after
    # Whoever calls of what is there is served; a row that is new is not.
    equal(memory.sync("a:1", seq, 1000, units=1, credit=2).count, 4)
    try:
        for number in range(99):
            memory.batch("h%d:1" % number, 1, [], 1000)
        raise AssertionError("99 more rows")
    except Error as error:
        contains(str(error), "OOM")
    # There is room again when something has ended.
    memory.front.clock += 20000
    swept(memory)
    equal(memory.batch("a:1", seq + 1, [(b"x%d" % i, item(units=1)) for i in range(64)], 1000)[0], 0)


def test_memory__malformed_call_is_an_error_and_changes_nothing(rig):
    memory = Memory(rig)
    memory.sync("a:1", 1, 1000, units=5)
    before = memory.front.use()
    good = ("a:1", 2, [(b"k", item(units=5))], 1100)
    for args, kwargs in ((good, {"host": "b"}), (good, {"host": "a" * 70}),
                         (("a:" + "1" * 200, 2, [], 1100), {}), (good, {"words": "x" * 300}),
                         (("a:1", 2, [(b"k", item())] * 2, 1100), {}),
                         (("a:1", 2, [(b"k", item()[:-1])], 1100), {}),
                         (("a:1", 2, [(b"k", item() + bytes(16 * 26))], 1100), {}),
                         (("a:1", 2, [(b"k" * 257, item())], 1100), {}),
                         (("a:1", 2, [(b"%d" % i, item()) for i in range(65)], 1100), {}),
                         (("a:1", 2, [], 2**44), {})):
        try:
            raise AssertionError(memory.batch(*args, **kwargs))
        except Error as error:
            contains(str(error), "ERR rl_sync")
        equal(memory.front.use(), before)
    equal(memory.batch(*good)[0], 0)


def cost(rig):
    """us of processor a key, of a call of 64 near the limit: the memory's process and Redis's, in
    turns, so that both have the same neighbours. What they read and answer counts in both."""
    script, memory = Script(rig), Memory(rig)
    pids = rig.started[-1].pid, memory.front.process.pid

    def busy_ns(pid):
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[0])
    items = [(b"key-%d" % i, item(limit=170, units=3, age=5, credit=2, demand=12))
             for i in range(64)]
    spent, now, calls = ([], []), 10**6, 100
    for turn in range(12):
        for one, pid, ns in zip((script, memory), pids, spent):
            before = busy_ns(pid)
            for call in range(calls):
                one.batch("%s:1" % "abc"[call % 3], turn * calls + call + 1, items,
                          now + 20 * call)
            ns.append((busy_ns(pid) - before) / calls / 64)
        now += 20 * calls
    script_us, memory_us = (sorted(ns)[len(ns) // 2] / 1000 for ns in spent)
    print(f"script {script_us:.2f} us a key, memory {memory_us:.2f}: {script_us / memory_us:.0f} "
          f"times as much")


if __name__ == "__main__":
    if sys.argv[1:] == ["cost"]:
        private = Rig()
        try:
            cost(private)
        finally:
            private.close()
    else:
        main()
