"""Two network namespaces joined by a veth pair, and what runs in them.

    server side: device srv0, 10.77.0.1, fd77::1     client side: cli0, 10.77.0.2, fd77::2

A wired lab has a third namespace between the two, where a Wire carries the frames, badly (see
docs/netlab.md). Used by tools/demo, tools/netlab, tools/bench and tests. Needs root and iproute2.
A Lab removes what it made when it is closed, when the program ends and also when the program is
killed: a small reaper process waits for that.
"""
import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("TOE_BUILD") or os.path.join(ROOT, "build")
FLEXTOE = os.path.join(BUILD, "bin", "flextoe")
CLIENTS = os.path.join(BUILD, "bin", "clients")

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
SERVER6, CLIENT6 = "fd77::1", "fd77::2"
SERVER_DEV, CLIENT_DEV = "srv0", "cli0"
WIRE_SERVER_DEV, WIRE_CLIENT_DEV = "wire-srv", "wire-cli"
WIRE = os.path.join(BUILD, "bin", "netlab_wire")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something the lab needs did not work; the text says what."""


def client_program(name):
    return os.path.join(CLIENTS, name)


def wait_for(condition, seconds, what):
    """The first true value of condition(), asked every 20 ms."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {seconds} s in vain: {what() if callable(what) else what}")
        time.sleep(0.02)


