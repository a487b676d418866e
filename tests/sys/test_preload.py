"""Goal: an unmodified server under the shim answers a real 429 above its limit, and is
otherwise byte for byte what it was.
Method: real nginx (two workers, edge-triggered epoll) and Python's http.server (threads,
blocking sockets); raw sockets as clients, so that every cut and order is the test's own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from rig import (AGENT, NGINX, RLCTL, SHIM, Http, Skip, contains, equal, free_port, listening,
                 main, need, nginx_conf, statuses, wait_for)

ECHO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "echo_server.py")


def start_nginx(rig, limit, *options, server="", workers=2):
    """nginx behind a limit: (program, port). The agent is a private one at rig.segment."""
    need(NGINX, "nginx")
    port = free_port()
    conf = nginx_conf(rig, port, workers=workers, server=server)
    program = rig.start(RLCTL, "run", "--limit", limit, "--segment", rig.segment, *options, "--",
                        NGINX, "-c", conf)
    wait_for("nginx", lambda: listening(port))
    return program, port


def start_echo(rig, limit=None):
    """The echo server, behind a limit or alone: its port."""
    port = free_port()
    argv = (sys.executable, ECHO, port)
    if limit is not None:
        argv = (RLCTL, "run", "--limit", limit, "--segment", rig.segment, "--") + argv
    rig.start(*argv)
    wait_for("the echo server", lambda: listening(port))
    return port


def start_script(rig, limit, script, *options):
    """A Python server given as text, which gets its port as argument, behind a limit: its port."""
    port = free_port()
    path = rig.write(f"server-{port}.py", script)
    rig.start(RLCTL, "run", "--limit", limit, "--segment", rig.segment, "--", sys.executable, path,
              port, *options)
    wait_for("the server", lambda: listening(port))
    return port


def start_http_server(rig, limit):
    """python -m http.server behind a limit: its port."""
    port = free_port()
    os.makedirs(rig.path("www"), exist_ok=True)
    rig.write("www/index.html", "hello\n")
    rig.start(RLCTL, "run", "--limit", limit, "--segment", rig.segment, "--", sys.executable, "-m",
              "http.server", port, "--protocol", "HTTP/1.1", "--bind", "127.0.0.1", "-d",
              rig.path("www"))
    wait_for("the server", lambda: listening(port))
    return port


def server_pid(port):
    """The process that listens on this port (not rlctl, which waits for it)."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        inode = next(line.split()[9] for line in f
                     if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if f"socket:[{inode}]" in files:
            return int(pid)
    raise AssertionError("nobody listens")


def worker_pids(master):
    with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as f:
        return [int(pid) for pid in f.read().split()]


def nginx_master(rig):
    return int(wait_for("nginx's pid", lambda: os.path.exists(rig.path("nginx.pid")) and
                        open(rig.path("nginx.pid"), encoding="ascii").read().strip()))


def test_preload__nginx_answers_429_above_the_limit_on_one_connection(rig):
    _, port = start_nginx(rig, "5/h")
    http = Http(port)
    got = [http.request() for _ in range(8)]
    equal([g[0] for g in got], [200] * 5 + [429] * 3)
    equal(got[0][2], b"hello\n")
    status, headers, body = got[5]
    equal((status, body), (429, b"Too Many Requests\n"))
    assert headers["retry-after"].isdigit() and 3590 <= int(headers["retry-after"]) <= 3601
    equal([http.request(method)[0] for method in ("HEAD", "GET")], [429, 429])
    equal(rig.status()["totals"]["limited"], 5)


def test_preload__retry_after_is_never_too_short(rig):
    _, port = start_nginx(rig, "1/2900ms")
    http = Http(port)
    start = time.monotonic()
    equal(http.request()[0], 200)
    _, headers, _ = http.request()
    assert time.monotonic() + int(headers["retry-after"]) >= start + 2.9, headers


def test_preload__nginx_limit_is_one_for_all_workers_and_connections(rig):
    _, port = start_nginx(rig, "40/h", workers=4)
    got = []
    lock = threading.Lock()

    def client():
        mine = statuses(port, 15)
        with lock:
            got.extend(mine)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal((got.count(200), got.count(429)), (40, 80))
    assert rig.status()["members"] >= 2, "only one worker took part"


