"""Goal: a Redis that comes back with an older state, or with none, is filled from the hosts, and the
limit holds over all of it.
Method: real agents, a real redis-server on a port that is killed and started again by what it had
saved, or emptied under load. Every admit is judged by the clock readings around its call."""

import signal
import time

from fleet import Client, at_least, at_most, during, most
from rig import equal, main, wait_for
from sentinel import Server

WINDOW_S, LIMIT = 4, 200
STRICT = {"limit": f"{LIMIT}/4s", "consistency": "strict"}


def two_hosts(rig, server, rules=None):
    rig.redis_url = f"redis://127.0.0.1:{server.port}"
    hosts = [rig.host(name) for name in "ab"]
    for host in hosts:
        host.program = host.agent(rules or {"s": STRICT})
    for host in hosts:
        host.wait_state("fresh")
        wait_for("both", lambda h=host: h.status()["fleet"]["live_hosts"] == 2)
    return hosts, [Client(host) for host in hosts]


def ask(clients, seconds, key="k"):
    for _ in during(seconds):
        for client in clients:
            client.check("s", key)


def lost(host):
    return [line for line in host.program.output().splitlines() if "event=redis_lost " in line]


def judge(what, hosts, clients):
    units = sum(client.units("k") for client in clients)
    print(f"# {what}: most in a window {most(clients, 'k', WINDOW_S)} of {LIMIT}, {units} in all; "
          + "; ".join(line.split("msg=")[0].split("redis_lost ")[1] for h in hosts for line in lost(h)))
    at_most(most(clients, "k", WINDOW_S), LIMIT)


def test_lost__redis_that_comes_back_with_an_older_state_is_told_what_it_lacks(rig):
    server = Server(rig)
    hosts, clients = two_hosts(rig, server)
    ask(clients[:1], 0.1)  # a's
    for client in clients:
        for _ in during(0.1):
            client.check("s", f"of {id(client)}")
    server.connect()("SAVE")
    for _ in range(60):
        clients[0].check("s", "k")
        clients[1].check("s", "k")
        time.sleep(0.01)
    server.signal(signal.SIGKILL)
    server.program.wait()
    server.start()
    ask(clients, 2)
    for host in hosts:
        host.wait_state("fresh")
    wait_for("their words", lambda: all(lost(host) for host in hosts))
    ask(clients, WINDOW_S)
    judge("older state", hosts, clients)
    at_least(sum(client.units("k") for client in clients), LIMIT * 3 // 2)  # and it is used


def test_lost__redis_that_is_emptied_under_load_is_told_all_of_the_window(rig):
    server = Server(rig)
    hosts, clients = two_hosts(rig, server)
    ask(clients, 1)
    equal(sum(client.units("k") for client in clients), LIMIT)
    server.connect()("FLUSHALL")
    ask(clients, 2)
    wait_for("their words", lambda: all(lost(host) for host in hosts))
    ask(clients, WINDOW_S)
    judge("emptied", hosts, clients)
    at_least(sum(client.units("k") for client in clients), LIMIT * 3 // 2)


def test_lost__every_unit_is_in_redis_once_after_it(rig):
    """Of keys that are told in many calls; their window does not end meanwhile."""
    server = Server(rig)
    hosts, clients = two_hosts(rig, server, {"s": {"limit": "100000/10m",
                                                   "consistency": "strict"}})
    for turn, _ in enumerate(during(1)):
        for client in clients:
            client.check("s", f"k{turn % 300}")
    server.connect()("SAVE")
    for turn, _ in enumerate(during(1)):
        for client in clients:
            client.check("s", f"k{turn % 300}")
    server.signal(signal.SIGKILL)
    server.program.wait()
    server.start()
    wait_for("their words", lambda: all(lost(host) for host in hosts), 20)
    admitted = sum(client.units(f"k{i}") for client in clients for i in range(300))
    wait_for("all units", lambda: counted(server) == admitted, 20)
    for host in hosts:
        host.wait_state("fresh")


def counted(server):
    """Units in all windows: HEAD of agent/store/rl_sync.lua."""
    redis = server.connect()
    return sum(int.from_bytes(redis("GET", key)[6:12], "little")
               for key in redis("KEYS", "*:k:s*"))


if __name__ == "__main__":
    main()
