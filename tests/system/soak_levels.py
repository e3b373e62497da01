"""What a soak looks at while nothing moves: all that an engine has must be as at its start."""
import contextlib
import ctypes
import ipaddress
import os
import platform
import re
import struct

from harness import CLIENT, CLIENT6, check, wait_for

MB = 1 << 20
REST_SECONDS = 20          # until what was under way is gone
EXCEPTIONS_SECONDS = 60    # the same for steering exceptions, which are looked at every 30 s
ENGINE_GROWTH = 8 * MB     # of one engine's resident memory between two quiet points
ENGINE_ABOVE = 32 * MB     # of any engine above the first at its first quiet point
GUARDIAN_ABOVE = 2 * MB
LOG_BYTES = 256 * 1024     # of one engine
TUPLE_BYTES = 36           # of the key of an exception: a 4-tuple
COUNTERS = ("passive_opens", "active_opens", "estab_resets", "retransmitted", "timeouts",
            "misbehaved", "syn_cookies_sent", "frames_in", "frames_out")

# Lines of an engine with the weight of a warning or more, and who causes them.
EXPECTED_LINES = [
    re.compile(r"process \d+ \((raw)?\) disconnected"),  # hostile programs call themselves so
    re.compile(r"packet filter 'nftables chain soak/c' has come"),
]

_BPF_MAP_GET_NEXT_KEY, _BPF_MAP_GET_FD_BY_ID, _BPF_MAP_TYPE_HASH = 4, 14, 1
_SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    return _libc.syscall(_SYS_BPF, command, buffer, 128)


def hash_maps(pid):
    """{(size of a key, size of a value): keys} of the eBPF hashes a process holds."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(FileNotFoundError):
            with open(f"/proc/{pid}/fdinfo/{number}") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
            if int(fields.get("map_type", -1)) == _BPF_MAP_TYPE_HASH:
                sizes = int(fields["key_size"]), int(fields["value_size"])
                found[sizes] = _keys(int(fields["map_id"]), sizes[0])
    return found


def _keys(map_id, key_bytes):
    fd = _bpf(_BPF_MAP_GET_FD_BY_ID, struct.pack("<III", map_id, 0, 0))
    check(fd >= 0, f"eBPF map {map_id}: {os.strerror(ctypes.get_errno())}")
    try:
        this, following = (ctypes.create_string_buffer(key_bytes) for _ in range(2))
        keys, at = [], 0
        while _bpf(_BPF_MAP_GET_NEXT_KEY, struct.pack(
                "<IIQQ", fd, 0, at, ctypes.addressof(following))) == 0:
            this.raw, at = following.raw, ctypes.addressof(this)
            keys.append(this.raw)
        return keys
    finally:
        os.close(fd)


def steering(pid, kept):
    """The entries, without the exceptions for what the kernel keeps, in TIME-WAIT or else."""
    found = {sizes: len(keys) for sizes, keys in hash_maps(pid).items()}
    for sizes in found:
        if sizes[0] == TUPLE_BYTES:
            found[sizes] = max(0, found[sizes] - kept)
    return found


def exceptions(pid):
    """{(local endpoint, remote endpoint)} of the connections that have an entry of their own."""
    found = set()
    for sizes, keys in hash_maps(pid).items():
        if sizes[0] == TUPLE_BYTES:
            for key in keys:
                ports = struct.unpack("!HH", key[32:])
                found.add(((plain(key[:16]), ports[0]), (plain(key[16:32]), ports[1])))
    return found


def plain(address):
    """Text or bytes; IPv4 also if it is mapped into IPv6."""
    found = ipaddress.ip_address(address)
    return getattr(found, "ipv4_mapped", None) or found


def endpoint(text):
    """What `ss` shows: 192.0.2.7:80, [2001:db8::7]:80 or [fe80::7]%eth0:80."""
    address, port = text.rsplit(":", 1)
    return plain(address.split("%")[0].strip("[]")), int(port)


def from_client(pair, ports):
    """From the client side to one of these ports."""
    local, remote = map(endpoint, pair)
    return local[1] in ports and remote[0] in (plain(CLIENT), plain(CLIENT6))


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def mappings(pid):
    """How many mappings a process has of shared memory and packet rings."""
    with open(f"/proc/{pid}/maps") as file:
        return sum("memfd:" in line or "xsk" in line for line in file)


def processes_of(namespace):
    """{pid: (name, state, parent)} of what runs in a namespace."""
    found = {}
    inode = os.stat(f"/run/netns/{namespace.name}").st_ino
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/net").st_ino != inode:
                continue
            with open(f"/proc/{pid}/stat") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            found[int(pid)] = name, rest.split()[0], int(rest.split()[1])
    return found


def zombies(parents):
    """Names of the ended children that these processes do not want to know of."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            if rest.split()[0] == "Z" and int(rest.split()[1]) in parents:
                found.append(name)
    return found