def test_preload__each_client_address_has_the_limit_to_itself(rig):
    _, port = start_nginx(rig, "3/h")
    equal(statuses(port, 4, source="127.0.0.2"), [200, 200, 200, 429])
    equal(statuses(port, 4, source="127.0.0.3"), [200, 200, 200, 429])
    equal(rig.rlctl("get", "run", "127.0.0.2")[0], 1)
    equal(rig.rlctl("get", "run", "127.0.0.4")[0], 0)


def test_preload__refused_client_is_served_again_after_the_window(rig):
    _, port = start_nginx(rig, "2/500ms")
    http = Http(port)
    equal([http.request()[0] for _ in range(3)], [200, 200, 429])
    start = time.monotonic()
    wait_for("the window", lambda: http.request()[0] == 200, seconds=2)
    assert time.monotonic() - start < 1.5


def test_preload__python_http_server_answers_429_and_closes(rig):
    port = free_port()
    os.makedirs(rig.path("www"))
    rig.write("www/index.html", "hello\n")
    rig.start(RLCTL, "run", "--limit", "3/h", "--segment", rig.segment, "--", sys.executable, "-m",
              "http.server", port, "--bind", "127.0.0.1", "-d", rig.path("www"))
    wait_for("the server", lambda: listening(port))
    equal(statuses(port, 3), [200] * 3)
    http = Http(port)
    status, headers, _ = http.request()
    equal((status, headers["connection"]), (429, "close"))
    assert http.ended()


def test_preload__blocking_keep_alive_server_is_limited_between_requests(rig):
    http = Http(start_echo(rig, "3/h"))
    equal([http.request(path=f"/{i}")[::2] for i in range(3)],
          [(200, b"GET /%d" % i) for i in range(3)])
    equal(http.request()[0], 429)
    assert http.ended()


def test_preload__large_and_chunked_bodies_arrive_whole(rig):
    body = os.urandom(300000)
    chunked = b"".join(b"%x;e=1\r\n%s\r\n" % (len(body[i:i + 7001]), body[i:i + 7001])
                       for i in range(0, len(body), 7001)) + b"0\r\nT: x\r\n\r\n"
    head = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    direct = start_echo(rig, "1000/h")
    upstream = start_echo(rig)
    rig.segment += "-2"
    _, proxy = start_nginx(rig, "1000/h", server=f"""
        client_max_body_size 10m;
        location /c {{ proxy_pass http://127.0.0.1:{upstream}; }}""")
    for port in (direct, proxy):
        http = Http(port)
        for _ in range(3):
            status, _, got = http.request("POST", "/c", body)
            assert (status, got == body) == (200, True)
            http.send(head + chunked)
            status, _, got = http.response()
            assert (status, got == body) == (200, True)
            equal(http.request(path="/c")[2], b"GET /c")


def test_preload__head_cut_at_every_byte_is_answered(rig):
    request = b"GET /index.html HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n"
    _, port = start_nginx(rig, "1000/h")
    http = Http(port)
    for cut in range(1, len(request)):
        http.send(request[:cut])
        http.send(request[cut:])
        equal(http.response()[::2], (200, b"hello\n"))
    rig.segment += "-2"
    echo = Http(start_echo(rig, "1000/h"))
    for cut in range(1, len(request)):
        echo.send(request[:cut])
        echo.send(request[cut:])
        equal(echo.response()[0], 200)


def test_preload__short_request_after_a_cut_long_one_is_answered(rig):
    _, port = start_nginx(rig, "1000/h")
    http = Http(port)
    http.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 500)
    time.sleep(0.02)  # nginx is to see it alone; whether it did changes no answer
    http.send(b"\r\n\r\n")
    equal(http.response()[0], 200)
    equal(http.request()[0], 200)


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def cpu_seconds_spent_idle(pids):
    before = cpu_seconds(pids)
    time.sleep(0.5)  # the thing measured is what happens in this time
    return cpu_seconds(pids) - before


def test_preload__half_a_head_makes_no_server_spin(rig):
    _, port = start_nginx(rig, "1000/h")
    pids = worker_pids(nginx_master(rig))
    clients = []
    for _ in range(4):
        clients.append(Http(port))
        clients[-1].send(b"GET / HTTP/1.1\r\nHost:")
    assert cpu_seconds_spent_idle(pids) <= 0.05
    for http in clients:
        http.send(b" x\r\n\r\n")
        equal(http.response()[0], 200)


