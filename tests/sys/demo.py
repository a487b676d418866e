#!/usr/bin/env python3
"""make demo: two hosts that share one limit, seen from their clients.

One redis-server, two agents as two hosts, an unmodified nginx with two workers behind each. Two
clients (two loopback addresses) send to both hosts, 5 times what they may, for 25 s. Then, while
the traffic goes on, a worker, an agent and Redis are killed with SIGKILL; Redis comes back
empty. What was admitted is counted from the clients' own records, over both hosts: request
written to response read. Exit status 0 only if

    up to the kill of Redis    each client's best 10 s held 95 to 100 requests, never more
    while Redis is down        never more than 100 (strict and closed: leftover credit, then
                               nothing), every request answered, p99 at most twice that before
    over the loss of its data  at most 200: the limit once more, as published
    after it                   both hosts are fresh again, and never more than 100
    all the time               nothing failed

BREAK=nosync   each agent counts alone: each host then admits 100 of its own
BREAK=nolimit  the limit is out of reach
Both show that the demo can fail.
"""

import os
import signal
import subprocess
import sys
import time

from demo_client import Client, p99_ms
from rig import BUILD, NGINX, RLCTL, Rig, free_port, listening, nginx_conf, wait_for

LIMIT = 100
WINDOW_S = 10.0
RATE = 5 * LIMIT / WINDOW_S
DOWN_S = 6.0  # longer than a lease of credit lives
BREAK = os.environ.get("BREAK", "")


def say(text=""):
    print(text, flush=True)


