"""Goal: how the agent comes to its Redis, and what it says when it does not.
Method: real agents and real redis-servers on free loopback ports and unix sockets. What is shared
is judged by what lies in the server; what the agent says, by its log."""

import os
import re
import signal
import socket
import ssl
import threading

import fake_redis
import resp
from fleet import Client, during
from rig import REDIS, contains, equal, free_port, listening, main, need, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
RULES = {"s": {"limit": "100/10s", "consistency": "strict"}}


def is_there(path):
    """Answers, if only that it wants a password."""
    try:
        resp.Redis(path)("PING")
    except resp.Error:
        pass
    except OSError:
        return False
    return True


class Server:
    """A redis-server on a unix socket, as tests see it, and on a loopback port. Stopped and started
    again it is at the same address."""

    def __init__(self, rig, *options, listen=("--port",)):
        need(REDIS, "redis-server")
        self.rig = rig
        self.path = os.path.join(rig.shm, "redis.sock")
        self.port = free_port()
        while self.port > 55535:  # a cluster's bus is 10000 above
            self.port = free_port()
        self.options = [word for name in listen for word in (name, self.port)] + list(options)
        self.start()

    def start(self):
        self.program = self.rig.start(
            REDIS, *([] if "--port" in self.options else ["--port", 0]), "--bind", "127.0.0.1",
            "--unixsocket", self.path, "--save", "", "--appendonly", "no", "--dir", self.rig.dir,
            *self.options)

        def there():
            assert self.program.running(), self.program.output()
            return is_there(self.path)
        wait_for("redis-server", there)

    def kill(self):
        self.program.signal(signal.SIGKILL)
        self.program.wait()
        os.unlink(self.path)

    def connect(self):
        return resp.Redis(self.path)


def agent_with(rig, redis, rules=None):
    """A host whose configuration has this text as its redis; not waited for Redis."""
    rig.redis_url = redis
    host = rig.host(f"a{len(rig.started)}")
    host.program = host.agent(rules or RULES)
    return host


def events(program, name):
    return [line for line in program.output().splitlines() if f"event={name} " in line]


def comes_up(host, times=1):
    wait_for("the connection", lambda: len(events(host.program, "redis_up")) >= times)
    host.wait_state("fresh")


def spends(host, key="k"):
    """The first unit of a key comes with credit that Redis has given."""
    client = Client(host)
    for _ in during(5):
        if client.check("s", key):
            return
    raise AssertionError("no credit came")


def test_redis__database_number_is_where_the_keys_go(rig):
    server = Server(rig)
    for url in f"redis://127.0.0.1:{server.port}/3", f"'unix:{server.path}?db=5'":
        host = agent_with(rig, url)
        comes_up(host)
        spends(host)
    databases = server.connect().info("keyspace")
    equal(sorted(databases), ["db3", "db5"])


def test_redis__database_that_is_not_there_is_said(rig):
    server = Server(rig, "--databases", "4")
    host = agent_with(rig, f"redis://127.0.0.1:{server.port}/4")
    wait_for("the event", lambda: events(host.program, "redis_down"))
    line, = events(host.program, "redis_down")
    contains(line, "refused SELECT 4: ERR DB index is out of range")
    contains(line, f"redis=redis://127.0.0.1:{server.port}/4 ")


# --- user and password ---

def password_file(rig, text="sesame", mode=0o600):
    path = rig.write("password", text)
    os.chmod(path, mode)
    return path


def login(server, path, user=None):
    name = f"user: {user}, " if user else ""
    return f"{{url: 'unix:{server.path}', {name}password_file: {path}}}"


def documented_acl():
    """The rights that docs/OPERATIONS.md says suffice."""
    with open(os.path.join(ROOT, "docs/OPERATIONS.md"), encoding="utf-8") as f:
        line, = re.findall(r"^    ACL SETUSER ratel on >PASSWORD (.*)$", f.read(), re.M)
    with open(os.path.join(ROOT, "docs/man/rl-agent.8"), encoding="utf-8") as f:
        contains(" ".join(f.read().split()), line)
    return line.split()


