"""What every system test uses: a bed (two namespaces, an engine) and cases.

A topic file defines cases with @case and ends with harness.main(). `FILE CASE...` runs some,
`FILE` all, `FILE --list` names them; `--kernel` runs the same programs without an engine, which
tells a wrong test from a wrong engine. Exit status: 0 passed, 1 failed, 77 skipped.
"""
import contextlib
import inspect
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from netns import (  # noqa: E402,F401
    BUILD, CLIENT, CLIENT6, CLIENT_DEV, FLEXTOE, SERVER, SERVER6, SERVER_DEV, Engine, Lab, LabError,
    Wire, client_program, cpu_seconds, end_on_signals, own_losses, wait_for)

KERNEL = "--kernel" in sys.argv
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
LIVENESS = 2.0  # seconds within which an end must be seen
OWNED_SECONDS = 5  # until a port whose program listens is the engine's

_cases = {}


class Skipped(Exception):
    """The case cannot run here; the text is the reason."""


def case(function):
    """Marks a test case of the program. It is called without arguments, or with a Bed if it takes
    one. Of a topic that is imported only the functions are used."""
    if function.__module__ == "__main__":
        _cases[function.__name__] = function
    return function


def need_engine():
    if KERNEL:
        raise Skipped("about the engine only")


def check(condition, text):
    if not condition:
        raise AssertionError(text)


@contextlib.contextmanager
def wire(lab, to_server="", to_client=None, seed=1, fast=False):
    """The wire of a wired lab for the time of the block, equal both ways unless told otherwise.

    Yields a dictionary that has, after the block, what the wire counted.
    """
    summary = {}
    carrier = Wire(lab, to_server, to_server if to_client is None else to_client, seed, fast)
    yield summary
    summary.update(carrier.stop())
    lost = own_losses(summary)
    check(lost == 0, f"the wire itself lost {lost} frames: {summary}")