def test_preload__half_a_head_makes_no_blocking_server_spin(rig):
    rig.agent({"web": "1000/h"})
    port = free_port()
    server = rig.start(sys.executable, ECHO, port, env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    wait_for("the echo server", lambda: listening(port))
    http = Http(port)
    http.send(b"GET / HTTP/1.1\r\nHost:")
    assert cpu_seconds_spent_idle([server.pid]) <= 0.1
    http.send(b" x\r\n\r\n")
    equal(http.response()[0], 200)


def test_preload__half_a_head_and_the_end_reaches_the_server(rig):
    def half(port):
        http = Http(port)
        http.send(b"GET / HTTP/1.1\r\nHost:")
        http.socket.shutdown(socket.SHUT_WR)
        return http.socket.makefile("rb").read().split(b"\r\n")[0]

    equal(half(start_nginx(rig, "1000/h")[1]), b"")  # nginx hangs up on it
    rig.segment += "-2"
    equal(half(start_echo(rig, "1000/h")), half(start_echo(rig)))  # Python answers it


def test_preload__urgent_byte_in_a_head_makes_no_server_spin(rig):
    _, nginx = start_nginx(rig, "1000/h")
    workers = worker_pids(nginx_master(rig))
    rig.segment += "-2"
    python = start_http_server(rig, "1000/h")
    pids = workers + [server_pid(python)]
    clients = []
    for port in (nginx, python):
        http = Http(port)
        http.send(b"GET / HT")
        http.socket.send(b"!", socket.MSG_OOB)
        clients.append(http)
    assert cpu_seconds_spent_idle(pids) <= 0.05
    for http in clients:
        http.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        equal(http.response()[0], 200)


def test_preload__head_larger_than_the_receive_buffer_is_answered(rig):
    other = free_port()
    start_nginx(rig, "1000/h", server=f"listen 127.0.0.1:{other} rcvbuf=2k;")
    equal(Http(other).request(headers="".join(f"X{i}: {'a' * 600}\r\n" for i in range(9)))[0], 200)


def test_preload__signal_ends_a_server_that_waits_for_half_a_head(rig):
    port = start_script(rig, "1000/h", """
import http.server, sys
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])),
                       http.server.SimpleHTTPRequestHandler).serve_forever()
""")
    pid = server_pid(port)
    http = Http(port)
    http.send(b"GET / HT")
    time.sleep(0.3)  # until the server is in its read
    os.kill(pid, signal.SIGINT)
    wait_for("the end of the server", lambda: not os.path.exists(f"/proc/{pid}"), seconds=3)


def test_preload__pipelined_requests_are_answered_in_order(rig):
    _, port = start_nginx(rig, "1000/h")
    http = Http(port)
    paths = ["/index.html", "/none"] * 10
    http.send(b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % p.encode() for p in paths))
    equal([http.response()[0] for _ in paths], [200, 404] * 10)
    equal(http.request()[0], 200)
    rig.segment += "-2"
    echo = Http(start_echo(rig, "1000/h"))
    echo.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(20)))
    equal([echo.response()[2] for _ in range(20)], [b"GET /%d" % i for i in range(20)])


def all_at_once(pid, port, data):
    """Have data lie in the receive queue whole before the server sees any; the connection."""
    http = Http(port)
    os.kill(pid, signal.SIGSTOP)
    http.send(data)
    time.sleep(0.1)
    os.kill(pid, signal.SIGCONT)
    return http


