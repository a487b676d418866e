"""What the system tests share: real programs started on free loopback ports, and TAP.

A test file defines functions test_<module>__<situation>_<result>(rig) and ends with
rig.main(). Each gets a Rig: a folder and a segment of its own, and everything it started
is killed by pid when it returns. Nothing sleeps and hopes: wait_for() polls to a deadline.
"""

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
AGENT = os.path.join(BUILD, "rl-agent")
RLCTL = os.path.join(BUILD, "rlctl")
REDIS = os.environ.get("RL_TEST_REDIS_SERVER", "redis-server")  # or valkey-server
STORE = os.environ.get("STORE")  # a backend's address to be tested in place of a Redis
SHIM = os.path.join(BUILD, "librl-preload.so")


class Skip(Exception):
    """Raised with the reason why a test cannot run here."""


def wait_for(what, condition, seconds=10.0):
    """Poll condition until it is true; its value is returned. Fails after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.005)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def equal(got, want):
    if got != want:
        raise AssertionError(f"\n  got  {got!r}\n  want {want!r}")


def contains(text, part):
    if part not in text:
        raise AssertionError(f"\n  {part!r}\n  is not in\n  {text!r}")


class Program:
    """A started program whose output goes to a file."""

    def __init__(self, argv, log, env):
        self.argv = argv
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        self.pid = self.process.pid
        self.stop_signal = signal.SIGTERM

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds=10.0):
        return self.process.wait(timeout=seconds)

    def running(self):
        return self.process.poll() is None

    def stop(self):
        if not self.running():
            return
        self.signal(self.stop_signal)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Rig:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="rl-sys-")
        self.shm = tempfile.mkdtemp(prefix="rl-sys-", dir="/dev/shm")
        self.segment = os.path.join(self.shm, "seg")
        self.redis_url = None
        self.name = None
        self.inside = ()  # what the agent and rlctl are started by: net.py, boot.py
        self.started = []

    def host(self, name):
        """Another host of this rig's fleet: a Rig with a folder, segment and host id of its own.
        What it starts ends with this rig."""
        other = copy.copy(self)
        other.name = name
        other.dir = os.path.join(self.dir, name)
        other.segment = os.path.join(self.shm, f"seg-{name}")
        os.mkdir(other.dir)
        return other

    def redis(self):
        """Start a private redis-server that stores nothing, and wait until it answers. Agents
        that are configured from now on use it. Started again it is at the same address, empty.
        With STORE it is that one; who touches the server itself is skipped."""
        if STORE:
            self.redis_url = STORE.format(dir=self.shm)
            self.started.append(NoServer())
            return self.started[-1]
        need(REDIS, "redis-server")
        path = os.path.join(self.shm, "redis.sock")
        program = self.start(REDIS, "--port", "0", "--unixsocket", path, "--save", "",
                             "--appendonly", "no", "--dir", self.dir)
        wait_for("redis-server", lambda: redis_answers(path))
        self.redis_url = f"unix:{path}"
        return program

    def close(self):
        for program in reversed(self.started):
            program.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.shm, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def start(self, *argv, env=None, log=None):
        log = self.path(log or f"log-{len(self.started)}")
        full = dict(os.environ, **(env or {}))
        program = Program([str(a) for a in argv], log, full)
        self.started.append(program)
        return program

    def run(self, *argv, env=None, seconds=20):
        """Run to the end; returns (exit code, stdout, stderr)."""
        full = dict(os.environ, **(env or {}))
        full.pop("RL_SEGMENT", None)
        full.update(env or {})
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=seconds, env=full,
                              errors="replace", check=False)
        return done.returncode, done.stdout, done.stderr

    def rlctl(self, *argv):
        return self.run(*self.inside, RLCTL, "--segment", self.segment, *argv)

    def status(self):
        code, out, err = self.rlctl("--json", "status")
        assert code in (0, 1), err
        return json.loads(out)

    def config(self, rules, keys=1000):
        """rules: a limit by name, or all of a rule's fields. With a redis it is a fleet's."""
        text = f"segment:\n  path: {self.segment}\n  keys: {keys}\n"
        if self.redis_url:
            text += f"redis: {self.redis_url}\n"
            text += f"host: {self.name}\n" if self.name else ""
            # What is not this rig's own server may be another test's as well.
            text += f"fleet: {os.path.basename(self.shm)}\n" if STORE else ""
        text += "rules:\n"
        for name, rule in rules.items():
            fields = rule if isinstance(rule, dict) else {"limit": rule}
            text += f"  - name: {name}\n"
            text += "".join(f"    {key}: {value}\n" for key, value in fields.items())
        return self.write("rl.yaml", text)

    def agent(self, rules, keys=1000):
        """Start rl-agent with these rules and wait until they are in force."""
        self.config(rules, keys)
        return self.agent_again()

    def agent_again(self):
        """Start rl-agent by the configuration that is there, and wait until it has taken over."""
        program = self.start(*self.inside, AGENT, "--config", self.path("rl.yaml"))
        wait_for("the agent", lambda: self._ready(program))
        return program

    def _ready(self, program):
        assert program.running(), program.output()
        code, out, _ = self.rlctl("--json", "status")
        agent = json.loads(out)["agent"] if code in (0, 1) else {}
        return (agent.get("alive") and agent["pid"] == program.pid
                and os.path.exists(self.segment + ".ctl"))

    def wait_state(self, state, seconds=10.0):
        wait_for(f"state {state}", lambda: self.status()["state"] == state, seconds)


class NoServer:
    """In the place of a redis-server that a test would stop or kill."""

    argv = ("no server",)

    def stop(self):
        """Nothing was started."""

    def output(self):
        return ""

    def __getattr__(self, name):
        raise Skip(f"is about a Redis that dies, and this is {STORE}")


def redis_answers(path):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b"PING\r\n")
            return s.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def listening(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


def nginx_conf(rig, port, workers=2, server=""):
    """A private nginx: own prefix, no access log, workers as the user who runs the tests."""
    os.makedirs(rig.path("www"), exist_ok=True)
    rig.write("www/index.html", "hello\n")
    rig.write("www/big.bin", "x" * 300000)
    user = "user root;" if os.geteuid() == 0 else ""
    temp = "".join(
        f"{name}_temp_path {rig.path('tmp-' + name)};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return rig.write("nginx.conf", f"""