class Demo:
    def __init__(self, rig):
        self.rig = rig
        self.hosts = []
        self.ports = {name: free_port() for name in "AB"}
        self.clients = [Client(address, self.ports, RATE) for address in ("127.0.0.2",
                                                                          "127.0.0.3")]
        self.agents, self.redis = {}, None
        self.killed = self.back = self.fresh = None  # when Redis was killed, came back, and all
        self.wrong = []

    def check(self, good, text):
        if not good:
            self.wrong.append(text)

    def start_host(self, host):
        limit = f"{1000000 if BREAK == 'nolimit' else LIMIT}/10s"
        shared = {"limit": limit, "consistency": "local" if BREAK == "nosync" else "strict"}
        rules = {"per-client": shared,
                 "latency": {"limit": "1000000000/minute", "consistency": "local"}}
        self.agents[host.name] = host.agent(rules, keys=4000)
        say(f"host {host.name}: rl-agent, rule per-client {limit}, {shared['consistency']}; nginx, "
            f"unmodified, 2 workers:\n"
            f"        rlctl run --segment {host.segment} --rule per-client --by ip -- nginx ...")
        port = self.ports[host.name]
        host.start(RLCTL, "run", "--segment", host.segment, "--rule", "per-client", "--by", "ip",
                   "--", NGINX, "-c", nginx_conf(host, port), log="nginx.log")
        wait_for("nginx", lambda: listening(port))

    def start_all(self):
        if BREAK != "nosync":
            self.redis = self.rig.redis()
            say(f"redis-server {self.rig.redis_url}")
        self.hosts = [self.rig.host(name) for name in self.ports]
        for host in self.hosts:
            self.start_host(host)
        for host in self.hosts:
            host.wait_state("fresh")

    def table(self):
        names = "".join(f"{'on ' + host.name:>7}" for host in self.hosts)
        say(f"{'client':<12}{'sent':>7}{'admitted':>10}{names}{'limited':>9}"
            "  most in any 10 s, both hosts")
        for c in self.clients:
            by_host = "".join(f"{c.count(200, host=host.name):>7}" for host in self.hosts)
            say(f"{c.address:<12}{len(c.records()):>7}{c.count(200):>10}{by_host}"
                f"{c.count(429):>9}{c.most(WINDOW_S):>8}")

    def latency(self):
        program = os.path.join(BUILD, "bench", "check_latency")
        return subprocess.run([program, self.hosts[0].segment, "latency"], capture_output=True,
                              text=True, check=True, timeout=30).stdout.strip()

    def go_on(self, seconds, what):
        """More traffic, all of it answered, from each client on each host."""
        since = time.monotonic()
        time.sleep(seconds)
        for c in self.clients:
            answered = [c.count(200, since, h.name) + c.count(429, since, h.name)
                        for h in self.hosts]
            say(f"  {c.address}: {sum(answered)} answered since, {c.count(200, since)} admitted")
            self.check(all(answered), f"{c.address}: a host gave no answer after {what}")

    def run_traffic(self):
        say(f"\ntwo clients, each {RATE:.0f} requests a second to both hosts (5 times the limit), "
            "for 25 s ...")
        for c in self.clients:
            c.start()
        time.sleep(12)
        check = self.latency()
        time.sleep(13)
        self.table()
        say(f"a check, beside that traffic: {check}")

    def kill_worker(self):
        host = self.hosts[0]
        victim = workers_of(host)[0]
        os.kill(victim, signal.SIGKILL)
        say(f"\nkill -9 {victim} (an nginx worker of host {host.name})")
        wait_for("a new worker", lambda: len(workers_of(host)) == 2 and
                 victim not in workers_of(host))
        self.go_on(3, "a worker was killed")

    def kill_agent(self):
        host = self.hosts[1]
        agent = self.agents[host.name]
        agent.signal(signal.SIGKILL)
        agent.wait()
        say(f"\nkill -9 {agent.pid} (rl-agent of host {host.name}), and started again, as systemd "
            "would")
        time.sleep(0.2)
        self.agents[host.name] = host.agent_again()
        self.go_on(3, "an agent was killed")

    def kill_redis(self):
        say(f"\nkill -9 {self.redis.pid} (redis-server)")
        self.killed = time.monotonic()
        self.redis.signal(signal.SIGKILL)
        self.redis.wait()
        self.go_on(DOWN_S, "Redis was killed")
        for host in self.hosts:
            state = host.status()["state"]
            self.check(state == "stale", f"host {host.name} is {state} without Redis, not stale")
        say(f"\nrlctl status of host {self.hosts[0].name}:")
        say(self.hosts[0].rlctl("status")[1])

    def start_redis(self):
        self.back = time.monotonic()
        self.redis = self.rig.redis()
        say("redis-server started again, empty")
        for host in self.hosts:
            host.wait_state("fresh")
        self.fresh = time.monotonic()
        say(f"both hosts are fresh again {self.fresh - self.back:.1f} s later")
        self.go_on(WINDOW_S + 2, "Redis came back")

    def windows(self, title, low, high, since=0.0, until=float("inf")):
        """Every client's largest window within since .. until is in low .. high."""
        most = [c.most(WINDOW_S, since, until) for c in self.clients]
        say(f"  {title:<42}{' '.join(f'{n:>4}' for n in most)}   at most {high}")
        for c, n in zip(self.clients, most):
            self.check(n <= high, f"{c.address}: {n} admitted in 10 s {title}, at most {high} may")
            self.check(n >= low, f"{c.address}: only {n} in its best 10 s {title}, of {high}")

    def judge_windows(self):
        say("\nmost admitted in any 10 s, both hosts; the bound in force:")
        self.windows("before Redis was killed", 0.95 * LIMIT, LIMIT, until=self.killed)
        self.windows("that ended while it was down", 0, LIMIT, until=self.back)
        self.windows("over the loss of its data: once more L", 0, 2 * LIMIT)
        self.windows("after it, both hosts fresh", 1, LIMIT, since=self.fresh)

    def judge_times(self):
        before = p99_ms(self.clients, until=self.killed)
        after = p99_ms(self.clients, since=self.killed, until=self.back)
        say(f"p99 of a request's time: {before:.2f} ms before Redis was killed, {after:.2f} ms "
            "while it was down")
        self.check(after <= 2 * before, "without Redis the p99 is more than twice that before")

    def verdict(self):
        for c in self.clients:
            self.wrong += [f"{c.address}: {text}" for text in sorted(set(c.failures()))]
        for text in self.wrong:
            say(f"FAILED  {text}")
        say("demo failed" if self.wrong else
            f"demo passed: while Redis kept its data never more than {LIMIT} in any 10 s over both "
            "hosts; nothing failed")
        return 1 if self.wrong else 0

    def run(self):
        self.start_all()
        self.run_traffic()
        if not BREAK:
            self.kill_worker()
            self.kill_agent()
            self.kill_redis()
            self.start_redis()
        for c in self.clients:
            c.stop()
        if BREAK:
            say(f"\nBREAK={BREAK}: most admitted in any 10 s:")
            self.windows("over both hosts", 0.95 * LIMIT, LIMIT)
            return self.verdict()
        say("\nall together, over the kills:")
        self.table()
        self.judge_windows()
        self.judge_times()
        return self.verdict()


def workers_of(host):
    with open(host.path("nginx.pid"), encoding="ascii") as f:
        master = int(f.read())
    with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as f:
        return [int(pid) for pid in f.read().split()]


def main():
    if BREAK not in ("", "nolimit", "nosync"):
        sys.exit(f"demo: BREAK={BREAK} is unknown; there are BREAK=nosync and BREAK=nolimit")
    if not os.path.exists(NGINX):
        sys.exit("demo: nginx is not here: run tools/setup demo, or apt-get install nginx")
    rig = Rig()
    try:
        return Demo(rig).run()
    finally:
        rig.close()


if __name__ == "__main__":
    sys.exit(main())
