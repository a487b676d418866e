#!/usr/bin/env python3
"""make demo: an unmodified nginx behind one limit, seen from its clients.

Two clients (two loopback addresses) send 5 times what they may for 25 s; then a worker and
the agent are killed with SIGKILL while the traffic goes on. What was admitted is counted
from the clients' own records: request written to response read. Exit status 0 only if each
client got 95 to 100 requests through in its best 10 s, never more, and nothing failed.

BREAK=nolimit raises the limit out of reach, to show that the demo can fail.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from rig import (AGENT, BUILD, NGINX, RLCTL, Http, Rig, free_port, listening, nginx_conf,
                 wait_for)

LIMIT = 100
WINDOW_S = 10.0
RATE = 5 * LIMIT / WINDOW_S
BREAK = os.environ.get("BREAK", "")


class Client(threading.Thread):
    """One client address: paced requests, some on a kept connection, some on a new one."""

    def __init__(self, port, address):
        super().__init__(daemon=True)
        self.port, self.address = port, address
        self.kept = None
        self.records = []  # (written, read, status), seconds of CLOCK_MONOTONIC
        self.failures = []
        self.stopping = threading.Event()

    def _ask(self, http):
        written = time.monotonic()
        status = http.request()[0]
        self.records.append((written, time.monotonic(), status))
        if status not in (200, 429):
            self.failures.append(f"answered {status}")

    def _ask_kept(self):
        """As browsers do: a kept connection that turns out to be closed is opened anew, once."""
        for _ in range(2):
            fresh = self.kept is None
            if fresh:
                self.kept = Http(self.port, source=self.address)
            try:
                return self._ask(self.kept)
            except (OSError, EOFError) as error:
                self.kept.close()
                self.kept = None
                if fresh:
                    raise error
        return None

    def _ask_new(self):
        http = Http(self.port, source=self.address)
        try:
            self._ask(http)
        finally:
            http.close()

    def run(self):
        due, number = time.monotonic(), 0
        while not self.stopping.is_set():
            number += 1
            try:
                self._ask_kept() if number % 4 else self._ask_new()
            except (OSError, EOFError, ValueError) as error:
                self.failures.append(repr(error))
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))

    def stop(self):
        self.stopping.set()
        self.join()

    def count(self, status, since=0.0):
        return sum(1 for written, _, got in self.records if got == status and written >= since)

    def most(self):
        """The most admitted requests whose whole time, written to read, fits into 10 s."""
        spans = [(written, read) for written, read, status in self.records if status == 200]
        best = 0
        for first, _ in spans:
            inside = [s for s in spans if s[0] >= first and s[1] < first + WINDOW_S]
            best = max(best, len(inside))
        return best


def say(text):
    print(text, flush=True)


def start_all(rig, port):
    limit = 1000000 if BREAK == "nolimit" else LIMIT
    rules = {"per-client": f"{limit}/10s", "latency": "1000000000/minute"}
    say(f"rl-agent: rule per-client, strict, {limit} per 10 s for each client address")
    agent = rig.agent(rules, keys=4000)
    say("nginx, unmodified, 2 workers: rlctl run --rule per-client --by ip -- nginx ...")
    rig.start(RLCTL, "--segment", rig.segment, "run", "--rule", "per-client", "--by", "ip",
              "--", NGINX, "-c", nginx_conf(rig, port), log="nginx.log")
    wait_for("nginx", lambda: listening(port))
    return agent


def workers_of(rig):
    with open(rig.path("nginx.pid"), encoding="ascii") as f:
        master = int(f.read())
    with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as f:
        return [int(pid) for pid in f.read().split()]


def latency(rig):
    program = os.path.join(BUILD, "bench", "check_latency")
    return subprocess.run([program, rig.segment, "latency"], capture_output=True, text=True,
                          check=True, timeout=30).stdout.strip()


def table(clients):
    say(f"{'client':<12}{'sent':>8}{'admitted':>10}{'limited':>9}  most admitted in any 10 s")
    for c in clients:
        say(f"{c.address:<12}{len(c.records):>8}{c.count(200):>10}{c.count(429):>9}"
            f"{c.most():>8}")


def answered_since(clients, since, what):
    """3 s more of traffic, all of it answered."""
    time.sleep(3)
    for c in clients:
        answered = c.count(200, since) + c.count(429, since)
        say(f"  {c.address}: {answered} answered since, {c.count(200, since)} admitted")
        if answered == 0:
            c.failures.append(f"no answer after {what} was killed")


def kill_worker(rig, clients):
    victim = workers_of(rig)[0]
    os.kill(victim, signal.SIGKILL)
    say(f"\nkill -9 {victim} (an nginx worker)")
    wait_for("a new worker", lambda: len(workers_of(rig)) == 2 and victim not in workers_of(rig))
    answered_since(clients, time.monotonic(), "a worker")


def kill_agent(agent, clients):
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    say(f"\nkill -9 {agent.pid} (rl-agent; under systemd it would be back at once)")
    answered_since(clients, time.monotonic(), "the agent")


def verdict(clients):
    wrong = []
    for c in clients:
        most = c.most()
        if most > LIMIT:
            wrong.append(f"{c.address}: {most} admitted in 10 s, the limit is {LIMIT}")
        if most < 0.95 * LIMIT:
            wrong.append(f"{c.address}: only {most} admitted in its best 10 s of {LIMIT}")
        wrong += [f"{c.address}: {text}" for text in sorted(set(c.failures))]
    for text in wrong:
        say(f"FAILED  {text}")
    say("demo failed" if wrong else f"demo passed: never more than {LIMIT} in any 10 s, "
        "nothing failed")
    return 1 if wrong else 0


def demo(rig):
    port = free_port()
    agent = start_all(rig, port)
    clients = [Client(port, address) for address in ("127.0.0.2", "127.0.0.3")]
    say(f"two clients, each {RATE:.0f} requests a second (5 times the limit), for 25 s ...")
    for c in clients:
        c.start()
    time.sleep(12)
    check = latency(rig)
    time.sleep(13)
    table(clients)
    say(f"a check, beside that traffic: {check}")
    kill_worker(rig, clients)
    kill_agent(agent, clients)
    for c in clients:
        c.stop()
    say("\nall together, over the kills:")
    table(clients)
    agent = rig.start(AGENT, "--config", rig.path("rl.yaml"))
    wait_for("the agent", lambda: rig._ready(agent))
    say("\nrl-agent started again.  rlctl status:")
    say(rig.rlctl("status")[1])
    return verdict(clients)


def main():
    if BREAK not in ("", "nolimit"):
        sys.exit(f"demo: BREAK={BREAK} is unknown; BREAK=nolimit is the only one")
    if not os.path.exists(NGINX):
        sys.exit("demo: nginx is not here: run tools/setup demo, or apt-get install nginx")
    rig = Rig()
    try:
        return demo(rig)
    finally:
        rig.close()


if __name__ == "__main__":
    sys.exit(main())