daemon off;
{user}
worker_processes {workers};
pid {rig.path('nginx.pid')};
error_log {rig.path('nginx-error.log')};
events {{ worker_connections 256; }}
http {{
    {temp}
    access_log off;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port};
        root {rig.path('www')};
        {server}
    }}
}}
""")


NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


def need(program, package):
    if not (shutil.which(program) or os.path.exists(program)):
        raise Skip(f"{program} is not here (apt-get install {package})")


class Http:
    """One HTTP/1.1 connection from a chosen loopback address, response by response."""

    def __init__(self, port, source="127.0.0.1", timeout=10):
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def request(self, method="GET", path="/", body=b"", headers=""):
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}{headers}\r\n".encode() + body)
        return self.response(method)

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed")
        self.buffer += data

    def response(self, method="GET"):
        """(status, headers, body) of the next response; 1xx are skipped."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {k.strip().lower(): v.strip()
                   for k, v in (line.split(":", 1) for line in lines[1:])}
        if 100 <= status < 200 and status != 101:
            return self.response(method)
        body = b""
        if method != "HEAD" and status not in (204, 304):
            length = int(headers.get("content-length", "0"))
            while len(self.buffer) < length:
                self._more()
            body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, headers, body

    def ended(self):
        """Has the server closed the connection (with nothing unread before the end)?"""
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except ConnectionError:
            return True


def statuses(port, count, source="127.0.0.1", **kwargs):
    """Status codes of count requests, a connection each."""
    result = []
    for _ in range(count):
        http = Http(port, source)
        result.append(http.request(headers="Connection: close\r\n", **kwargs)[0])
        http.close()
    return result


def main():
    """Run every test of the calling file, in order, and print TAP."""
    module = sys.modules["__main__"]
    tests = [f for name, f in vars(module).items() if name.startswith("test_")]
    wanted = sys.argv[1:]
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for number, test in enumerate(tests, 1):
        if wanted and test.__name__ not in wanted:
            continue
        rig = Rig()
        try:
            test(rig)
            print(f"ok {number} - {test.__name__}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {test.__name__} # SKIP {reason}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {number} - {test.__name__}")
            traceback.print_exc(file=sys.stdout)
            for program in rig.started:
                print(f"# {program.argv}:\n{program.output()}", flush=True)
        finally:
            rig.close()
    print(f"1..{len(tests)}")
    sys.exit(1 if failed else 0)
