"""Question: what is lost, and what passes above a limit, when an agent, a release, a host or a
snapshot is gone?

In each case real processes with librl send two keys through the event: one at six times its limit of
400 in 2 s, which is judged by its log (the most admits whose calls lie whole in any 2 s), and one
within its limit of 1000 an hour, of which it is known afterwards how many units still count.

    restart     the agent is stopped, and started again; killed by SIGKILL, five times
    upgrade     a release with another layout takes over while processes of the old one go on; both
                releases' send the same keys. Without Redis, and under a strict rule with it
    reboot      all processes are gone and the segment with them, the clock begins anew: with Redis, a
                strict rule; without, by the snapshot of a clean stop, and by that of a crash, which
                lacks what was admitted since
    damaged     the same by a snapshot with one bit turned over: refused, counts begin at 0, and the
                next one counts again

durable_lost is what may not be lost and was; durable_lost_crash must not be above
durable_lost_bound, what was admitted since the last snapshot (an interval of 1 s, here).
durable_excess_percent is the worst of all cases, above the limit and that bound. Exit status 1 when one
of them is not held."""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/sys"))
# pylint: disable=wrong-import-position
import rig as rigs
from boot import Boot
from rig import BUILD, Rig, Skip, wait_for
from worker import Worker, most_in_window, spans

AHEAD = os.path.join(BUILD, "ahead")
WINDOW_NS, LIMIT = 2 * 10**9, 400
RATE, QUIET_RATE = 1200, 20  # a second, each worker
QUIET_LIMIT = 1000
LONG = "a-key-of-more-bytes-than-are-kept-as-they-are-" * 3
LOCAL = {"busy": f"{LIMIT}/2s", "quiet": f"{QUIET_LIMIT}/h"}
STRICT = {name: {"limit": limit, "consistency": "strict"} for name, limit in LOCAL.items()}


class Scene:
    """A host, its agent and the processes that send; what they admitted is in files."""

    def __init__(self, rig, rules, snapshot=None):
        self.rig, self.logs, self.workers = rig, [], []
        self.snapshot = rig.path("snapshot")
        self.use(BUILD)
        if rules is STRICT:
            rig.redis()
        rig.config(rules)
        if snapshot:
            with open(rig.path("rl.yaml"), "a", encoding="utf-8") as f:
                f.write(f"snapshot: {{path: {self.snapshot}, interval: {snapshot}}}\n")
        self.agent = rig.agent_again()
        if rules is STRICT:
            rig.wait_state("fresh")

    def use(self, build):
        self.build = build
        rigs.AGENT, rigs.RLCTL = os.path.join(build, "rl-agent"), os.path.join(build, "rlctl")

    def send(self, seconds):
        """Two processes at the busy key, one at the quiet one, of the build in use."""
        for key, rate in (("busy", RATE), ("busy", RATE), ("quiet", QUIET_RATE)):
            worker = Worker(self.rig, self.build, self.rig.inside)
            log = self.rig.path(f"admits-{key}-{len(self.logs)}")
            worker.load(key, LONG if key == "quiet" and len(self.logs) > 2 else key, seconds, rate,
                        log)
            self.logs.append((key, log))
            self.workers.append(worker)

    def end(self):
        """Until all have sent all of it."""
        for worker in self.workers:
            worker.answer()
            worker.kill()
        self.workers = []

    def crash(self):
        self.agent.signal(signal.SIGKILL)
        for worker in self.workers:
            worker.kill()
        self.workers = []
        self.agent.wait()

    def reboot(self):
        self.rig.inside = Boot(self.rig).inside()
        os.unlink(self.rig.segment)
        self.agent = self.rig.agent_again()

    def admits(self, key, since_ns=0):
        return [span for name, log in self.logs if name == key and os.path.exists(log)
                for span in spans(log) if span[1] >= since_ns]

    def quiet_admits(self):
        return len(self.admits("quiet"))

    def used(self):
        worker = Worker(self.rig, self.build, self.rig.inside)
        used = sum(worker.used("quiet", key) for key in ("quiet", LONG))
        worker.kill()
        return used

    def over(self, bound=0):
        most = most_in_window(self.admits("busy"), WINDOW_NS)
        return max(0, most - LIMIT - bound) * 100 / LIMIT, most


def report(scene, lost, bound=0, over_bound=0, note=""):
    excess, most = scene.over(over_bound)
    print(f"lost {lost} bound {bound} excess {excess:.2f} most {most} of {LIMIT}"
          f" admitted {len(scene.admits('busy'))} quiet {scene.quiet_admits()} {note}", flush=True)


def restart_clean(rig):
    scene = Scene(rig, LOCAL)
    scene.send(5)
    time.sleep(1.5)
    scene.agent.stop()
    time.sleep(0.5)
    scene.agent = rig.agent_again()
    scene.end()
    report(scene, scene.quiet_admits() - scene.used())


def restart_killed(rig):
    scene = Scene(rig, STRICT)
    scene.send(6)
    for _ in range(5):
        time.sleep(0.7)
        scene.agent.signal(signal.SIGKILL)
        scene.agent.wait()
        scene.agent = rig.agent_again()
    scene.end()
    report(scene, strict_lost(scene))


