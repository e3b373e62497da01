#!/usr/bin/env python3
"""What an operator sees and uses: service manager, log, metrics, conns, status."""
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import harness
from harness import (CLIENT, FLEXTOE, PYTHON, SERVER, SERVER_DEV, Skipped, case, check,
                     echo_server, need_engine, wait_for)

METRICS = "127.0.0.1:9101"


def text_of(bed, *argv):
    done = subprocess.run([FLEXTOE, *argv], env=bed.lab.environment(), capture_output=True,
                          text=True, timeout=20)
    check(done.returncode == 0, f"{argv}: {done.stderr}")
    return done.stdout


class Manager:
    """The service manager's end of the notify socket."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def hear(self, seconds):
        """The next message; None if none comes."""
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            return self._socket.recv(4096).decode()
        return None

    def hear_word(self, word, seconds):
        end = time.monotonic() + seconds
        heard = []
        while time.monotonic() < end:
            message = self.hear(end - time.monotonic())
            heard.append(message)
            if message is not None and word in message.splitlines():
                return message
        raise AssertionError(f"the engine did not say {word}, but {heard}")

    def forget(self):
        while self.hear(0.001) is not None:
            pass


def other_engine(bed, *arguments, **environment):
    """A second engine, on a bridge of its own."""
    bed.server.ip("link", "add", "plain0", "type", "bridge")
    bed.server.ip("addr", "add", "10.78.0.1/24", "dev", "plain0")
    bed.server.ip("link", "set", "plain0", "up")
    return bed.server.start([FLEXTOE, "run", "--dev", "plain0", "--name", "plain", *arguments],
                            env=dict(bed.lab.environment(), **environment))


class Stopped:
    """One thread, stopped by ptrace; the others run on."""
    _SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
    _WALL = 0x40000000

    def __init__(self, thread):
        self._thread = thread
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                                      ctypes.c_void_p]

    def _trace(self, request):
        if self._libc.ptrace(request, self._thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        try:
            self._trace(self._SEIZE)
        except OSError as error:
            raise Skipped(f"no ptrace here: {os.strerror(error.errno)}") from None
        self._trace(self._INTERRUPT)
        os.waitpid(self._thread, self._WALL)

    def __exit__(self, *_):
        self._trace(self._DETACH)


def thread_of(pid, name):
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as file:
            if file.read().strip() == name:
                return int(task)
    raise AssertionError(f"{pid} has no thread {name}")


@case
def service_manager(bed):
    """Ready, alive as long as the worker is, stopping."""
    need_engine()
    manager = Manager(bed.lab.directory)
    engine = other_engine(bed, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="2000000")
    message = manager.hear_word("READY=1", 15)
    check("STATUS=serving plain0" in message, message)
    check("ready name=plain" in engine.output(), "ready before it was said")
    for _ in range(3):
        manager.hear_word("WATCHDOG=1", 10)
    with Stopped(thread_of(engine.pid, "flextoe-rtc")):
        time.sleep(1)  # what was answered before may still be told
        manager.forget()
        check(manager.hear(3) is None, "a sign of life although the worker hangs")
    manager.hear_word("WATCHDOG=1", 10)
    engine.send_signal(signal.SIGTERM)
    manager.hear_word("STOPPING=1", 10)
    check(engine.wait(10) == 0, engine.output())


@case
def end_by_itself(bed):
    """The manager hears why."""
    need_engine()
    manager = Manager(bed.lab.directory)
    engine = other_engine(bed, NOTIFY_SOCKET=manager.path)
    manager.hear_word("READY=1", 15)
    bed.server.ip("link", "del", "plain0")
    check("STATUS=interface plain0 is gone" in manager.hear_word("STOPPING=1", 10), "no reason")
    check(engine.wait(10) == 1, engine.output())


@case
def journal(bed):
    """Lines begin with their weight in the journal, else with name and time."""
    need_engine()
    log = os.path.join(bed.lab.directory, "as-journal")
    with open(log, "w") as file:
        found = os.fstat(file.fileno())
    script = f'exec "$@" 2>>{log}'
    bed.server.ip("link", "add", "plain0", "type", "bridge")
    bed.server.ip("link", "set", "plain0", "up")
    argv = ["sh", "-c", script, "sh", FLEXTOE, "run", "--dev", "plain0", "--name", "plain"]
    environment = dict(bed.lab.environment(), JOURNAL_STREAM=f"{found.st_dev}:{found.st_ino}")
    engine = bed.server.start(argv, env=environment)

    def lines():
        with open(log) as file:
            return file.read().splitlines()
    wait_for(lambda: any("ready" in line for line in lines()), 15, lines)
    check(engine.stop() == 0, lines())
    said = lines()
    check(all(re.match(r"<[3-7]>(?!flextoe)", line) for line in said), said)
    check(any(re.match(r"<4>the driver of plain0", line) for line in said), said)
    check(any(line.startswith("<6>ready name=plain dev=plain0 ") for line in said), said)
    done = bed.server.run(["sh", "-c", script, "sh", FLEXTOE, "run", "--dev", "nosuch0"],
                          env=environment, check=False)
    check(done.returncode == 1 and lines()[-1].startswith("<3>"), lines()[-1])
    plain = bed.server.start(argv[4:], env=bed.lab.environment())
    wait_for(lambda: "ready" in plain.output(), 15, plain.output)
    check(re.search(r"^flextoe: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ warning: the driver of plain0",
                    plain.output(), re.M), plain.output())
    check(re.search(r"^flextoe: ready name=plain ", plain.output(), re.M), plain.output())


def fetch(bed, path="/metrics"):
    with bed.server.inside():
        connection = socket.create_connection(("127.0.0.1", 9101), 10)
    connection.settimeout(10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while more := connection.recv(1 << 16):
        answer += more
    connection.close()
    head, body = answer.decode().split("\r\n\r\n", 1)
    return head.splitlines(), body


def samples(text):
    """{name with labels: number}, of text that a scraper would take."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            match = re.fullmatch(r'([a-z][a-z0-9_]*\{engine="\w+"(?:,\w+="[^"]*")*\}) (\d+)', line)
            check(match, f"no sample: {line!r}")
            check(match[1] not in found, f"twice: {line}")
            found[match[1]] = int(match[2])
    return found


