"""Goal: the fault proxy of the tests does to a connection what it was told, and nothing else.
Method: a private redis-server behind it; the value it keeps tells what was applied."""

import os
import socket
import time

from rig import BUILD, REDIS, contains, equal, free_port, main, need, wait_for

PROXY = os.path.join(BUILD, "tests", "fault_proxy")


def connect(at, timeout=10):
    family = socket.AF_UNIX if isinstance(at, str) else socket.AF_INET
    s = socket.socket(family)
    s.settimeout(timeout)
    s.connect(at)
    return s


def connects(at):
    try:
        connect(at).close()
        return True
    except OSError:
        return False


class Client:
    """One connection, RESP by hand: what comes is looked at byte by byte."""

    def __init__(self, at, timeout=10):
        self.socket = connect(at, timeout)

    def send(self, *commands):
        """All of them in one piece."""
        lines = []
        for words in (command.split() for command in commands):
            lines.append(f"*{len(words)}")
            for word in words:
                lines += [f"${len(word)}", word]
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError(f"closed after {data!r}")
            data += more
        return data

    def ask(self, command, want):
        self.send(command)
        equal(self.read(len(want)), want)

    def to_the_end(self):
        """All bytes up to the end of the connection, a reset included."""
        data = b""
        while True:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                return data
            if not more:
                return data
            data += more

    def is_silent(self, seconds):
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1)
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)


class Proxy:
    def __init__(self, rig, tcp=False):
        need(REDIS, "redis-server")
        self.redis = rig.path("redis")
        rig.start(REDIS, "--port", 0, "--unixsocket", self.redis, "--save", "",
                  "--appendonly", "no", "--dir", rig.dir)
        wait_for("redis-server", lambda: connects(self.redis))
        self.at = ("127.0.0.1", free_port()) if tcp else rig.path("proxy")
        listen = f"127.0.0.1:{self.at[1]}" if tcp else self.at
        rig.start(PROXY, listen, self.redis, rig.path("control"))
        wait_for("the proxy", lambda: connects(rig.path("control")))
        self.control = connect(rig.path("control")).makefile("rw")

    def tell(self, line):
        self.control.write(line + "\n")
        self.control.flush()
        return self.control.readline().rstrip("\n")

    def do(self, line):
        equal(self.tell(line), "ok")

    def stats(self):
        words = self.tell("stats").split()
        return {name: int(value) for name, value in (w.split("=") for w in words)}

    def client(self):
        return Client(self.at)

    def value(self, key):
        """As the server itself says, past the proxy."""
        client = Client(self.redis)
        client.send(f"GET {key}")
        client.send("QUIT")
        return client.to_the_end().split(b"\r\n")[1]


def test_proxy__passes_everything_on_when_told_nothing(rig):
    for tcp in (False, True):
        proxy = Proxy(rig, tcp)
        client = proxy.client()
        client.ask("INCR a", b":1\r\n")
        client.ask("GET a", b"$1\r\n1\r\n")
        client.ask("GET nothing", b"$-1\r\n")
        client.ask("SET long " + "x" * 3000000, b"+OK\r\n")
        client.ask("GET long", b"$3000000\r\n" + b"x" * 3000000 + b"\r\n")
        client.ask("EVAL return{1,{'a',''},{},false} 0",
                   b"*4\r\n:1\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n*0\r\n$-1\r\n")
        equal(proxy.stats(), {"connections": 1, "replies": 6, "dropped": 0, "halved": 0,
                              "garbage": 0, "cut": 0})
        client.ask("QUIT", b"+OK\r\n")
        equal(client.to_the_end(), b"")
        for program in rig.started:
            program.stop()


def test_proxy__dropped_reply_is_applied_and_nothing_of_it_comes(rig):
    proxy = Proxy(rig)
    client = proxy.client()
    client.ask("INCR a", b":1\r\n")
    proxy.do("drop-reply 3")
    client.send(*["INCR a"] * 3)
    equal(client.to_the_end(), b":2\r\n:3\r\n")
    equal(proxy.value("a"), b"4")
    client = proxy.client()
    client.ask("INCR a", b":5\r\n")
    client.ask("INCR a", b":6\r\n")
    client.send("INCR a")
    equal(client.to_the_end(), b"")
    equal(proxy.value("a"), b"7")
    stats = proxy.stats()
    equal((stats["dropped"], stats["cut"], stats["connections"]), (2, 2, 2))
    proxy.do("drop-reply 0")
    client = proxy.client()
    for i in range(8, 20):
        client.ask("INCR a", f":{i}\r\n".encode())


def test_proxy__replies_are_counted_not_packets(rig):
    proxy = Proxy(rig)
    proxy.do("drop-reply 4")
    client = proxy.client()
    client.send("EVAL return{1,{2,'a_+b'}} 0", "ECHO +a", "GET x", "PING", "PING")
    equal(client.to_the_end(), b"*2\r\n:1\r\n*2\r\n:2\r\n$4\r\na_+b\r\n$2\r\n+a\r\n$-1\r\n")


