"""A boot of its own: a clock that begins anew (a time namespace) and another boot id (a mount
namespace). Needs root, unshare and nsenter; where the kernel or the user may not, Skip."""

import signal
import time
import uuid

from rig import Skip, wait_for

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Boot:
    """What is started inside() believes that the machine came up so many seconds ago."""

    def __init__(self, rig, seconds_ago=60):
        boot_id = rig.write("boot_id", f"{uuid.uuid4()}\n")
        offset = seconds_ago - int(time.clock_gettime(time.CLOCK_MONOTONIC))
        self.holder = rig.start(
            "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--time", "--monotonic", offset,
            "--boottime", offset, "--fork", "--kill-child", "sh", "-c",
            f"mount --bind {boot_id} {BOOT_ID} && echo ready && exec sleep infinity")
        self.holder.stop_signal = signal.SIGKILL  # it waits for its child, which then ends with it
        wait_for("a boot", self._is_up)
        with open(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children",
                  encoding="ascii") as f:
            self.pid = int(f.read())

    def inside(self):
        return "nsenter", "-t", str(self.pid), "--mount", "--time", "--"

    def _is_up(self):
        if not self.holder.running():
            raise Skip("no time namespaces: " + self.holder.output().strip())
        return "ready" in self.holder.output()
