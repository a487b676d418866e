"""What the tests of orders and of pushed rules share: a fleet of named hosts, and commands to it."""

import json
import time

from fleet import Client, at_most, during, hosts_of
from resp import Redis
from rig import equal, wait_for

STRICT = {"limit": "30/minute", "consistency": "strict"}
RULES = {"login": STRICT, "own": {"limit": "3/hour", "consistency": "local"}}
DOCUMENTS = "{rl:default:0}:c"


def fleet(rig, rules=None, names="abc"):
    hosts = hosts_of(rig, rules or RULES, names)
    for host in hosts:
        host.client = Client(host)
    return hosts


def done(host, *args):
    """A command that must be carried out; what rlctl said."""
    code, out, err = host.rlctl(*args)
    equal((code, err), (0, ""))
    return out


def refused(host, *args):
    code, out, err = host.rlctl(*args)
    equal((code, out), (2, ""))
    return err


def orders(host):
    return json.loads(done(host, "--json", "orders"))


def peek(host, rule, key):
    """(exit status, who decided, limit) without spending."""
    code, out, _ = host.rlctl("--json", "get", rule, key)
    answer = json.loads(out)
    return code, answer["decided_by"], answer["limit"]


def spread(what, hosts, condition):
    """How long until it is so on all hosts: at most a second, in milliseconds."""
    began = time.monotonic()
    for host in hosts:
        wait_for(what, lambda h=host: condition(h))
    took = 1000 * (time.monotonic() - began)
    at_most(took, 1000)
    return took


def redis_of(rig):
    return Redis(rig.redis_url[len("unix:"):])


def spend(hosts, key, seconds=1.0):
    """Press from all hosts until no more passes; what passed."""
    before = sum(host.client.units(key) for host in hosts)
    for _ in during(seconds):
        for host in hosts:
            host.client.check("login", key)
    return sum(host.client.units(key) for host in hosts) - before
