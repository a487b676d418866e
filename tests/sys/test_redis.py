"""Goal: how the agent comes to its Redis, and what it says when it does not.
Method: real agents and real redis-servers on free loopback ports and unix sockets. What is shared
is judged by what lies in the server; what the agent says, by its log."""

import os
import signal

import resp
from rig import REDIS, Skip, contains, equal, free_port, main, need, redis_answers, wait_for
from test_fleet import Client, during, kill

RULES = {"s": {"limit": "100/10s", "consistency": "strict"}}


class Server:
    """A redis-server on a unix socket, as tests see it, and on a loopback port. Stopped and started
    again it is at the same address."""

    def __init__(self, rig, *options, listen=("--port",)):
        need(REDIS, "redis-server")
        self.rig = rig
        self.path = os.path.join(rig.shm, "redis.sock")
        self.port = free_port()
        self.options = [word for name in listen for word in (name, self.port)] + list(options)
        self.start()

    def start(self):
        self.program = self.rig.start(
            REDIS, *([] if "--port" in self.options else ["--port", 0]), "--bind", "127.0.0.1",
            "--unixsocket", self.path, "--save", "", "--appendonly", "no", "--dir", self.rig.dir,
            *self.options)

        def there():
            assert self.program.running(), self.program.output()
            return redis_answers(self.path)
        wait_for("redis-server", there)

    def kill(self):
        kill(self.program)
        os.unlink(self.path)

    def connect(self):
        return resp.Redis(self.path)


def agent_with(rig, redis, rules=None):
    """A host whose configuration has this text as its redis; not waited for Redis."""
    rig.redis_url = redis
    host = rig.host("a")
    host.program = host.agent(rules or RULES)
    return host


def events(program, name):
    return [line for line in program.output().splitlines() if f"event={name} " in line]


def comes_up(host, times=1):
    wait_for("the connection", lambda: len(events(host.program, "redis_up")) >= times)
    host.wait_state("fresh")


def spends(host, key="k"):
    """The first unit of a key comes with credit that Redis has given."""
    client = Client(host)
    for _ in during(5):
        if client.check("s", key):
            return
    raise AssertionError("no credit came")


def test_redis__database_number_is_where_the_keys_go(rig):
    server = Server(rig)
    for number, url in enumerate((f"redis://127.0.0.1:{server.port}/3",
                                  f"'unix:{server.path}?db=5'")):
        host = agent_with(rig, url) if number == 0 else rig.host("b")
        if number == 1:
            host.redis_url = url
            host.program = host.agent(RULES)
        comes_up(host)
        spends(host)
    databases = server.connect().info("keyspace")
    equal(sorted(databases), ["db3", "db5"])


def test_redis__database_that_is_not_there_is_said(rig):
    server = Server(rig, "--databases", "4")
    host = agent_with(rig, f"redis://127.0.0.1:{server.port}/4")
    wait_for("the event", lambda: events(host.program, "redis_down"))
    line, = events(host.program, "redis_down")
    contains(line, "refused SELECT 4: ERR DB index is out of range")
    contains(line, f"redis=redis://127.0.0.1:{server.port}/4 ")


if __name__ == "__main__":
    main()