def test_preload__request_as_large_as_a_look_hides_no_other(rig):
    _, port = start_nginx(rig, "1000/h", workers=1, server="client_header_buffer_size 128k;")
    pid = wait_for("the worker", lambda: worker_pids(nginx_master(rig)))[0]
    for size in (2048, 8192, 65536):
        head = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
        head += b"a" * (size - len(head) - 4) + b"\r\n\r\n"
        http = all_at_once(pid, port, head + b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        equal([http.response()[0], http.response()[0]], [200, 404])


def test_preload__chunked_upload_into_a_large_buffer_is_not_left_lying(rig):
    _, port = start_nginx(rig, "1000/h", workers=1, server="""
        client_body_buffer_size 64k;
        location /up { proxy_pass http://127.0.0.1:$server_port/sink; }
        location /sink { return 200 ok; }""")
    pid = wait_for("the worker", lambda: worker_pids(nginx_master(rig)))[0]
    body = (b"%x\r\n%s\r\n" % (20000, b"a" * 20000)) * 3 + b"0\r\n\r\n"
    http = all_at_once(pid, port, b"POST /up HTTP/1.1\r\nHost: x\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n" + body)
    equal(http.response()[::2], (200, b"ok"))


def read_all(http):
    """Statuses until the connection ends or 20 have come."""
    got = []
    try:
        while len(got) < 20:
            got.append(http.response()[0])
    except ConnectionError:
        pass
    return got


def test_preload__pipelining_is_no_way_around_the_limit(rig):
    _, port = start_nginx(rig, "5/h")
    http = Http(port)
    http.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    got = read_all(http)
    equal(got[:5], [200] * 5)
    assert set(got[5:]) <= {429}, got
    equal(statuses(port, 2), [429, 429])


def test_preload__refusal_never_lands_inside_a_response(rig):
    http = Http(start_echo(rig, "1/h"))
    http.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n")
    equal(http.response()[::2], (200, b"GET /slow"))
    assert set(read_all(http)) <= {429}


OWING = r"""
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
s, _ = listener.accept()
first = s.recv(1000)
rest = s.recv(1000) + s.recv(1000)  # asks for more before it answers the first
s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(rest), rest))
"""


def test_preload__refusal_never_overtakes_an_owed_response(rig):
    rig.agent({"web": "1/h"})
    server = rig.start(sys.executable, "-c", OWING, env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    port = wait_for("its port", lambda: server.output().strip())
    http = Http(int(port))
    http.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    equal(http.response()[::2], (200, b""))  # all the server saw of the others is the end
    equal(read_all(http), [])


def test_preload__cut_head_is_no_way_around_the_limit(rig):
    _, port = start_nginx(rig, "2/h")
    http = Http(port)
    got = []
    for _ in range(6):
        http.send(b"GET / HTTP/1.1\r\n")
        time.sleep(0.02)  # nginx is to see it alone; whether it did changes no answer
        http.send(b"Host: x\r\n\r\n")
        got.append(http.response()[0])
    equal(got, [200, 200, 429, 429, 429, 429])


def test_preload__body_of_a_refused_request_is_not_taken_for_the_next_one(rig):
    _, port = start_nginx(rig, "1/h")
    http = Http(port)
    equal(http.request()[0], 200)
    fake = b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    equal(http.request("POST", "/", fake)[0], 429)
    http.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
              b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" % (len(fake), fake))
    equal([http.response()[0] for _ in range(2)], [429, 429])
    equal(rig.status()["totals"]["limited"], 3)


def test_preload__body_of_an_admitted_request_is_not_taken_for_the_next_one(rig):
    http = Http(start_echo(rig, "2/h"))
    fake = b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    equal(http.request("POST", "/", fake)[::2], (200, fake))
    equal(http.request()[0], 200)
    equal(http.request()[0], 429)


def test_preload__client_reads_the_429_of_a_refused_upload(rig):
    _, nginx = start_nginx(rig, "1/h")
    rig.segment += "-2"
    for port in (nginx, start_http_server(rig, "1/h")):
        equal(statuses(port, 1), [200])
        for size in (100, 60000, 200000, 3000000) * 3:
            equal(Http(port).request("POST", "/", b"x" * size)[0], 429)


def test_preload__refused_upload_without_end_is_ended(rig):
    _, port = start_nginx(rig, "1/h")
    equal(statuses(port, 1), [200])
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    for head, piece in ((b"Transfer-Encoding: chunked", chunk),
                        (b"Content-Length: 1000000000", chunk)):
        http = Http(port)
        http.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        sent = 0
        try:
            while sent < 100e6:
                http.send(piece)
                sent += len(piece)
        except ConnectionError:
            pass
        assert sent < 60e6, sent


def test_preload__bytes_behind_a_last_request_do_not_cut_its_response_off(rig):
    _, port = start_nginx(rig, "1000/h")
    for _ in range(10):
        http = Http(port)
        http.send(b"GET /big.bin HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.005)  # until the response is under way
        equal(len(http.response()[2]), 300000)


FORKING = """
import os, signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=50)
while True:
    s, _ = listener.accept()
    if os.fork() == 0:
        text = b''
        while not text.endswith(b'!'):
            got = s.recv(10)
            if not got:
                break
            text += got
        s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s' % (len(text), text))
        os._exit(0)
    s.close()
"""


def test_preload__close_in_a_forking_server_takes_nothing_from_its_child(rig):
    port = start_script(rig, "1000/h", FORKING)
    request = b"PUT / HTTP/1.1\r\nContent-Length: 30000\r\n\r\n" + b"x" * 29999 + b"!"
    for _ in range(20):
        http = Http(port)
        http.send(request)
        equal(http.response()[2], request)


DUP = """
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=50)
while True:
    s, _ = listener.accept()
    d = s.dup()
    s.close()
    if d.recv(1000):
        d.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n')
    d.close()
"""


def test_preload__duplicated_descriptor_is_limited(rig):
    equal(statuses(start_script(rig, "3/h", DUP), 6), [200] * 3 + [429] * 3)


def test_preload__odd_but_valid_requests_are_no_way_around_the_limit(rig):
    host = b"Host: x\r\n"
    odd = {
        "long head": b"GET / HTTP/1.1\r\n" + host + (b"X: " + b"a" * 7000 + b"\r\n") * 4 + b"\r\n",
        "no colon": b"GET / HTTP/1.1\r\n" + host + b"nocolon\r\n\r\n",
        "later version": b"GET / HTTP/1.2\r\n" + host + b"\r\n",
        "trailing blank": b"GET / HTTP/1.1 \r\n" + host + b"\r\n",
        "blank before the colon": b"GET / HTTP/1.1\r\n" + host + b"A : b\r\n\r\n",
        "folded": b"GET / HTTP/1.1\r\n" + host + b"A: b\r\n c\r\n\r\n",
    }
    _, nginx = start_nginx(rig, "1/h")
    rig.segment += "-2"
    for port in (nginx, start_http_server(rig, "1/h")):
        equal(statuses(port, 1), [200])
        for what, request in odd.items():
            http = Http(port)
            http.send(request)
            equal((what, http.response()[0]), (what, 429))


def test_preload__refused_expect_is_answered_at_once_and_closed(rig):
    _, port = start_nginx(rig, "1/h")
    http = Http(port)
    equal(http.request()[0], 200)
    http.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
    status, headers, _ = http.response()
    equal((status, headers["connection"]), (429, "close"))


def test_preload__http_1_0_client_is_refused_and_closed(rig):
    _, port = start_nginx(rig, "1/h")
    equal(statuses(port, 1), [200])
    http = Http(port)
    http.send(b"GET / HTTP/1.0\r\n\r\n")
    status, headers, _ = http.response()
    equal((status, headers["connection"]), (429, "close"))
    assert http.ended()


def test_preload__what_is_not_http_passes_untouched(rig):
    _, port = start_nginx(rig, "1/h")
    equal(statuses(port, 1), [200])
    tls = Http(port)
    tls.send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(32))
    equal(tls.response()[0], 400)  # nginx's own answer
    old = Http(port)
    old.send(b"GET /index.html\r\n")
    equal(old.socket.recv(100), b"hello\n")


def test_preload__long_head_is_left_alone(rig):
    _, port = start_nginx(rig, "1/h", server="large_client_header_buffers 8 32k;")
    equal(statuses(port, 1), [200])
    equal(Http(port).request(headers=("X: " + "y" * 20000 + "\r\n") * 4)[0], 200)


def test_preload__response_kinds_are_framed(rig):
    _, port = start_nginx(rig, "7/h", server="""
        sendfile on;
        location /none { return 204; }
        location /moved { return 304; }
        location /big { }
        location /chunked { gzip on; gzip_min_length 1; gzip_types *; alias """ + rig.path("www") +
                          "/big.bin; }")
    http = Http(port)
    equal(http.request(path="/none")[0], 204)
    equal(http.request(path="/moved")[0], 304)
    equal(http.request("HEAD", "/big.bin")[0], 200)
    equal(len(http.request(path="/big.bin")[2]), 300000)
    http.send(b"GET /chunked HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
    wait_for("the last chunk", lambda: http._more() or http.buffer.endswith(b"\r\n0\r\n\r\n"))
    contains(http.buffer.split(b"\r\n\r\n")[0].decode(), "Transfer-Encoding: chunked")
    http.buffer = b""
    equal([http.request(path="/none")[0] for _ in range(4)], [204, 204, 429, 429])


def test_preload__only_the_given_port_is_limited(rig):
    other = free_port()
    _, port = start_nginx(rig, "1/h", "--port", str(other), server=f"listen 127.0.0.1:{other};")
    equal(statuses(port, 3), [200, 200, 200])
    equal(statuses(other, 2), [200, 429])


def test_preload__port_that_is_none_is_one_line_and_no_effect(rig):
    need(NGINX, "nginx")
    rig.agent({"web": "1/h"})
    for text in ("abc", "99999", "0", "80x", "-1"):
        env = {"LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web", "RL_PORT": text}
        code, out, err = rig.run("/bin/echo", "fine", env=env)
        equal((code, out, err.count("\n")), (0, "fine\n", 1))
        contains(err, "RL_PORT")
    port = free_port()
    rig.start(NGINX, "-c", nginx_conf(rig, port), env=env)
    wait_for("nginx", lambda: listening(port))
    equal(statuses(port, 3), [200] * 3)


def test_preload__without_segment_no_effect_and_attaches_when_one_appears(rig):
    need(NGINX, "nginx")
    port = free_port()
    rig.start(NGINX, "-c", nginx_conf(rig, port), env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    wait_for("nginx", lambda: listening(port))
    equal(statuses(port, 5), [200] * 5)
    rig.agent({"web": "3/h"})
    wait_for("the limit", lambda: 429 in statuses(port, 4), seconds=15)
    equal(rig.status()["totals"]["errors"], 0)


def test_preload__replaced_segment_is_followed(rig):
    need(NGINX, "nginx")
    agent, port = rig.agent({"web": "1000000000/h"}), free_port()
    rig.start(NGINX, "-c", nginx_conf(rig, port), env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    wait_for("nginx", lambda: listening(port))
    equal(statuses(port, 5), [200] * 5)
    agent.stop()
    os.unlink(rig.segment)
    equal(statuses(port, 5), [200] * 5)
    rig.agent({"web": "3/h"})
    wait_for("the new limit", lambda: statuses(port, 4)[-2:] == [429, 429], seconds=15)


def test_preload__kept_connection_follows_a_segment_made_anew_in_another_size(rig):
    need(NGINX, "nginx")
    agent, port = rig.agent({"web": "1000000000/h"}), free_port()
    rig.start(NGINX, "-c", nginx_conf(rig, port, workers=1), env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    wait_for("nginx", lambda: listening(port))
    http, seen = Http(port), []

    def ask():
        seen.append(http.request()[0])
        return seen[-1]

    equal(ask(), 200)
    agent.stop()
    os.unlink(rig.segment)
    rig.agent({"other": "1/h", "web": "30/h"}, keys=20000)
    began = time.monotonic()
    wait_for("the new limit", lambda: ask() == 429, seconds=15)
    assert time.monotonic() - began < 5
    equal(set(seen), {200, 429})
    equal(rig.status()["totals"]["allowed"], 30)
    equal(rig.status()["totals"]["errors"], 0)


def test_preload__segment_of_another_release_is_waited_out(rig):
    need(NGINX, "nginx")
    agent, port = rig.agent({"web": "20/h"}), free_port()
    rig.start(NGINX, "-c", nginx_conf(rig, port, workers=1), env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    wait_for("nginx", lambda: listening(port))
    http = Http(port)
    equal([http.request()[0] for _ in range(5)], [200] * 5)
    agent.stop()
    stopped = time.monotonic()
    with open(rig.segment, "rb") as f:
        other = bytearray(f.read())
    other[8:12] = b"\xff\0\0\0"  # abi_major
    os.unlink(rig.segment)
    with open(rig.segment, "wb") as f:
        f.write(other)
    wait_for("the heartbeat to grow old", lambda: time.monotonic() > stopped + 1.5)
    equal([http.request()[0] for _ in range(16)], [200] * 15 + [429])  # by what it has
    code, _, err = rig.run(AGENT, "--config", rig.path("rl.yaml"))
    equal(code, 2)
    contains(err, "start that release's rl-agent")
    contains(err, "--export")
    os.unlink(rig.segment)
    rig.agent({"web": "20/h"})
    wait_for("the new segment", lambda: http.request()[0] == 200, seconds=15)


def test_preload__rule_that_is_missing_is_no_limit_until_it_comes(rig):
    need(NGINX, "nginx")
    agent = rig.agent({"other": "1/h"})
    port = free_port()
    rig.start(NGINX, "-c", nginx_conf(rig, port), env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    wait_for("nginx", lambda: listening(port))
    equal(statuses(port, 5), [200] * 5)
    rig.config({"other": "1/h", "web": "3/h"})
    agent.signal(signal.SIGHUP)
    wait_for("the limit", lambda: 429 in statuses(port, 4), seconds=15)


def test_preload__removed_rule_is_no_limit_until_it_returns(rig):
    need(NGINX, "nginx")
    agent = rig.agent({"web": "1/h"})
    port = free_port()
    rig.start(NGINX, "-c", nginx_conf(rig, port), env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"})
    wait_for("nginx", lambda: listening(port))
    equal(statuses(port, 2), [200, 429])
    rig.config({"other": "1/h"})
    agent.signal(signal.SIGHUP)
    wait_for("the removal", lambda: rig.status()["generation"] == 2)
    equal(statuses(port, 2), [200, 200])
    rig.config({"web": "1/h"})
    agent.signal(signal.SIGHUP)
    wait_for("the return", lambda: rig.status()["generation"] == 3)
    equal(statuses(port, 1), [429])


def test_preload__shim_without_variables_does_nothing(rig):
    code, out, err = rig.run("sh", "-c", "echo fine; exit 3", env={"LD_PRELOAD": SHIM})
    equal((code, out, err), (3, "fine\n", ""))


def test_preload__file_that_is_no_segment_has_no_effect(rig):
    with open(rig.segment, "wb") as f:
        f.write(b"precious" * 4096)
    equal(rig.run("sh", "-c", "echo fine; exit 3", env={
        "LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"}), (3, "fine\n", ""))


def test_preload__killed_worker_and_agent_cost_nobody_a_request(rig):
    need(NGINX, "nginx")
    agent = rig.agent({"web": "10/h"})
    port = free_port()
    rig.start(RLCTL, "--segment", rig.segment, "run", "--rule", "web", "--", NGINX, "-c",
              nginx_conf(rig, port))
    wait_for("nginx", lambda: listening(port))
    equal(statuses(port, 3), [200] * 3)
    victims = worker_pids(nginx_master(rig))
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    wait_for("new workers", lambda: len(worker_pids(nginx_master(rig))) == 2 and
             not set(victims) & set(worker_pids(nginx_master(rig))))
    equal(statuses(port, 3), [200] * 3)
    agent.signal(signal.SIGKILL)
    agent.wait()
    equal(statuses(port, 5), [200] * 4 + [429])
    wait_for("alone", lambda: rig.status()["state"] == "alone")
    equal(statuses(port, 2), [429, 429])
    rig.agent({"web": "10/h"})
    equal(statuses(port, 2), [429, 429])


def test_preload__nginx_reload_keeps_the_limit(rig):
    program, port = start_nginx(rig, "6/h")
    equal(statuses(port, 3), [200] * 3)
    old = worker_pids(nginx_master(rig))
    program.signal(signal.SIGHUP)
    wait_for("new workers", lambda: not set(old) & set(worker_pids(nginx_master(rig))))
    equal(statuses(port, 4), [200] * 3 + [429])


def free_port6(host):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((host, 0))
            return probe.getsockname()[1]
    except OSError:
        raise Skip("no IPv6 loopback here") from None


def test_preload__ipv4_clients_of_a_dual_stack_server_are_apart(rig):
    port = free_port6("::")
    start_nginx(rig, "1/h", server=f"listen [::]:{port} ipv6only=off;")
    equal(statuses(port, 2, source="127.0.0.2"), [200, 429])
    equal(statuses(port, 1, source="127.0.0.3"), [200])
    equal(rig.rlctl("get", "run", "127.0.0.2")[0], 1)


def test_preload__ipv6_clients_share_their_64(rig):
    port6 = free_port6("::1")
    start_nginx(rig, "2/h", server=f"listen [::1]:{port6};")
    got = []
    for _ in range(3):
        with socket.create_connection(("::1", port6)) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got.append(s.recv(100).split()[1])
    equal(got, [b"200", b"200", b"429"])
    equal(rig.rlctl("get", "run", "::/64")[0], 1)


def test_preload__only_the_intercepted_names_are_exported(rig):
    if not shutil.which("nm"):
        raise Skip("no nm here (apt-get install binutils)")
    _, out, _ = rig.run("nm", "-D", "--defined-only", SHIM)
    names = {line.split()[-1].split("@")[0] for line in out.splitlines()}
    equal(names, set("accept accept4 read readv recv recvfrom recvmsg __read_chk __recv_chk "
                     "__recvfrom_chk write writev send sendto sendmsg sendfile sendfile64 close "
                     "close_range closefrom dup dup2 dup3 fcntl fcntl64 socket socketpair "
                     "epoll_ctl".split()))


TRANSPARENT = r"""
import os, socket, errno
def check(f, *want):
    try: got = f()
    except OSError as e: got = errno.errorcode[e.errno]
    assert got in want, (got, want)
check(lambda: os.read(9999, 1), 'EBADF'); check(lambda: os.close(9999), 'EBADF')
check(lambda: os.write(9999, b'x'), 'EBADF'); check(lambda: os.dup(9999), 'EBADF')
r, w = os.pipe(); os.write(w, b'GET / HTTP/1.1\r\n\r\n'); check(lambda: os.read(r, 5), b'GET /')
a, b = socket.socketpair(); a.send(b'GET / HTTP/1.1\r\n\r\n'); check(lambda: b.recv(3), b'GET')
l = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(l.getsockname())
s, peer = l.accept(); assert peer == c.getsockname(), peer
fd = s.fileno(); d = os.dup(fd)                # two descriptors of one connection
c.send(b'GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n'); import time
check(lambda: os.read(d, 10), b'GET / HTTP'); os.close(d)
l.setblocking(False); check(l.accept, 'EAGAIN')
import ctypes                                  # closed behind the shim's back, number reused
libc = ctypes.CDLL(None, use_errno=True)
c2 = socket.create_connection(l.getsockname()); l.setblocking(True); s2, _ = l.accept()
n = s2.detach(); libc.syscall(3, n)
open('f', 'w').write('GET / HTTP/1.1\r\n\r\n'); f = os.open('f', os.O_RDONLY); assert f == n, (f, n)
check(lambda: os.read(f, 5), b'GET /'); check(lambda: os.read(f, 100), b' HTTP/1.1\r\n\r\n')
os.close(f); c.close(); c2.close(); s.close()
def pair():
    global c, s                                # what comes next has the number of s
    c = socket.create_connection(l.getsockname()); s, _ = l.accept(); return s
def asked(requests):
    n = pair().detach(); c.send(b'GET / HTTP/1.1\r\n\r\n' * 2)
    for _ in range(requests): os.read(n, 18)
    return n
libc.fdopen.restype = ctypes.c_void_p; libc.fclose.argtypes = [ctypes.c_void_p]
ways = [lambda n: libc.fclose(libc.fdopen(n, b'r+')), lambda n: os.closerange(n, n + 1),
        lambda n: libc.syscall(3, n)]
n = pair().detach(); c.send(b'PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n'); os.read(n, 37)
libc.syscall(3, n); a, b = socket.socketpair(type=socket.SOCK_DGRAM); assert a.fileno() == n
b.send(b'one datagram'); check(lambda: a.recv(99), b'one datagram'); a.close(); b.close(); c.close()
for requests in (1, 2):                        # 2: the limit is used up
    for close in ways:
        n = asked(requests); close(n); f = os.open('f', os.O_RDONLY); assert f == n, (f, n)
        check(lambda: os.read(f, 100), b'GET / HTTP/1.1\r\n\r\n'); os.close(f); c.close()
        n = asked(requests); close(n); a, b = socket.socketpair(); assert a.fileno() == n
        b.send(b'answer'); check(lambda: a.recv(9), b'answer'); a.close(); b.close(); c.close()
pair(); check(lambda: os.read(s.fileno(), 0), b'')
s.setsockopt(socket.IPPROTO_TCP, 36, 1)        # TCP_INQ: control messages
c.send(b'\x16\x03\x01'); assert s.recvmsg(1, 99)[1] != [], 'no control message'
c.send(b'x' * 39998); time.sleep(.1)
check(lambda: os.readv(s.fileno(), [bytearray(1000) for _ in range(40)]), 40000)
print('transparent')
"""


def test_preload__other_descriptors_and_errors_are_as_without_the_shim(rig):
    script = rig.write("t.py", TRANSPARENT)
    rig.agent({"web": "8/h"})
    for limit in (False, True):
        env = {"LD_PRELOAD": SHIM, "RL_SEGMENT": rig.segment, "RL_RULE": "web"} if limit else {}
        done = subprocess.run([sys.executable, script], cwd=rig.dir, env=dict(os.environ, **env),
                              capture_output=True, text=True, timeout=20, check=False)
        equal((done.stdout, done.stderr), ("transparent\n", ""))


if __name__ == "__main__":
    main()