class Levels:
    """Compares each quiet point with the engine's start."""

    def __init__(self, soak):
        self.soak, self.bed = soak, soak.bed
        self.shared_before = set(os.listdir("/dev/shm"))
        self.kernels = set()  # connections of the kernel before the programs ended
        self.first = self._rest() if self.bed.engine is not None else None
        self.touched = {}  # resident memory at the last quiet point by pid
        self.reference = None

    def _rest(self):
        """What is held now, once the answer to the question itself is not counted any more."""
        reads = [self.read(), None]

        def still():
            reads[:] = self.read(), reads[0]
            return reads[0] == reads[1]
        wait_for(still, 5, lambda: f"the engine's rest: {reads}")
        return reads[0]

    def read(self):
        """All that must be again what it was."""
        engine, lab = self.bed.engine, self.bed.lab
        status, levels = engine.ask("status"), engine.ask("stats")["levels"]
        here = processes_of(self.bed.server)
        sockets = self.bed.server.sockets()
        living = [s for s in sockets if s[0] != "TIME-WAIT" and s[1:] not in self.kernels]
        return {"flow entries": status["flows"], "flows": levels["flows"],
                "segments": status["segments"], "programs": len(status["processes"]),
                "frames": levels["frames"], "frames held": levels["frames_held"],
                # Ports for connects are kept, and those in TIME-WAIT.
                "descriptors": len(os.listdir(f"/proc/{engine.pid}/fd")) - levels["ports_held"],
                "threads": len(os.listdir(f"/proc/{engine.pid}/task")),
                "mappings": mappings(engine.pid),
                "steering hashes": steering(engine.pid, len(sockets) - len(living)),
                "kernel sockets": sorted(living),
                "processes": sorted(name for name, _, _ in here.values()),
                "zombies": zombies({os.getpid(), *here}),
                "run directory": sorted(os.listdir(os.path.join(lab.directory, "run"))),
                "/dev/shm": sorted(n for n in set(os.listdir("/dev/shm")) - self.shared_before
                                   if "toe" in n),
                "core files": sorted(n for n in [*os.listdir(lab.directory), *os.listdir(".")]
                                     if n == "core" or n.startswith("core."))}

    def examine(self, exceptions=True):
        """At a quiet point: the levels are the start's, memory has not grown. Without `exceptions`
        it is not awaited that those of the kernel's connections are forgotten."""
        if self.first is None:
            return
        found = {}

        def differences():
            found.update(self.read())
            return {name: (value, found[name]) for name, value in self.first.items()
                    if found[name] != value}

        def rest(seconds, but=()):
            wait_for(lambda: not set(differences()) - set(but), seconds, lambda:
                     "not as at the start: " + ", ".join(
                         f"{name} {was} -> {now}" for name, (was, now) in differences().items()))
        rest(REST_SECONDS, ["steering hashes"])
        if exceptions:
            rest(EXCEPTIONS_SECONDS)
        self._examine_memory()
        self.check_log()

    def check_exceptions(self):
        """While programs listen: what the kernel has on a port of the engine's reaches the kernel.

        No more is asked of it. Behind a SYN cookie the kernel takes a late copy of an ACK for a
        connection whose peer knows nothing of it, and has it for minutes.
        """
        if self.first is None:
            return
        owned = {endpoint(row["local"])[1] for row in self.bed.engine.ask("conns")["listeners"]}
        services = {service.port for service in self.soak.services if not service.client_side}
        self.kernels = {pair for pair in self._connections() if from_client(pair, services)}
        known = exceptions(self.bed.engine.pid)
        lost = [pair for pair in self.kernels & self._connections() if from_client(pair, owned)
                and tuple(map(endpoint, pair)) not in known]
        check(not lost, f"{len(lost)} connections of the kernel without an exception: {lost[:5]}")

    def _connections(self):
        return {(local, remote) for state, local, remote in self.bed.server.sockets()
                if state not in ("LISTEN", "UNCONN")}

    def _examine_memory(self):
        pid = self.bed.engine.pid
        guardian = next(p for p, (name, _, _) in processes_of(self.bed.server).items()
                        if name == "flextoe-guard")
        now = resident(pid), resident(guardian)
        self.soak.record.quiet_points.append(
            f"{self.soak.record.clock():8.1f} s: engine {pid} {now[0] / MB:.1f} MB, guardian"
            f" {now[1] / MB:.1f} MB; levels as at the start")
        self.soak.record.say(self.soak.record.quiet_points[-1].split(": ", 1)[1])
        self.reference = self.reference or now
        check(now[0] <= self.reference[0] + ENGINE_ABOVE
              and now[0] <= self.touched.get(pid, now[0]) + ENGINE_GROWTH,
              f"the engine's resident memory is {now[0]}, was {self.touched.get(pid)}; the first"
              f" engine's {self.reference[0]}")
        check(now[1] <= self.reference[1] + GUARDIAN_ABOVE,
              f"the guardian's resident memory is {now[1]}, was {self.reference[1]}")
        self.touched[pid] = now[0]

    def check_log(self):
        """No line of weight but those that an event explains."""
        said = self.bed.engine.process.output()
        check(len(said) <= LOG_BYTES, f"the engine's log has {len(said)} bytes")
        odd = [line for line in said.splitlines()
               if re.search(r" (warning|error|critical): ", line)
               and not any(p.search(line) for p in EXPECTED_LINES)]
        check(not odd, f"{len(odd)} unexpected lines in the engine's log: {odd[:5]}")

    def retire_engine(self):
        """Before an engine ends: what it has counted and said."""
        counters = self.bed.engine.ask("stats")["counters"]
        for name in COUNTERS:
            self.soak.record.counters[name] += counters.get(name, 0)
        self.soak.record.counters["engines"] += 1
        self.check_log()

    def finish(self):
        """After the engine has ended in good order: its files are gone, and its guardian."""
        if self.first is None:
            return
        wait_for(lambda: not processes_of(self.bed.server), 5,
                 lambda: f"the end of {processes_of(self.bed.server)}")
