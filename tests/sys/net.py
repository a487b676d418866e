"""Hosts with networks of their own: namespaces of the kernel, joined by a bridge, whose cables can
be pulled out. Needs root, unshare, nsenter and ip; where the kernel or the user may not, Skip."""

import shutil
import subprocess

from rig import REDIS, Skip, equal, need, wait_for

REDIS_PORT = 6379


class Namespace:
    """A network namespace, held by a process that dies with this one."""

    def __init__(self, rig):
        self.holder = rig.start("setpriv", "--pdeathsig", "KILL", "unshare", "--net",
                                "sleep", "infinity", log="net")
        wait_for("a network namespace", self._is_apart)
        self.run("ip", "link", "set", "lo", "up")

    def inside(self):
        return "nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"

    def run(self, *argv):
        done = subprocess.run([*self.inside(), *argv], capture_output=True, text=True,
                              timeout=10, check=False)
        equal((argv, done.returncode, done.stderr), (argv, 0, ""))
        return done.stdout

    def _is_apart(self):
        if not self.holder.running():
            raise Skip("no network namespaces: " + self.holder.output().strip())
        return (name_of("self") != name_of(self.holder.pid)
                and command_of(self.holder.pid).startswith(b"sleep"))


def name_of(pid):
    return subprocess.run(["readlink", f"/proc/{pid}/ns/net"], capture_output=True, text=True,
                          check=False).stdout


def command_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read()


class Net:
    """A switch, and the hosts that are plugged into it."""

    def __init__(self, rig):
        for program, package in (("ip", "iproute2"), ("unshare", "util-linux"),
                                 ("nsenter", "util-linux"), ("setpriv", "util-linux")):
            need(shutil.which(program) or program, package)
        self.rig = rig
        self.ports = 0
        self.switch = Namespace(rig)
        try:
            self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        except AssertionError as error:
            raise Skip(f"no bridge: {error}") from None
        self.switch.run("ip", "link", "set", "br0", "up")

    def plug(self, namespace):
        """Its address, and the port of the switch that its cable is in."""
        self.ports += 1
        port, address = f"port{self.ports}", f"10.99.0.{self.ports}"
        self.switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0",
                        "netns", str(namespace.holder.pid))
        self.switch.run("ip", "link", "set", port, "master", "br0", "up")
        namespace.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        namespace.run("ip", "link", "set", "eth0", "up")
        return address, port

    def redis(self):
        """A redis-server on a host of its own; agents that are configured from now on use it."""
        self.redis_host = Namespace(self.rig)
        address, self.redis_port = self.plug(self.redis_host)
        self.rig.redis_url = f"redis://{address}:{REDIS_PORT}"
        return self.redis_again(address)

    def redis_again(self, address=None):
        address = address or self.rig.redis_url.split("/")[2].split(":")[0]
        program = self.rig.start(*self.redis_host.inside(), REDIS, "--bind", address,
                                 "--port", REDIS_PORT, "--protected-mode", "no", "--save", "",
                                 "--appendonly", "no", "--dir", self.rig.dir)
        wait_for("redis-server", lambda: "Ready to accept" in program.output())
        return program

    def host(self, name):
        """Another host of the rig's fleet: its agent is in a network of its own."""
        other = self.rig.host(name)
        namespace = Namespace(other)
        _, other.port = self.plug(namespace)
        other.inside = namespace.inside()
        return other

    def pull(self, port):
        self.switch.run("ip", "link", "set", port, "down")

    def put_back(self, port):
        self.switch.run("ip", "link", "set", port, "up")