def cpu_seconds(pid):
    """CPU time of a process: exact for its live threads, in ticks for those that have ended."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
    with open(f"/proc/{pid}/stat") as file:
        user, system = file.read().rsplit(")", 1)[1].split()[11:13]
    return max(total / 1e9, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"))


class Process:
    """A started program in a process group of its own; its output goes to a file."""

    def __init__(self, argv, log, **options):
        self.argv = argv
        self.log = log
        with open(log, "wb") as output:
            self._popen = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT,
                                           process_group=0, **options)
        self.pid = self._popen.pid
        self.stdin = self._popen.stdin

    def running(self):
        return self._popen.poll() is None

    def returncode(self):
        return self._popen.poll()

    def wait(self, seconds):
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self} still runs after {seconds} s\n{self.output()}") from None

    def send_signal(self, number):
        self._popen.send_signal(number)

    def stop(self, seconds=3):
        """SIGTERM, then SIGKILL. The exit status."""
        if self.running():
            self._popen.terminate()
            try:
                return self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        return self._popen.wait()

    def kill(self):
        self._popen.kill()
        return self._popen.wait()

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def output(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def __str__(self):
        return " ".join(os.path.basename(word) for word in self.argv[4:])


class Namespace:
    def __init__(self, lab, name):
        self.lab = lab
        self.name = name

    def _command(self, argv, cpu, realtime):
        prefix = ["ip", "netns", "exec", self.name]
        if cpu is not None:
            prefix += ["taskset", "-c", str(cpu)]
        if realtime:
            prefix += ["chrt", "-r", "10"]
        return prefix + [str(word) for word in argv]

    def start(self, argv, cpu=None, realtime=False, **options):
        """Starts a program in the namespace, optionally pinned and SCHED_RR."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("env", self.lab.environment(self is self.lab.client))
        process = Process(self._command(argv, cpu, realtime), self.lab.new_log(argv), **options)
        self.lab.processes.append(process)
        return process

    def serve(self, argv, port, **options):
        """Starts a server in the namespace; returns once it listens."""
        process = self.start(argv, **options)
        self.wait_listening(process, port)
        return process

    def wait_listening(self, process, port):
        def up():
            if not process.running():
                raise LabError(f"{process} ended with {process.returncode()}\n{process.output()}")
            return self.listens(port)
        wait_for(up, 15, lambda: f"a listener on port {port}\n{process.output()}")

    def run(self, argv, seconds=30, check=True, cpu=None, realtime=False, **options):
        """Runs a program to its end: the CompletedProcess, with text."""
        options.setdefault("env", self.lab.environment(self is self.lab.client))
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.PIPE)
        command = self._command(argv, cpu, realtime)
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace",
                                  timeout=seconds, **options)
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode(errors="replace") if late.stdout else ""
            raise LabError(f"{argv} still runs after {seconds} s: {said[-500:]}") from None
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(command[4:])}: exit {done.returncode}\n"
                           f"{done.stdout[-2000:]}{(done.stderr or '')[-2000:]}")
        return done

    def ip(self, *words):
        """`ip WORDS` in the namespace."""
        done = subprocess.run(["ip", "-n", self.name, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"ip {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def inside(self):
        """Sockets this thread opens in the block belong to the namespace, for ever."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if _libc.setns(there, _CLONE_NEWNET) != 0:
                raise LabError("setns: " + os.strerror(ctypes.get_errno()))
            yield
        finally:
            _libc.setns(before, _CLONE_NEWNET)
            os.close(before)
            os.close(there)

    def tcp_counters(self):
        """The Tcp line of /proc/net/snmp by name."""
        return self._counters("snmp", "Tcp:")

    def tcp_ext_counters(self):
        """The TcpExt line of /proc/net/netstat by name."""
        return self._counters("netstat", "TcpExt:")

    def _counters(self, name, start):
        with self.inside(), open(f"/proc/thread-self/net/{name}") as file:
            names, values = [line.split()[1:] for line in file if line.startswith(start)]
        return dict(zip(names, map(int, values)))

    def sockets(self):
        """What `ss` shows of TCP: a list of (state, local, remote)."""
        lines = self.run(["ss", "-H", "-t", "-a", "-n"]).stdout.splitlines()
        return [(words[0], words[3], words[4]) for words in map(str.split, lines)]

    def listens(self, port):
        return any(state == "LISTEN" and local.endswith(f":{port}")
                   for state, local, _ in self.sockets())


class Engine:
    """A `flextoe run` on one side's device, the server's unless told otherwise."""

    def __init__(self, lab, arguments=(), client_side=False, **options):
        if not os.access(FLEXTOE, os.X_OK):
            raise LabError(f"{FLEXTOE} is not built")
        namespace, device = ((lab.client, CLIENT_DEV) if client_side else
                             (lab.server, SERVER_DEV))
        self._environment = lab.environment(client_side)
        self.process = namespace.start([FLEXTOE, "run", "--dev", device, *arguments],
                                       env=self._environment, **options)
        self.pid = self.process.pid
        wait_for(self._ready, 15, lambda: "the engine's ready line\n" + self.process.output())

    def _ready(self):
        if not self.process.running():
            raise LabError(f"the engine ended with {self.process.returncode()}\n"
                           + self.process.output())
        return "flextoe: ready" in self.process.output()

    def ask(self, verb, *flags):
        """The object `flextoe VERB --json` prints."""
        done = subprocess.run([FLEXTOE, verb, "--json", *flags], capture_output=True, text=True,
                              env=self._environment, timeout=20)
        if done.returncode != 0:
            raise LabError(f"flextoe {verb}: exit {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def counter(self, name):
        return self.ask("stats")["counters"].get(name, 0)

    def connections(self):
        """{(local, remote): entry} of the engine's connections."""
        return {(c["local"], c["remote"]): c for c in self.ask("conns")["conns"]}

    def cpu_seconds(self):
        return self.process.cpu_seconds()

    def stop(self):
        return self.process.stop(5)


class Wire:
    """The program between the two sides of a wired lab.

    `to_server` and `to_client` say what happens to the frames of each direction, as in
    docs/netlab.md: "loss=1%,delay=10ms".
    """

    def __init__(self, lab, to_server="", to_client="", seed=1, fast=False):
        if not os.access(WIRE, os.X_OK):
            raise LabError(f"{WIRE} is not built")
        self._summary = lab.new_log(["wire-summary"]) + ".json"
        arguments = ["--server-dev", WIRE_SERVER_DEV, "--client-dev", WIRE_CLIENT_DEV,
                     "--to-server", to_server, "--to-client", to_client, "--seed", seed,
                     "--json", self._summary, *(["--fast"] if fast else [])]
        self.process = lab.middle.start([WIRE, *arguments])
        try:
            wait_for(self._ready, 10, lambda: "the wire\n" + self.process.output())
        except BaseException:
            self.process.stop()
            raise

    def _ready(self):
        if not self.process.running():
            raise LabError(self.process.output().strip())
        return "netlab: ready" in self.process.output()

    def stop(self):
        """Takes the wire away; the object that says what it did."""
        status = self.process.stop(5)
        if status != 0:
            raise LabError(f"the wire ended with {status}\n{self.process.output()}")
        with open(self._summary) as file:
            return json.load(file)


def own_losses(summary):
    """Frames that a wire lost for want of time or room, which no one asked for."""
    return sum(sum(summary[way]["own_losses"].values()) for way in ("to_server", "to_client"))


class Lab:
    """The namespaces. Use as a context manager."""

    def __init__(self, prefix, extra_clients=0, wired=False, mtu=1500, queues=1):
        self.name = name = f"{prefix}-{os.getpid()}"
        self.server = Namespace(self, name + "-server")
        self.client = Namespace(self, name + "-client")
        self.middle = Namespace(self, name + "-wire") if wired else None
        self._mtu = str(mtu)
        self._queues = [] if queues == 1 else ["numrxqueues", str(queues), "numtxqueues",
                                               str(queues)]
        self._namespaces = [self.server, self.client, *([self.middle] if wired else [])]
        self.processes = []
        self._logs = itertools.count(1)  # of several threads
        self.directory = tempfile.mkdtemp(prefix=name + "-")
        os.chmod(self.directory, 0o755)
        self._reaper = self._start_reaper()
        try:
            self._build(extra_clients)
        except BaseException:
            self.close()
            raise

    def _build(self, extra_clients):
        for namespace in self._namespaces:
            self._create(namespace)
        if self.middle is None:
            self.server.ip("link", "add", SERVER_DEV, *self._queues, "type", "veth", "peer",
                           "name", CLIENT_DEV, *self._queues, "netns", self.client.name)
        else:
            self._build_middle()
        ends = ((self.server, SERVER_DEV, SERVER, SERVER6),
                (self.client, CLIENT_DEV, CLIENT, CLIENT6))
        for namespace, device, four, six in ends:
            namespace.ip("addr", "add", four + "/16", "dev", device)
            namespace.ip("addr", "add", six + "/64", "dev", device, "nodad")
            namespace.ip("link", "set", device, "mtu", self._mtu, "up")
        for number in range(extra_clients):
            self.client.ip("addr", "add", f"10.77.1.{number + 1}/16", "dev", CLIENT_DEV)

    def _build_middle(self):
        """A veth pair to each side; every frame is whole, with its checksums, as on a cable."""
        # The wire is nobody: its kernel announces no address and answers nothing.
        self.middle.run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                         "net.ipv6.conf.default.disable_ipv6=1"])
        for namespace, device, end in ((self.server, SERVER_DEV, WIRE_SERVER_DEV),
                                       (self.client, CLIENT_DEV, WIRE_CLIENT_DEV)):
            namespace.ip("link", "add", device, "type", "veth", "peer", "name", end,
                         "netns", self.middle.name)
            self.middle.ip("link", "set", end, "mtu", self._mtu, "up")
            for place, name in ((namespace, device), (self.middle, end)):
                place.run(["ethtool", "-K", name, "tx", "off", "tso", "off", "gso", "off",
                           "gro", "off"])

    @staticmethod
    def _create(namespace):
        done = subprocess.run(["ip", "netns", "add", namespace.name], capture_output=True,
                              text=True)
        if done.returncode != 0:
            raise LabError("ip netns add: " + done.stderr.strip())
        # Nobody else has these addresses; a router whose own are still being checked is mute.
        namespace.run(["sh", "-c", "for scope in all default; do"
                       " echo 0 >/proc/sys/net/ipv6/conf/$scope/accept_dad; done"])
        namespace.ip("link", "set", "lo", "up")

    def add_namespace(self, word):
        """One more namespace, with nothing in it but lo."""
        namespace = Namespace(self, f"{self.name}-{word}")
        self._create(namespace)
        return namespace

    def environment(self, client_side=False):
        """Where programs find the engine: each side has a run directory of its own."""
        directory = os.path.join(self.directory, "run-client" if client_side else "run")
        return dict(os.environ, FLEXTOE_RUNDIR=directory, FLEXTOE_NAME="default")

    def new_log(self, argv):
        words = [os.path.basename(str(word)) for word in argv if not str(word).startswith("-")]
        name = words[1] if words[0] == "flextoe" and len(words) > 1 else words[0]
        return os.path.join(self.directory, f"{next(self._logs):02d}-{name[:40]}.log")

    def logs(self, limit=4000):
        """The ends of all logs, for a failure's report."""
        text = ""
        for name in sorted(os.listdir(self.directory)):
            path = os.path.join(self.directory, name)
            if name.endswith(".log"):
                with open(path, errors="replace") as file:
                    said = file.read().strip()
                if said and said != "netlab: ready":
                    text += f"--- {name}\n{said[-limit:]}\n"
        return text

    def _start_reaper(self):
        waits, held = os.pipe()
        child = os.fork()
        if child:
            os.close(waits)
            os.waitpid(child, 0)
            return held
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(held)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        clean = os.read(waits, 1)
        if not clean:
            self._remove()
        os._exit(0)

    def _remove(self):
        known = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
        for name in [name for name in known if name.startswith(self.name + "-")]:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True,
                                  text=True).stdout.split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self):
        for process in reversed(self.processes):
            process.stop()
        self._remove()
        if self._reaper is not None:
            os.write(self._reaper, b"x")
            os.close(self._reaper)
            self._reaper = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def end_on_signals():
    """Signals end the program like Ctrl-C: every `with` block cleans up."""
    def interrupt(number, _):
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