@case
@harness.bed_options(run_arguments=("--metrics", METRICS))
def metrics(bed):
    """Over HTTP, by the verb and as JSON: the same numbers."""
    need_engine()
    bed.serve(echo_server("level", "0.0.0.0:7001"), 7001)
    connection = bed.connect(7001)
    harness.echo_once(connection, b"x" * 1000)
    head, body = fetch(bed)
    check(head[0] == "HTTP/1.1 200 OK", head)
    check("Content-Type: text/plain; version=0.0.4; charset=utf-8" in head, head)
    served = samples(body)
    asked = samples(text_of(bed, "stats", "--prometheus"))
    check(served.keys() == asked.keys(), served.keys() ^ asked.keys())
    stats = bed.engine.ask("stats")
    label = '{engine="default"}'
    for name in ("passive_opens", "accepts", "bytes_in", "bytes_out"):
        values = [served[f"flextoe_{name}_total{label}"], asked[f"flextoe_{name}_total{label}"],
                  stats["counters"][name]]
        check(len(set(values)) == 1 and values[0] > 0, f"{name}: {values}")
    check(served[f"flextoe_flows{label}"] == stats["levels"]["flows"] == 1, stats["levels"])
    for reason in stats["drops"]:
        check(f'flextoe_drops_total{{engine="default",reason="{reason}"}}' in served, reason)
    check(fetch(bed, "/")[0][0] == "HTTP/1.1 404 Not Found", "another path")
    connection.close()


@case
def metrics_address(bed):
    """Only a loopback address, and a free one."""
    need_engine()
    done = bed.server.run([FLEXTOE, "run", "--dev", SERVER_DEV, "--metrics", f"{SERVER}:9101"],
                          check=False)
    check(done.returncode == 2 and "loopback" in done.stderr, done.stderr)
    with bed.server.inside():
        taken = socket.create_server(("127.0.0.1", 9101))
    engine = other_engine(bed, "--metrics", METRICS)
    check(engine.wait(10) == 1, "it runs")
    check("cannot serve metrics at 127.0.0.1:9101: Address already in use" in engine.output(),
          engine.output())
    taken.close()


def details(text, local):
    """The words of the connection's second line, in order."""
    lines = text.splitlines()
    for row, detail in zip(lines, lines[1:]):
        if row.startswith("ESTAB") and local in row:
            return re.findall(r" ([a-z_]+)(?=[ :]|$)", detail)
    raise AssertionError(f"no connection at {local} in\n{text}")


@case
def conns_as_ss(bed):
    """Every word is one of ss, in its order; the columns are its columns."""
    need_engine()
    bed.serve(echo_server("level", "0.0.0.0:7001"), 7001)
    connection = bed.connect(7001)
    harness.echo_once(connection, b"x" * 5000)
    ours = text_of(bed, "conns")
    kernels = bed.client.run(["ss", "-tian"]).stdout

    def columns(text):
        return re.findall(r"State|Recv-Q|Send-Q|Local Address:Port|Peer Address:Port|Process",
                          text.splitlines()[0])
    check(columns(ours) == columns(kernels) and len(columns(ours)) == 6, ours)
    check(re.search(r'^LISTEN +0 +\d+ +0\.0\.0\.0:7001 +0\.0\.0\.0:\* +users:\(\("echo_server"',
                    ours, re.M), ours)
    shown, known = details(ours, f"{SERVER}:7001"), details(kernels, f"{CLIENT}:")
    for word in ("ts", "sack", "cubic", "wscale", "rto", "rtt", "mss", "pmtu", "rcvmss", "cwnd",
                 "bytes_sent", "bytes_acked", "bytes_received", "segs_out", "segs_in", "send",
                 "rcv_space", "minrtt", "snd_wnd"):
        check(word in shown, f"no {word} in\n{ours}")
    both = [word for word in shown if word in known]
    check(both == [word for word in known if word in shown], f"{shown}\n{known}")
    # What only one end shows is a value of 0 at the other, but always a word of ss.
    for word in set(shown) - set(known):
        check(word in ("ts", "sack", "cubic", "lastsnd", "lastrcv", "lastack", "ssthresh",
                       "unacked", "retrans", "pacing_rate", "notsent", "minrtt", "snd_wnd"),
              f"no word of ss: {word}")
    check("bytes_received:5000" in ours and "bytes_acked:5000" in ours, ours)
    connection.close()