def strict_lost(scene):
    """Ask for all the rest: what was forgotten would be admitted again."""
    worker = Worker(scene.rig, scene.build, scene.rig.inside)
    admitted, deadline = len(scene.admits("quiet")), time.monotonic() + 4
    keys = {"quiet": 0, LONG: 0}
    while time.monotonic() < deadline:
        for key in keys:
            keys[key] += worker.allowed("quiet", key, 200)
    worker.kill()
    total = admitted + sum(keys.values())
    return max(0, total - QUIET_LIMIT * len(keys))


def upgrade(rig, rules):
    scene = Scene(rig, rules)
    scene.send(7)
    time.sleep(2)
    before = scene.quiet_admits()
    scene.agent.signal(signal.SIGKILL)
    scene.agent.wait()
    scene.use(AHEAD)
    scene.agent = rig.agent_again()
    used = scene.used() if rules is LOCAL else before
    scene.send(4)
    scene.end()
    if rules is LOCAL:
        # Those that the old processes go on with are not in the new segment, and need not be.
        report(scene, max(0, before - used))
    else:
        report(scene, strict_lost(scene))


def upgrade_alone(rig):
    upgrade(rig, LOCAL)


def upgrade_redis(rig):
    upgrade(rig, STRICT)


def reboot_redis(rig):
    scene = Scene(rig, STRICT)
    scene.send(30)
    time.sleep(3)
    scene.crash()
    scene.reboot()
    rig.wait_state("fresh")
    scene.send(4)
    scene.end()
    report(scene, strict_lost(scene))


def reboot_clean(rig):
    scene = Scene(rig, LOCAL, "1h")
    scene.send(2.5)
    scene.end()
    scene.agent.stop()
    admitted = scene.quiet_admits()
    scene.reboot()
    lost = admitted - scene.used()
    scene.send(3)
    scene.end()
    # A key above 64 bytes is known again as well: the hash's secret comes back.
    report(scene, lost)


def reboot_crash(rig):
    scene = Scene(rig, LOCAL, "1s")
    scene.send(30)
    time.sleep(3.4)
    scene.crash()
    taken_ns = os.stat(scene.snapshot).st_mtime_ns - 200 * 10**6  # it takes a moment
    admitted = scene.quiet_admits()
    bound, busy = (len(scene.admits(key, taken_ns)) for key in ("quiet", "busy"))
    scene.reboot()
    lost = admitted - scene.used()
    scene.send(3)
    scene.end()
    report(scene, lost, bound, busy)


def damaged(rig):
    scene = Scene(rig, LOCAL, "1h")
    scene.send(2.5)
    scene.end()
    scene.agent.stop()
    admitted, busy = scene.quiet_admits(), len(scene.admits("busy"))
    with open(scene.snapshot, "r+b") as f:
        f.seek(os.path.getsize(scene.snapshot) // 2)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 4]))
    scene.reboot()
    refused = "event=snapshot_refused" in scene.agent.output()
    lost = admitted - scene.used()
    scene.send(2.5)
    scene.end()
    scene.agent.stop()
    scene.reboot()
    again = "event=restored" in scene.agent.output()
    lost_again = scene.quiet_admits() - admitted - scene.used()
    good = refused and again and lost_again == 0
    report(scene, lost, admitted if good else -1, busy,
           f"refused {refused} restored-from-the-next {again} lost-then {lost_again}")


CASES = {f.__name__: f for f in (restart_clean, restart_killed, upgrade_alone, upgrade_redis,
                                 reboot_redis, reboot_clean, reboot_crash, damaged)}
AT_ONCE = 3
DEADLINE_S = 90  # it takes 30


def one(name):
    rig = Rig()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        CASES[name](rig)
    except Skip as reason:
        print(f"skip {reason}")
    except Exception:
        for program in rig.started:
            print(program.output(), file=sys.stderr)
        raise
    finally:
        rig.close()


def run_all(names):
    """The cases' lines, by name."""
    waiting, running, lines = list(names), {}, {}
    deadline = time.monotonic() + DEADLINE_S
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop(0)
            running[name] = subprocess.Popen([sys.executable, os.path.abspath(__file__), name],
                                             stdout=subprocess.PIPE, text=True)
        for name, process in list(running.items()):
            if process.poll() is not None:
                lines[name] = running.pop(name).stdout.read().strip()
            elif time.monotonic() > deadline:
                process.terminate()
        time.sleep(0.05)
    return lines


def judge(lines):
    lost = crash_lost = crash_bound = 0
    excess, bad = 0.0, False
    for name, line in lines.items():
        print(f"{name:15} {line or 'failed'}")
        words = line.split()
        if not words or words[0] == "skip":
            bad |= not words
            continue
        units, bound = int(words[1]), int(words[3])
        excess = max(excess, float(words[5]))
        if name == "reboot_crash":
            crash_lost, crash_bound = units, bound
        elif name == "damaged":
            bad |= units != bound
        else:
            lost += max(0, units)
    print(f"figure durable_lost {lost} units")
    print(f"figure durable_lost_crash {crash_lost} units")
    print(f"figure durable_lost_bound {crash_bound} units")
    print(f"figure durable_excess_percent {excess:.2f} %")
    return bad or lost > 0 or crash_lost > crash_bound or excess > 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(sys.argv[1])
    else:
        sys.exit(judge(run_all(CASES)))