class Bed:
    """A lab with an engine (none with --kernel) and the programs of one case. A wired one joins
    its sides only while there is a wire()."""

    def __init__(self, run_arguments=(), extra_clients=0, wired=False, mtu=1500, queues=1):
        self.lab = Lab("toe-test", extra_clients, wired, mtu, queues)
        self.server = self.lab.server
        self.client = self.lab.client
        self.engine = None
        self._results = 0
        self._restricted = "--seccomp=false" not in run_arguments
        try:
            if not KERNEL:
                self.engine = Engine(self.lab, run_arguments)
        except BaseException:
            self.lab.close()
            raise

    def under_engine(self, argv, strict=True):
        """`argv` as it is run on the server side."""
        argv = [str(word) for word in argv]
        if KERNEL:
            return argv
        return [FLEXTOE, "exec", *(["--strict"] if strict else []), "--", *argv]

    def serve(self, argv, port, offload=True, **options):
        """Starts a server on the server side; returns once it listens."""
        process = self.server.start(self.under_engine(argv) if offload else argv, **options)
        self.wait_listening(process, port, offload)
        return process

    def wait_listening(self, process, port, offload=True):
        self.server.wait_listening(process, port)
        if self.engine is not None and offload:
            wait_for(lambda: self.owns(port), OWNED_SECONDS,
                     f"the engine's listener on port {port}")

    def owns(self, port):
        listeners = self.engine.ask("conns").get("listeners", [])
        return any(entry["local"].endswith(f":{port}") for entry in listeners)

    def run_server_side(self, argv, **options):
        """Runs a program to its end on the server side, offloaded."""
        return self.server.run(self.under_engine(argv), **options)

    def load(self, program, *arguments, seconds=50, watch=None, stalls=0):
        """Runs one of tests/clients on the client side; its result, with no more stalls in it.

        `watch(process)` may look on until the program has ended.
        """
        self._results += 1
        path = os.path.join(self.lab.directory, f"result-{self._results}.json")
        process = self.client.start([client_program(program), "--json", path, *arguments])
        if watch is not None:
            watch(process)
        status = process.wait(seconds)
        check(os.path.exists(path), f"{process}: exit {status}\n{process.output()[-2000:]}")
        with open(path) as result:
            found = json.load(result)
        check(not found["failed"], f"{program}: {found['reason']}")
        check(status == 0, f"{program}: exit {status}")
        check(found["stalls"] <= stalls, f"{program}: {found['stalls']} stalls")
        return found

    @contextlib.contextmanager
    def engine_opens(self, kernel=0):
        """Every connection opened in the block between the two sides is the engine's.

        The client side's kernel counts what was opened; the engine must have counted the same.
        `kernel` connections accepted by the server side's kernel are expected besides.
        """
        before = self._opens()
        yield
        if self.engine is None:
            return

        def difference():
            return {name: value - before[name] for name, value in self._opens().items()}

        def all_ours():
            d = difference()
            return (d["engine_passive"] + kernel == d["client_active"]
                    and d["engine_active"] == d["client_passive"]
                    and d["server_passive"] == kernel and d["server_active"] == 0
                    and d["engine_passive"] + d["engine_active"] > 0)
        with contextlib.suppress(LabError):
            wait_for(all_ours, 2, "")
        check(all_ours(), f"not every connection was the engine's: {difference()}")

    def _opens(self):
        client, server = self.client.tcp_counters(), self.server.tcp_counters()
        found = {"client_active": client["ActiveOpens"] - client["AttemptFails"],
                 "client_passive": client["PassiveOpens"],
                 "server_active": server["ActiveOpens"],
                 "server_passive": server["PassiveOpens"],
                 "engine_passive": 0, "engine_active": 0}
        if self.engine is not None:
            counters = self.engine.ask("stats")["counters"]
            found["engine_passive"] = counters["passive_opens"]
            found["engine_active"] = counters["active_opens"]
        return found

    def wait_no_connections(self, seconds=5):
        if self.engine is not None:
            wait_for(lambda: not self.engine.connections(), seconds,
                     lambda: f"the end of {list(self.engine.connections())[:5]}")

    def finish(self):
        """All programs stop; the engine must have lost nothing and end well."""
        if self.engine is None or not self.engine.process.running():
            return
        for process in reversed(self.lab.processes):
            if process is not self.engine.process:
                process.stop()
        self.wait_no_connections()
        self._check_restricted()
        status = self.engine.stop()
        check(status == 0, f"the engine ended with {status} on SIGTERM")

    def _check_restricted(self):
        """Every case runs with the engine's lists of system calls, which end it if one is short."""
        for task in os.listdir(f"/proc/{self.engine.pid}/task"):
            with open(f"/proc/{self.engine.pid}/task/{task}/status") as file:
                modes = [line.split()[1] for line in file if line.startswith("Seccomp:")]
            check(not self._restricted or modes == ["2"], f"a thread may call anything: {modes}")

    # Kernel sockets of this process on the client side.

    def connect(self, port, address=SERVER, seconds=5):
        with self.client.inside():
            connection = socket.create_connection((address, port), seconds)
        connection.settimeout(seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def listen(self, port, address=CLIENT):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.client.inside():
            listener = socket.create_server((address, port), family=family)
        listener.settimeout(10)
        return listener


def receive_exactly(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(min(size - len(data), 1 << 20))
        check(more, f"the connection ended after {len(data)} of {size} bytes")
        data += more
    return data


def echo_once(connection, data):
    connection.sendall(data)
    check(receive_exactly(connection, len(data)) == data, "the echo differs")


def ping(bed, count):
    """How many of `count` ICMP echo requests are answered."""
    with bed.client.inside():
        icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    icmp.settimeout(2)
    answered = 0
    for number in range(count):
        head = struct.pack("!BBHHH", 8, 0, 0, 0x746f, number)
        total = sum(struct.unpack("!4H", head))
        total = (total & 0xffff) + (total >> 16)
        icmp.sendto(head[:2] + struct.pack("!H", ~total & 0xffff) + head[4:], (SERVER, 0))
        with contextlib.suppress(TimeoutError):
            while True:
                reply = icmp.recv(2000)[20:]
                if reply[0] == 0 and struct.unpack("!HH", reply[4:8]) == (0x746f, number):
                    answered += 1
                    break
    icmp.close()
    return answered


def seconds_until_end(connections, limit=LIVENESS):
    """How long until every silent connection has ended (FIN or RST)."""
    started = time.monotonic()
    left = list(connections)
    while left:
        rest = limit - (time.monotonic() - started)
        check(rest > 0, f"{len(left)} of {len(connections)} peers saw no end within {limit} s")
        ready, _, _ = select.select(left, [], [], rest)
        for connection in ready:
            with contextlib.suppress(ConnectionError):
                check(connection.recv(1) == b"", "unexpected bytes")
            left.remove(connection)
    return time.monotonic() - started


def side_behind(bed, near, four, six, mtu=1500):
    """A namespace behind `near`, which becomes a router: addresses `four`.2 and `six`::2, the
    router's end .1 and ::1; `mtu` of the link between."""
    far = bed.lab.add_namespace("far")
    near.ip("link", "add", "mid0", "type", "veth", "peer", "name", "far0", "netns", far.name)
    for namespace, device, host in ((near, "mid0", 1), (far, "far0", 2)):
        namespace.ip("addr", "add", f"{four}.{host}/24", "dev", device)
        namespace.ip("addr", "add", f"{six}::{host}/64", "dev", device, "nodad")
        namespace.ip("link", "set", device, "mtu", str(mtu), "up")
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        near.run(["sh", "-c", f"echo 1 >/proc/sys/net/{name}"])
    far.ip("route", "add", "default", "via", f"{four}.1")
    far.ip("-6", "route", "add", "default", "via", f"{six}::1")
    return far


def write_script(bed, name, text):
    """A Python program for the server side, in the lab's directory."""
    path = os.path.join(bed.lab.directory, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def echo_server(mode, listen, *arguments):
    return [client_program("echo_server"), "--mode", mode, "--listen", listen, *arguments]


def _run(function):
    if not inspect.signature(function).parameters:
        function()
        return
    bed = Bed(**getattr(function, "bed_options", {}))
    try:
        function(bed)
        bed.finish()
    except Skipped:
        raise
    except BaseException:
        print(bed.lab.logs(), flush=True)
        raise
    finally:
        bed.lab.close()


def bed_options(**options):
    """Decorator: arguments of the case's Bed."""
    def mark(function):
        function.bed_options = options
        return function
    return mark


def _need_namespaces():
    if os.geteuid() != 0:
        raise Skipped("needs root, for network namespaces")
    probe = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        raise Skipped("no network namespaces here: " + probe.stderr.strip())


def use_all_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    names = [word for word in sys.argv[1:] if word != "--kernel"]
    if names == ["--list"]:
        print("\n".join(_cases))
        sys.exit(0)
    unknown = [name for name in names if name not in _cases]
    if unknown:
        sys.exit(f"no case {unknown[0]}; there are: {' '.join(_cases)}")
    end_on_signals()
    use_all_descriptors()
    outcomes = [_outcome(name) for name in names or _cases]
    sys.exit(1 if 1 in outcomes else 77 if set(outcomes) == {77} else 0)


def _outcome(name):
    started = time.monotonic()
    try:
        _need_namespaces()
        _run(_cases[name])
    except Skipped as reason:
        print(f"{name}: skipped\n{reason}", flush=True)
        return 77
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # every failure of a case is reported the same way
        traceback.print_exc(file=sys.stdout)
        print(f"{name}: FAILED after {time.monotonic() - started:.1f} s", flush=True)
        return 1
    print(f"{name}: passed in {time.monotonic() - started:.1f} s", flush=True)
    return 0