def set_user(redis, rights, password="sesame"):
    redis("ACL", "SETUSER", "ratel", "reset", "on", f">{password}", *rights)


def test_redis__documented_acl_is_enough(rig):
    server = Server(rig)
    redis = server.connect()
    set_user(redis, documented_acl())
    url = login(server, password_file(rig), "ratel").replace("sock'", "sock?db=2'")
    host = agent_with(rig, url, dict(RULES, b={"limit": "50/1s"}))
    comes_up(host)
    client = Client(host)
    for turn, _ in enumerate(during(2.5)):  # keys that come, are leased, given back and go idle
        client.check("s", f"s{turn % 50}")
        client.check("b", f"b{turn % 7}")
    redis("SCRIPT", "FLUSH")
    for turn, _ in enumerate(during(1)):
        client.check("b", f"c{turn % 7}")
    equal(events(host.program, "redis_down") + events(host.program, "redis_refuses"), [])
    equal(redis("ACL", "LOG"), [])
    assert any(b":k:s" in key for key in select(redis, 2)("KEYS", "*"))
    equal([key for key in redis("KEYS", "*") if not key.startswith(b"{rl:default:")], [])


def select(redis, number):
    redis("SELECT", number)
    return redis


def test_redis__each_right_is_needed_or_named(rig):
    """One after the other is taken away; the keys as well."""
    server = Server(rig)
    redis = server.connect()
    rights = documented_acl()
    url = login(server, password_file(rig), "ratel").replace("sock'", "sock?db=2'")
    set_user(redis, rights)
    host = agent_with(rig, url)
    comes_up(host)
    seen = 0
    for right in [r for r in rights if r[0] in "+~"]:
        set_user(redis, [r for r in rights if r != right])
        redis("CLIENT", "KILL", "TYPE", "normal")
        host.program.signal(signal.SIGHUP)  # else refusals are further and further apart
        what = right[1:] if right[0] == "+" else "to access"

        def told(what=what, right=right):
            lines = events(host.program, "redis_down")[seen:]
            if right == "+info":
                return [n for n in events(host.program, "redis_server") if "INFO" in n]
            return [n for n in lines if f"SETUSER ratel {right}\"" in n or f"'{what}'" in n
                    or f"'{what.split('|')[0]}' command or its subcommand" in n]
        last = wait_for(f"a word on {right}", told, 20)[-1]
        if right == "+info":
            contains(last, "could not be looked at: INFO is answered NOPERM")
        seen = len(events(host.program, "redis_down"))
    set_user(redis, rights)
    host.program.signal(signal.SIGHUP)
    comes_up(host)
    spends(host)


def test_redis__rights_are_asked_for_all_that_the_script_does(rig):
    del rig
    words = {}
    for name, call in (("rl_sync", r"\bp?call\('([A-Z]+)'"), ("rl_probe", r"\btry\('([A-Z]+)'")):
        with open(os.path.join(ROOT, f"agent/store/{name}.lua"), encoding="utf-8") as f:
            words[name] = set(re.findall(call, f.read()))
    words["rl_sync"] -= {"INCRBY"}  # of a flag that only tests set
    equal(words["rl_sync"], words["rl_probe"])
    outside = {"evalsha", "eval", "script|load", "info", "select"}
    equal({w.lower() for w in words["rl_probe"]} | outside,
          {r[1:] for r in documented_acl() if r[0] == "+"})


def test_redis__rotated_password_is_used_at_the_next_connection(rig):
    server = Server(rig, "--requirepass", "first")
    redis = server.connect()
    redis("AUTH", "first")
    path = password_file(rig, "first\n")
    host = agent_with(rig, login(server, path))
    comes_up(host)
    redis("CONFIG", "SET", "requirepass", "second")
    spends(host)  # who is in stays in
    redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    wait_for("the loss", lambda: f"does not take the password in {path} for user 'default'"
             in host.program.output())
    password_file(rig, "second")
    comes_up(host, 2)
    spends(host, "k2")
    host.program.stop()
    for secret in "first", "second":
        assert secret not in host.program.output(), host.program.output()


