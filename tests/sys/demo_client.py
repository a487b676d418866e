"""The demo's clients: paced requests to every host, and what their own records say.

A record is one answered request: when it was begun (before the connection, if it opened one),
written and read. Only requests whose whole span from written to read lies in a window count in
that window, so a delay anywhere can only make a count smaller: whatever is counted was admitted.
"""

import bisect
import collections
import threading
import time

from rig import Http

Record = collections.namedtuple("Record", "begun written read status host")


class Sender(threading.Thread):
    """What one client sends to one host, some on a kept connection, some on a new one."""

    def __init__(self, address, host, port, rate):
        super().__init__(daemon=True)
        self.address, self.host, self.port, self.rate = address, host, port, rate
        self.kept = None
        self.records = []
        self.failures = []
        self.stopping = threading.Event()

    def _ask(self, http, begun):
        written = time.monotonic()
        status = http.request()[0]
        self.records.append(Record(begun, written, time.monotonic(), status, self.host))
        if status not in (200, 429):
            self.failures.append(f"host {self.host} answered {status}")

    def _ask_kept(self, begun):
        """As browsers do: a kept connection that turns out to be closed is opened anew, once."""
        for _ in range(2):
            fresh = self.kept is None
            if fresh:
                self.kept = Http(self.port, source=self.address)
            try:
                return self._ask(self.kept, begun)
            except (OSError, EOFError) as error:
                self.kept.close()
                self.kept = None
                if fresh:
                    raise error
        return None

    def _ask_new(self, begun):
        http = Http(self.port, source=self.address)
        try:
            self._ask(http, begun)
        finally:
            http.close()

    def run(self):
        due, number = time.monotonic(), 0
        while not self.stopping.is_set():
            number += 1
            begun = time.monotonic()
            try:
                self._ask_kept(begun) if number % 4 else self._ask_new(begun)
            except (OSError, EOFError, ValueError) as error:
                self.failures.append(f"host {self.host}: {error!r}")
            due += 1 / self.rate
            time.sleep(max(0.0, due - time.monotonic()))


class Client:
    """One client address. rate: requests a second, spread evenly over the hosts."""

    def __init__(self, address, ports, rate):
        self.address = address
        self.senders = [Sender(address, host, port, rate / len(ports))
                        for host, port in ports.items()]

    def start(self):
        for sender in self.senders:
            sender.start()

    def stop(self):
        for sender in self.senders:
            sender.stopping.set()
        for sender in self.senders:
            sender.join()

    def failures(self):
        return [text for sender in self.senders for text in sender.failures]

    def records(self, since=0.0, until=float("inf")):
        """Those wholly within since .. until."""
        return [r for sender in self.senders for r in list(sender.records)
                if r.written >= since and r.read <= until]

    def count(self, status, since=0.0, host=None):
        return sum(1 for r in self.records(since)
                   if r.status == status and host in (None, r.host))

    def most(self, window_s, since=0.0, until=float("inf")):
        """The most admitted requests of any window within since .. until, over all hosts."""
        admitted = sorted((r.written, r.read) for r in self.records(since, until)
                          if r.status == 200)
        written = [span[0] for span in admitted]
        best = 0
        for i, first in enumerate(written):
            end = bisect.bisect_left(written, first + window_s)
            best = max(best, sum(1 for span in admitted[i:end] if span[1] < first + window_s))
        return best


def p99_ms(clients, since=0.0, until=float("inf")):
    """Of the time of a request, as its client saw it."""
    took = sorted(r.read - r.begun for c in clients for r in c.records(since, until))
    return 1000 * took[len(took) * 99 // 100] if took else float("inf")
