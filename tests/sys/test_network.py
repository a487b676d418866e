"""Goal: one limit for hosts that only a network joins, whatever becomes of the network.
Method: each host's agent, and redis-server, in a network namespace of its own; cables of the switch
between them are pulled out and put back, and programs stopped and killed. Checks by librl on each
host's segment; every admit is judged by the clock readings around its call."""

import signal

from fleet import MAY_WAIT, Client, at_least, at_most, during, most
from net import Net
from rig import equal, main, wait_for

WINDOW_S = 0.5
LIMIT = 60
STRICT = {"limit": f"{LIMIT}/500ms", "consistency": "strict", "on_unreachable": "closed"}


def fleet(rig, rules, names="abc"):
    """The network, redis-server, and hosts that know of each other; their clients."""
    net = Net(rig)
    redis = net.redis()
    hosts = [net.host(name) for name in names]
    for host in hosts:
        host.program = host.agent(rules)
    for host in hosts:
        host.wait_state("fresh")
        wait_for("all hosts", lambda h=host: h.status()["fleet"]["live_hosts"] == len(names))
    return net, redis, hosts, [Client(host) for host in hosts]


def ask_all(clients, seconds, rule="s"):
    """Every host is asked for three times the limit of one key."""
    for _ in during(seconds):
        for client in clients:
            client.check(rule, "k", 1, MAY_WAIT)


def forget(clients):
    for client in clients:
        client.forget()


def stale(hosts):
    for host in hosts:
        host.wait_state("stale")


def one_limit_again(hosts, clients):
    """All are fresh, and use of it is what it was."""
    for host in hosts:
        host.wait_state("fresh")
    forget(clients)
    ask_all(clients, 3 * WINDOW_S)
    at_most(most(clients, "k", WINDOW_S), LIMIT)
    at_least(sum(client.units("k") for client in clients), 2 * LIMIT)


def test_network__hosts_have_networks_of_their_own_and_one_limit(rig):
    net, _, hosts, clients = fleet(rig, {"s": STRICT})
    ask_all(clients, 3 * WINDOW_S)
    at_most(most(clients, "k", WINDOW_S), LIMIT)
    at_least(sum(client.units("k") for client in clients), 2 * LIMIT)
    net.pull(hosts[0].port)  # else it would not be the network that joins them
    hosts[0].wait_state("stale")
    equal(hosts[1].status()["state"], "fresh")


def test_network__host_that_is_cut_off_is_closed_and_the_others_go_on(rig):
    net, _, hosts, clients = fleet(rig, {"s": STRICT})
    ask_all(clients, 2 * WINDOW_S)
    net.pull(hosts[0].port)
    hosts[0].wait_state("stale")
    forget(clients[:1])
    ask_all(clients, 4 * WINDOW_S)
    at_most(most(clients, "k", WINDOW_S), LIMIT)
    at_most(clients[0].units("k"), LIMIT)  # credit that was left
    cut_off = clients[0].units("k")
    ask_all(clients, WINDOW_S)
    equal(clients[0].units("k"), cut_off)
    forget(clients[1:])
    ask_all(clients, 2 * WINDOW_S)
    at_least(sum(client.units("k") for client in clients[1:]), LIMIT)

    net.put_back(hosts[0].port)
    hosts[0].wait_state("fresh")
    forget(clients)
    ask_all(clients, 3 * WINDOW_S)
    at_most(most(clients, "k", WINDOW_S), LIMIT)
    at_least(clients[0].units("k"), 1)


def test_network__redis_that_is_cut_off_from_all_closes_all_and_all_come_back(rig):
    net, _, hosts, clients = fleet(rig, {"s": STRICT})
    ask_all(clients, 2 * WINDOW_S)
    net.pull(net.redis_port)
    stale(hosts)
    ask_all(clients, 2 * WINDOW_S)
    at_most(most(clients, "k", WINDOW_S), LIMIT)
    net.put_back(net.redis_port)
    one_limit_again(hosts, clients)


def test_network__cable_that_comes_and_goes_never_lets_more_through(rig):
    net, _, hosts, clients = fleet(rig, {"s": STRICT})
    for turn in range(6):
        port = hosts[turn % 3].port
        ask_all(clients, 0.4)
        net.pull(port)
        ask_all(clients, 0.1 + 0.2 * (turn % 3))
        net.put_back(port)
    at_most(most(clients, "k", WINDOW_S), LIMIT)
    one_limit_again(hosts, clients)


def test_network__hosts_cut_off_with_shares_stay_within_the_limit_together(rig):
    rules = {"s": dict(STRICT, on_unreachable="share")}
    net, _, hosts, clients = fleet(rig, rules)
    ask_all(clients, 2 * WINDOW_S)
    net.pull(net.redis_port)
    stale(hosts)
    ask_all(clients, 2 * WINDOW_S)  # until what was admitted by credit is out of the window
    forget(clients)
    ask_all(clients, 3 * WINDOW_S)
    at_most(most(clients, "k", WINDOW_S), LIMIT)
    for client in clients:
        at_most(most([client], "k", WINDOW_S), LIMIT // 3)
        at_least(client.units("k"), LIMIT // 3)


def test_network__redis_that_is_stopped_makes_all_stale_and_no_check_wait(rig):
    _, redis, hosts, clients = fleet(rig, {"s": STRICT}, "ab")
    ask_all(clients, WINDOW_S)
    redis.signal(signal.SIGSTOP)
    stale(hosts)
    turns = sum(1 for _ in during(0.5) if [c.check("s", "k", 1, MAY_WAIT) for c in clients])
    at_least(turns, 100)  # of some 400: none of them waited
    redis.signal(signal.SIGCONT)
    one_limit_again(hosts, clients)


def test_network__redis_that_lost_all_is_filled_from_the_hosts(rig):
    net, redis, hosts, clients = fleet(rig, {"s": STRICT}, "ab")
    ask_all(clients, 2 * WINDOW_S)
    redis.signal(signal.SIGKILL)
    redis.wait()
    net.redis_again()
    for host in hosts:
        host.wait_state("fresh")
    ask_all(clients, WINDOW_S)
    at_most(most(clients, "k", WINDOW_S), 2 * LIMIT)  # the limit once more, as published
    one_limit_again(hosts, clients)


if __name__ == "__main__":
    main()