@case
def status_of_processes(bed):
    """What is offloaded, and why the rest is not."""
    need_engine()
    script = harness.write_script(bed, "mixed.py", f"""
import socket, sys, time
listener = socket.create_server(("0.0.0.0", 7001))
own = socket.create_server(("127.0.0.1", 7002))
bound = socket.socket()
bound.bind(("{SERVER}", 7003))
try:
    bound.connect(("{CLIENT}", 1))
except OSError:
    pass
open(sys.argv[1], "w").close()
connection, _ = listener.accept()
time.sleep(60)
""")
    done = os.path.join(bed.lab.directory, "done")
    bed.server.start([FLEXTOE, "exec", "--", PYTHON, script, done])
    wait_for(lambda: os.path.exists(done), 20, "the program")
    wait_for(lambda: "bound" in text_of(bed, "status"), 10, lambda: text_of(bed, "status"))
    connection = bed.connect(7001)
    wait_for(lambda: "connections: 1" in text_of(bed, "status"), 10,
             lambda: text_of(bed, "status"))
    text = text_of(bed, "status")
    check("    listens on 0.0.0.0:7001\n" in text and ":7002" not in text, text)
    check("to the kernel, bound: the program bound a local port" in text, text)
    connection.close()


@case
def prometheus_is_no_json(bed):
    need_engine()
    done = subprocess.run([FLEXTOE, "stats", "--json", "--prometheus"], capture_output=True,
                          text=True, env=bed.lab.environment())
    check(done.returncode == 2 and "--json" in done.stderr and not done.stdout, done.stderr)


UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging",
                    "flextoe@.service.in")


def unit_setting(name):
    with open(UNIT) as file:
        return re.search(rf"^{name}=(.*)$", file.read(), re.M)[1].split()


def run_as_the_unit(bed, prefix=()):
    """An engine with the capabilities that the unit leaves; it serves one echo and ends well."""
    keep = ",".join("+" + word.lower().removeprefix("cap_")
                    for word in unit_setting("CapabilityBoundingSet"))
    check(bed.engine.stop() == 0, "the first engine")
    engine = bed.server.start([*prefix, "setpriv", "--bounding-set", "-all," + keep,
                               "--no-new-privs", FLEXTOE, "run", "--dev", SERVER_DEV,
                               "--socket-group", "nogroup"])
    wait_for(lambda: "ready" in engine.output() or not engine.running(), 30, engine.output)
    check(engine.running(), engine.output())
    bed.server.start([FLEXTOE, "exec", "--strict", "--", *echo_server("level", "0.0.0.0:7001")])
    wait_for(lambda: "LISTEN" in text_of(bed, "conns"), 15, engine.output)
    connection = bed.connect(7001)
    harness.echo_once(connection, b"hello")
    check("ESTAB" in text_of(bed, "conns"), "it is the kernel's echo")
    connection.close()
    os.kill(json.loads(text_of(bed, "status", "--json"))["pid"], signal.SIGTERM)
    check(engine.wait(15) == 0, engine.output())


@case
def privileges_of_the_unit(bed):
    """Its capabilities suffice, and no_new_privs is in nobody's way."""
    need_engine()
    run_as_the_unit(bed)


def calls_of_sets(words):
    """The system calls that systemd's sets (@...) and names allow."""
    calls = set()
    for word in words:
        if word.startswith("@"):
            text = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True,
                                  text=True, check=True).stdout
            inside = [line.strip() for line in text.splitlines()[1:]]
            calls |= calls_of_sets([line for line in inside if line and line[0] != "#"])
        else:
            calls.add(word)
    return calls


@case
def calls_of_the_unit(bed):
    """From start to end the engine and its guardian make no call that the unit forbids."""
    need_engine()
    if shutil.which("systemd-analyze") is None:
        raise Skipped("needs systemd-analyze")
    log = os.path.join(bed.lab.directory, "calls")
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True)
    if probe.returncode != 0:
        raise Skipped("no ptrace here")
    run_as_the_unit(bed, ["strace", "-f", "-qq", "-o", log])
    with open(log, errors="replace") as file:
        made = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", file.read(), re.M))
    check({"bpf", "seccomp", "capset"} <= made, f"not the whole life: {sorted(made)}")
    forbidden = made - calls_of_sets(unit_setting("SystemCallFilter"))
    check(not forbidden, f"the unit forbids {sorted(forbidden)}")


harness.main()