def test_proxy__half_a_reply_comes_and_then_the_end(rig):
    proxy = Proxy(rig)
    proxy.do("half-reply 2")
    client = proxy.client()
    client.ask("SET a 0123456789", b"+OK\r\n")
    client.send("GET a")
    equal(client.to_the_end(), b"$10\r\n0123456789\r\n"[:8])
    equal(proxy.stats()["halved"], 1)


def test_proxy__garbage_comes_instead_of_a_reply(rig):
    proxy = Proxy(rig)
    proxy.do("garbage 2")
    client = proxy.client()
    client.ask("INCR a", b":1\r\n")
    client.send("INCR a")
    got = client.to_the_end()
    assert got and got[:1] not in b"+-:$*%~>_#,(!=|", got
    equal(proxy.value("a"), b"2")
    equal(proxy.stats()["garbage"], 1)


def round_trip_ms(client):
    start = time.monotonic()
    client.ask("PING", b"+PONG\r\n")
    return (time.monotonic() - start) * 1000


def test_proxy__delay_holds_both_directions_and_keeps_the_order(rig):
    proxy = Proxy(rig)
    client = proxy.client()
    quick = min(round_trip_ms(client) for _ in range(5))
    assert quick < 50, quick
    proxy.do("delay 60")
    slow = min(round_trip_ms(client) for _ in range(3))
    assert 119 <= slow < 250, slow
    proxy.do("delay 10 100")
    times = [round_trip_ms(client) for _ in range(10)]
    assert min(times) >= 19, times
    assert max(times) - min(times) > 20, times
    client.send(*["INCR a"] * 100)
    want = b"".join(f":{i}\r\n".encode() for i in range(1, 101))
    equal(client.read(len(want)), want)
    proxy.do("clear")
    assert min(round_trip_ms(client) for _ in range(20)) < 19


def test_proxy__delayed_replies_still_come_before_the_cut(rig):
    proxy = Proxy(rig)
    proxy.do("delay 50")
    proxy.do("drop-reply 3")
    client = proxy.client()
    client.send(*["INCR a"] * 3)
    equal(client.to_the_end(), b":1\r\n:2\r\n")


def test_proxy__cut_ms_ends_all_connections_again_and_again(rig):
    proxy = Proxy(rig)
    proxy.do("cut-ms 100")
    for _ in range(3):
        start = time.monotonic()
        clients = [proxy.client(), proxy.client()]
        for client in clients:
            equal(client.to_the_end(), b"")
        assert time.monotonic() - start < 1
    assert proxy.stats()["cut"] >= 6
    proxy.do("cut-ms 0")
    assert proxy.client().is_silent(0.3)


def test_proxy__stalled_connections_stay_and_go_on(rig):
    proxy = Proxy(rig)
    old = proxy.client()
    old.ask("INCR a", b":1\r\n")
    proxy.do("stall")
    old.send("INCR a")
    new = proxy.client()
    new.send("PING")
    assert old.is_silent(0.2)
    assert new.is_silent(0.1)
    equal(proxy.value("a"), b"1")
    proxy.do("go")
    equal(old.read(4), b":2\r\n")
    equal(new.read(7), b"+PONG\r\n")
    equal(proxy.stats()["cut"], 0)


def test_proxy__refuses_new_connections_and_cuts_old_ones(rig):
    for tcp in (False, True):
        proxy = Proxy(rig, tcp)
        client = proxy.client()
        client.ask("PING", b"+PONG\r\n")
        proxy.do("refuse")
        equal(client.to_the_end(), b"")
        try:
            proxy.client()
            raise AssertionError("connected")
        except ConnectionRefusedError:
            pass
        proxy.do("accept")
        proxy.client().ask("PING", b"+PONG\r\n")
        equal(proxy.stats()["cut"], 1)
        for program in rig.started:
            program.stop()


def test_proxy__clear_ends_every_fault(rig):
    proxy = Proxy(rig)
    for line in ("delay 500", "drop-reply 1", "half-reply 1", "garbage 1", "cut-ms 1", "stall",
                 "refuse", "clear"):
        proxy.do(line)
    client = proxy.client()
    for _ in range(5):
        assert round_trip_ms(client) < 200
        time.sleep(0.01)


def test_proxy__server_that_is_away_ends_the_connection(rig):
    proxy = Proxy(rig)
    client = proxy.client()
    client.ask("PING", b"+PONG\r\n")
    rig.started[0].stop()
    equal(client.to_the_end(), b"")
    equal(proxy.client().to_the_end(), b"")
    equal(proxy.stats()["cut"], 0)


def test_proxy__wrong_commands_change_nothing(rig):
    proxy = Proxy(rig)
    for line in ("", "drop", "drop-reply", "drop-reply x", "drop-reply -1", "drop-reply 1 2",
                 "delay 1 2 3", "delay  1", "stall 1", "cut-ms 99999999"):
        contains(proxy.tell(line), "error: ")
    proxy.client().ask("PING", b"+PONG\r\n")


if __name__ == "__main__":
    main()