def test_redis__password_that_is_missing_or_not_wanted_is_said(rig):
    server = Server(rig, "--requirepass", "sesame")
    says(rig, f"unix:{server.path}", "the server wants a password (NOAUTH): set "
         "redis.password_file")
    path = password_file(rig, mode=0o644)
    says(rig, login(server, path), f"the password is not taken from {path}: any user of this "
         "host can read or change it (mode 0644): chmod o=")
    says(rig, login(server, path + "x"), f"the password cannot be read from {path}x: No such")
    password_file(rig)
    says(rig, login(server, path, "nobody"), "for user 'nobody'")
    redis = server.connect()
    redis("AUTH", "sesame")
    redis("CONFIG", "SET", "requirepass", "")
    says(rig, login(server, path), "has no password for its default user")


# --- what the server is ---

def notices(host):
    return [line.split('msg="')[1] for line in events(host.program, "redis_server")]


def test_redis__what_redis_may_forget_is_said_once_and_again_when_it_has_changed(rig):
    server = Server(rig)
    redis = server.connect()
    host = agent_with(rig, f"unix:{server.path}")
    forgets = 'appendonly is off: after a crash of Redis the counts'
    evicts = 'maxmemory-policy is allkeys-lru: when its memory is full, counts are evicted'

    def again(times):
        reloads = len(events(host.program, "reloaded"))
        host.program.signal(signal.SIGHUP)  # else it is not asked again within a minute
        wait_for("a reload", lambda: len(events(host.program, "reloaded")) > reloads)
        redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        wait_for("a new connection", lambda: int(
            redis.info("stats")["total_connections_received"]) >= times)
        comes_up(host)
        spends(host, f"k{times}")
    comes_up(host)
    contains(events(host.program, "redis_up")[0], f'server="{name_of(redis)}" ')
    line, = notices(host)
    contains(line, forgets)
    total = int(redis.info("stats")["total_connections_received"])
    redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")  # no matter without a maxmemory
    again(total + 1)
    equal(len(notices(host)), 1)
    redis("CONFIG", "SET", "maxmemory", "100mb")
    again(total + 2)
    again(total + 3)
    equal(len(notices(host)), 2)
    contains(notices(host)[1], evicts)
    contains(events(host.program, "redis_server")[1], "level=warning")
    redis("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis("CONFIG", "SET", "appendonly", "yes")
    again(total + 4)
    redis("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    redis("CONFIG", "SET", "appendonly", "no")
    again(total + 5)
    equal([line.split(":")[0] for line in notices(host)[2:]],
          ["maxmemory-policy is volatile-ttl", "appendonly is off"])


def name_of(redis):
    about = redis.info("server")
    if "valkey_version" in about:
        return f"valkey {about['valkey_version']}"
    return f"redis {about['redis_version']}"


def test_redis__replica_is_refused_and_taken_when_it_is_promoted(rig):
    server = Server(rig)
    redis = server.connect()
    host = agent_with(rig, f"unix:{server.path}", {"s": {"limit": "100/10s"}})
    comes_up(host)
    spends(host)
    redis("REPLICAOF", "127.0.0.1", "1")  # connections stay: it says so to the next call
    wait_for("the event", lambda: "the server is a replica, which only reads: set redis.url to "
             "the primary, or name its Sentinels" in host.program.output())
    host.wait_state("stale")
    assert Client(host).check("s", "k2")
    redis("REPLICAOF", "NO", "ONE")
    comes_up(host, 2)
    spends(host, "k3")


def test_redis__cluster_mode_is_refused(rig):
    server = Server(rig, "--cluster-enabled", "yes")
    says(rig, f"unix:{server.path}", "the server is a node of a cluster: name some of its "
         "nodes in redis.cluster, in place of redis.url")


def test_redis__sentinel_is_refused(rig):
    need(REDIS, "redis-server")
    port = free_port()
    rig.write("sentinel.conf", f"port {port}\nbind 127.0.0.1\ndir {rig.dir}\n")
    rig.start(REDIS, rig.path("sentinel.conf"), "--sentinel")
    wait_for("the sentinel", lambda: listening(port))
    says(rig, f"redis://127.0.0.1:{port}", "the server is a Sentinel: name it in "
         "redis.sentinels, with the primary's name in redis.master")


def fake(rig, info):
    """A server that answers INFO with this; only its words are judged."""
    server = fake_redis.FakeRedis(os.path.join(rig.shm, "fake.sock"))
    server.greeting["INFO"] = info
    return server, f"unix:{os.path.join(rig.shm, 'fake.sock')}"


def test_redis__version_that_is_too_old_is_refused(rig):
    server, url = fake(rig, fake_redis.bulk(b"# Server\r\nredis_version:4.0.14\r\n"))
    says(rig, url, "the server is redis 4.0.14: its scripts need Redis 5 or later, or Valkey")
    for version, name in ((b"redis_version:5.0.0", "redis 5.0.0"),
                          (b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1",
                           "valkey 8.0.1"), (b"redis_version:255.255.255", "redis 255.255.255")):
        server.greeting["INFO"] = fake_redis.bulk(version + b"\r\n")
        host = agent_with(rig, url)
        comes_up(host)
        contains(events(host.program, "redis_up")[0], f'server="{name}" ')
        equal(notices(host), [])
        host.program.stop()
    server.close()


def test_redis__info_that_is_forbidden_or_odd_is_no_reason_to_refuse(rig):
    server, url = fake(rig, b"")
    for answer, word in ((b"-NOPERM no\r\n", "INFO is answered NOPERM no"),
                         (b"-ERR unknown command `INFO`\r\n", "answered ERR unknown command"),
                         (b":1\r\n", "answered in another form")):
        server.greeting["INFO"] = answer
        host = agent_with(rig, url)
        comes_up(host)
        line, = notices(host)
        contains(line, word)
        host.program.stop()
    for answer in b"", b"garbage", b"\r\n:\r\nrole\r\nrole:\r\nmaxmemory:1":
        server.greeting["INFO"] = fake_redis.bulk(answer)
        host = agent_with(rig, url)
        comes_up(host)
        equal(notices(host), [])
        host.program.stop()
    server.close()


# --- TLS ---

class Certificates:
    """A CA and what it signs, made in the rig's folder by openssl."""

    NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    def __init__(self, rig, name):
        need("openssl", "openssl")
        self.rig = rig
        self.name = name
        self.ca = rig.path(f"{name}-ca.pem")
        self.openssl("req", "-x509", *self.NEW_KEY, "-keyout", rig.path(f"{name}-ca.key"), "-out",
                     self.ca, "-subj", f"/CN={name}", "-days", "2")

    def openssl(self, *argv):
        code, _, err = self.rig.run("openssl", *argv)
        assert code == 0, err

    def issue(self, who, names, days=2):
        """(certificate, key); with days below 0 it has expired."""
        base = self.rig.path(f"{self.name}-{who}")
        self.openssl("req", "-new", *self.NEW_KEY, "-keyout", f"{base}.key", "-out",
                     f"{base}.csr", "-subj", f"/CN={who}", "-addext", f"subjectAltName={names}")
        self.openssl("x509", "-req", "-in", f"{base}.csr", "-CA", self.ca, "-CAkey",
                     self.rig.path(f"{self.name}-ca.key"), "-CAcreateserial", "-days", str(days),
                     "-copy_extensions", "copy", "-out", f"{base}.pem")
        os.chmod(f"{base}.key", 0o600)
        return f"{base}.pem", f"{base}.key"


def tls_server(rig, authority, names="IP:127.0.0.1", clients="no", days=2):
    certificate, key = authority.issue("server", names, days)
    return Server(rig, "--tls-cert-file", certificate, "--tls-key-file", key,
                  "--tls-ca-cert-file", authority.ca, "--tls-auth-clients", clients,
                  listen=("--tls-port",))


def tls_url(port, **options):
    words = "".join(f", {name}: '{value}'" for name, value in options.items())
    tls = f", tls: {{{words[2:]}}}" if words else ""
    return f"{{url: 'rediss://127.0.0.1:{port}'{tls}}}"


def commands(server):
    """That anybody but this question has ever got answered."""
    return int(server.connect().info("stats")["total_commands_processed"])


def refused_handshakes(server):
    return server.program.output().count("Error accepting a client connection")


def test_redis__tls_with_the_right_ca_and_name_is_up(rig):
    good = Certificates(rig, "good")
    server = tls_server(rig, good)
    host = agent_with(rig, tls_url(server.port, ca_file=good.ca))
    comes_up(host)
    spends(host)
    contains(host.program.output(), f"redis=rediss://127.0.0.1:{server.port} ")
    equal(events(host.program, "redis_down"), [])
    server.kill()  # and it keeps itself up as without TLS
    wait_for("its loss", lambda: events(host.program, "redis_down"))
    server.start()
    comes_up(host, 2)
    spends(host)


def test_redis__tls_with_a_client_certificate_is_up(rig):
    good = Certificates(rig, "good")
    server = tls_server(rig, good, clients="yes")
    certificate, key = good.issue("agent", "DNS:agent")
    host = agent_with(rig, tls_url(server.port, ca_file=good.ca, cert_file=certificate,
                                   key_file=key))
    comes_up(host)
    spends(host)


def says(rig, url, part):
    """An agent that is told of this Redis says this, and nothing else, and is in no request's
    way."""
    host = agent_with(rig, url, {"s": {"limit": "100/10s"}})
    wait_for(part, lambda: part in host.program.output(), 5)
    client = Client(host)
    assert client.check("s", "k"), "a bounded rule refuses its first unit"
    host.program.stop()
    line, = events(host.program, "redis_down")
    contains(line, part)
    contains(line, "event=redis_down redis=")
    equal(events(host.program, "redis_up"), [])


def test_redis__server_that_is_not_who_it_should_be_is_refused(rig):
    good, other = Certificates(rig, "good"), Certificates(rig, "other")
    for authority, names, days, ca, part in (
            (other, "IP:127.0.0.1", 2, good.ca, f"is not signed by a CA of {good.ca}: set "),
            (good, "IP:127.0.0.1", 2, None, "is not signed by a CA of this system: set "),
            (good, "IP:127.0.0.1", -1, good.ca, "has expired ("),
            (good, "DNS:other.test,DNS:a.test", 2, good.ca,
             "is not for '127.0.0.1' (it is for: other.test, a.test): correct the url"),
            (good, "IP:127.0.0.2", 2, good.ca, "is not for '127.0.0.1'")):
        server = tls_server(rig, authority, names, days=days)
        before = commands(server)
        says(rig, tls_url(server.port, **({"ca_file": ca} if ca else {})), part)
        equal(commands(server), before + 1)
        server.kill()


def test_redis__server_name_is_what_the_certificate_must_have(rig):
    good = Certificates(rig, "good")
    server = tls_server(rig, good, "DNS:cache.test,DNS:*.wild.test")
    for name in "cache.test", "a.wild.test":
        host = agent_with(rig, tls_url(server.port, ca_file=good.ca, server_name=name))
        comes_up(host)
        host.program.stop()
    for name in "cache.test.evil.test", "a.b.wild.test", "wild.test", "127.0.0.1":
        says(rig, tls_url(server.port, ca_file=good.ca, server_name=name),
             f"is not for '{name}' (it is for: cache.test, *.wild.test)")


def test_redis__without_verification_anybody_is_believed_and_only_then(rig):
    other = Certificates(rig, "other")
    server = tls_server(rig, other, "DNS:other.test", days=-1)
    host = agent_with(rig, tls_url(server.port, verify="none"))
    comes_up(host)
    contains(host.program.output(), "warning: 'verify: none': whoever answers")
    host.program.stop()
    says(rig, tls_url(server.port, verify="full"), "the server's certificate")


def test_redis__tls_files_that_are_wrong_are_said(rig):
    good, other = Certificates(rig, "good"), Certificates(rig, "other")
    server = tls_server(rig, good)
    certificate, key = good.issue("agent", "DNS:agent")
    _, other_key = other.issue("agent", "DNS:agent")
    with open(key, encoding="ascii") as f:
        loose = rig.write("loose.key", f.read())
    os.chmod(loose, 0o644)
    missing = rig.path("missing")
    for cert_file, key_file, ca, part in (
            (certificate, missing, good.ca,
             f"the private key cannot be read from {missing}: No such file or directory: "
             "correct the file or redis.tls.key_file"),
            (certificate, loose, good.ca,
             f"the private key is not taken from {loose}: any user of this host can read"),
            (certificate, other_key, good.ca, f"{other_key} does not fit {certificate}"),
            (missing, key, good.ca, f"the client certificate cannot be read from {missing}: "),
            (certificate, key, missing, f"the CA cannot be read from {missing}: No such file"),
            (certificate, key, key, f"the CA cannot be read from {key}: ")):
        says(rig, tls_url(server.port, ca_file=ca, cert_file=cert_file, key_file=key_file), part)
    equal(refused_handshakes(server), 0)  # there were none


def test_redis__client_certificate_the_server_wants_is_said(rig):
    good, other = Certificates(rig, "good"), Certificates(rig, "other")
    server = tls_server(rig, good, clients="yes")
    certificate, key = other.issue("agent", "DNS:agent")
    says(rig, tls_url(server.port, ca_file=good.ca), "the server wants a client certificate")
    says(rig, tls_url(server.port, ca_file=good.ca, cert_file=certificate, key_file=key),
         f"the server refuses the client certificate in {certificate}")


def test_redis__tls_on_one_side_only_is_said(rig):
    good = Certificates(rig, "good")
    server = tls_server(rig, good)
    says(rig, f"redis://127.0.0.1:{server.port}", "does it expect TLS (rediss://)?")
    server.kill()
    server = Server(rig)
    says(rig, tls_url(server.port, ca_file=good.ca), "is this its tls-port?")


def test_redis__tls_trouble_is_said_once_and_over_when_the_file_is_right(rig):
    good, other = Certificates(rig, "good"), Certificates(rig, "other")
    server = tls_server(rig, good)
    ca = rig.path("ca.pem")
    os.symlink(other.ca, ca)
    host = agent_with(rig, tls_url(server.port, ca_file=ca))
    wait_for("attempts", lambda: refused_handshakes(server) > 9)
    line, = events(host.program, "redis_down")
    contains(line, f"is not signed by a CA of {ca}")
    os.symlink(good.ca, ca + ".new")
    os.rename(ca + ".new", ca)
    comes_up(host)
    spends(host)


def test_redis__name_is_told_to_the_server_and_an_address_is_not(rig):
    certificate, key = Certificates(rig, "good").issue("server", "DNS:cache.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    told = []
    context.sni_callback = lambda _, name, __: told.append(name)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()
    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]
    for options, name in (({"server_name": "cache.test"}, "cache.test"), ({}, None)):
        told.clear()
        host = agent_with(rig, tls_url(port, verify="none", **options))
        wait_for("a handshake", lambda: told)
        host.program.stop()
        equal(set(told), {name})
    listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
    listener.close()


if __name__ == "__main__":
    main()
