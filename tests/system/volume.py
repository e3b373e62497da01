"""Millions of operations of unmodified programs over the engine, their answers compared.

Used by tools/volume and volume_test.py. The steps run twice: a short round that touches all the
memory the engine will ever need for them, then the long one, after which nothing may be left.
"""
import functools
import math
import os
import time

import transfers
from harness import CLIENT, SERVER, LabError, bed_options, check, echo_server, wait_for
from harness import write_script

SHORT_ROUND = 0.05    # of all operations
STANDSTILL = 2.0      # seconds without a segment in which a program must not wait
GROWTH_BYTES = 4 << 20  # what the engine's resident memory may differ by between the rounds
SOURCES = 32
options = bed_options(extra_clients=SOURCES)

ECHO, MEMCACHED, REDIS = 7001, 11211, 6379


class Levels:
    """What the engine holds; all but the resident memory must return to what it was."""

    def __init__(self, bed):
        self._engine = bed.engine
        self._bed = bed

    def read(self):
        status = self._engine.ask("status")
        levels = self._engine.ask("stats")["levels"]
        return {"flow entries": status["flows"],
                "segments": status["segments"],
                "programs": len(status["processes"]),
                "frames held": levels["frames_held"],
                # Ports for connects are kept, and those in TIME-WAIT.
                "descriptors": self._descriptors() - levels["ports_held"],
                "kernel sockets": len(self._bed.server.sockets())}

    def _descriptors(self):
        """The least of some counts: a question's connection may not be closed yet on a busy CPU."""
        counts = []
        for _ in range(5):
            time.sleep(0.01)
            counts.append(len(os.listdir(f"/proc/{self._engine.pid}/fd")))
        return min(counts)

    def at_rest(self):
        """The levels once they stand still: answering a question takes descriptors too."""
        reads = [self.read(), None]

        def still():
            reads[:] = self.read(), reads[0]
            return reads[0] == reads[1]
        wait_for(still, 3, lambda: f"the engine's rest: {reads}")
        return reads[0]

    def resident(self):
        with open(f"/proc/{self._engine.pid}/status") as file:
            line = next(line for line in file if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


class Volume:
    """The steps of both rounds, with their sums."""

    def __init__(self, bed, operations, seconds, say):
        self.bed = bed
        self.operations = operations
        self.say = say
        self.end = time.monotonic() + seconds
        self.checked = {}  # by step: operations whose answers were compared
        self.counted = {}  # by step: what was only counted, as text
        self.levels = Levels(bed) if bed.engine is not None else None
        self.at_start = self.levels.at_rest() if self.levels else None

    def run(self):
        touched = None
        for share in (SHORT_ROUND, 1 - SHORT_ROUND):
            self.round(round(self.operations * share), share)
            if self.levels is None:
                continue
            resident = self.levels.resident()
            self.say(f"  engine's resident memory {resident / 1e6:.1f} MB")
            check(touched is None or resident <= touched + GROWTH_BYTES,
                  f"the engine's resident memory grew from {touched} to {resident} bytes")
            touched = resident

    def round(self, operations, share):
        left = operations
        for name, part, step in STEPS:
            count = left if part is None else math.ceil(operations * part)
            left -= count
            self.step(name, functools.partial(step, self, count, share))

    def step(self, name, run):
        started, before = time.monotonic(), sum(self.checked.values())
        self.name = name
        with self.bed.engine_opens():
            run()
        for process in self.bed.lab.processes[:]:
            if self.bed.engine is None or process is not self.bed.engine.process:
                process.stop()
                self.bed.lab.processes.remove(process)
        self.nothing_left()
        seconds = time.monotonic() - started
        new = sum(self.checked.values()) - before
        self.say(f"  {name}: " + (f"{new:,} checked" if new else self.counted[name])
                 + f", {seconds:.1f} s")

    def nothing_left(self):
        if self.levels is None:
            return
        found = {}

        def back():
            found.update(self.levels.read())
            return found == self.at_start
        wait_for(back, 3, lambda: f"the start's levels {self.at_start}; they are {found}")

    def count(self, operations):
        self.checked[self.name] = self.checked.get(self.name, 0) + operations

    def load(self, program, *arguments):
        found = self.bed.load(program, "--server", *arguments, seconds=5, watch=self.watch)
        self.count(found["operations"])

    def watch(self, process):
        """Looks on until the program ends: it must go forward, and the time is bounded."""
        moved, segments, told = time.monotonic(), None, time.monotonic()
        while process.running():
            time.sleep(0.1)
            now, seen = time.monotonic(), self.bed.client.tcp_counters()["InSegs"]
            if seen != segments:
                moved, segments = now, seen
            check(now - moved <= STANDSTILL, f"{self.name}: no segment for {STANDSTILL} s\n"
                  + process.output()[-1000:])
            check(now < self.end, "the time is over")
            if now - told > 5:
                told = now
                said = process.output().splitlines()
                self.say("    " + (said[-1] if said else f"{self.name} runs"))

    def run_client(self, argv, **more):
        """Runs a program of the client side to its end; what it said."""
        process = self.bed.client.start(argv, **more)
        self.watch(process)
        check(process.returncode() == 0, f"{process}: {process.output()[-1000:]}")
        return process.output()


def memcached(volume, count, _):
    volume.bed.serve(["memcached", "-u", "nobody", "-t", "4", "-m", "512", "-c", "2048",
                      "-l", SERVER, "-p", MEMCACHED], MEMCACHED)
    volume.load("memcheck", f"{SERVER}:{MEMCACHED}", "-c", "50", "--max-size", "2000",
                "-n", count)


def redis(volume, count, _):
    volume.bed.serve(transfers.redis_server(volume.bed), REDIS)
    volume.load("memcheck", f"{SERVER}:{REDIS}", "--protocol", "redis", "-c", "50",
                "--max-size", "2000", "-n", count)


def redis_cli(volume, count, _):
    volume.bed.serve(transfers.redis_server(volume.bed), REDIS)
    transfers.redis_commands(volume.bed, count)
    volume.count(count)


def redis_benchmark(volume, _, share):
    count = round(volume.operations * share / 20)
    volume.bed.serve(transfers.redis_server(volume.bed), REDIS)
    volume.run_client(["redis-benchmark", "-h", SERVER, "-c", "50", "-n", count, "-P", "16",
                       "-t", "set,get", "--csv"])
    volume.counted[volume.name] = f"{2 * count:,} answers counted"


def echo(mode, *arguments):
    def step(volume, count, _):
        volume.bed.serve(echo_server(mode, f"0.0.0.0:{ECHO}"), ECHO)
        volume.load("echoload", f"{SERVER}:{ECHO}", "-n", count, *arguments)
    return step


def asyncio_echo(volume, count, _):
    script = write_script(volume.bed, "asyncio_echo.py", transfers.ASYNCIO_ECHO)
    volume.bed.serve([transfers.PYTHON, script], 8001)
    volume.load("echoload", f"{SERVER}:8001", "-c", "20", "-n", count)


def http_files(volume):
    return transfers.make_files(volume.bed, [1, 100, 1460, 5000, 20000, 100000])


def http_server(volume, count, _):
    files = http_files(volume)
    volume.bed.serve(transfers.http_server(os.path.dirname(files[0])), 8000)
    fetch_in_parts(volume, volume.bed.client.run, SERVER, files, count)


def curl(volume, count, _):
    files = http_files(volume)
    volume.bed.client.serve(transfers.http_server(os.path.dirname(files[0])), 8000)
    fetch_in_parts(volume, volume.bed.run_server_side, CLIENT, files, count)


def fetch_in_parts(volume, run, address, files, count):
    while count > 0:
        now = min(count, 500)
        check(time.monotonic() < volume.end, "the time is over")
        transfers.fetch(run, f"http://{address}:8000", files, now)
        volume.count(now)
        count -= now


def netcat(volume, count, _):
    transfers.netcat(volume.bed, CLIENT, size=200_000, count=count)
    volume.count(count)


def iperf(volume, share, serve, run, address, modes):
    seconds = max(1, round(4e-7 * volume.operations * share))
    moved = [transfers.iperf(serve, run, address, seconds, *mode) for mode in modes]
    volume.counted[volume.name] = f"{sum(moved) / 1e9:.1f} GB counted"


def iperf_server(volume, _, share):
    iperf(volume, share, volume.bed.serve, volume.run_client, SERVER, ([], ["-R"], ["-P", "4"]))


def iperf_client(volume, _, share):
    bed = volume.bed
    iperf(volume, share, bed.client.serve, lambda argv: bed.run_server_side(argv).stdout, CLIENT,
          ([], ["-R"]))


# (program, its part of the checked operations or None for the rest, what runs it). Of those with
# part 0 nothing is compared, only counted.
STEPS = [
    ("memcached -t 4", 0.28, memcached),
    ("redis-server", 0.2, redis),
    ("redis-cli", 0.003, redis_cli),
    ("redis-benchmark", 0, redis_benchmark),
    ("python3 asyncio", 0.03, asyncio_echo),
    ("python3 http.server", 0.0003, http_server),
    ("curl", 0.0003, curl),
    ("nc", 0.00003, netcat),
    ("iperf3 -s", 0, iperf_server),
    ("iperf3 -c", 0, iperf_client),
    ("echo, short connections", 0.01, echo(
        "level", "--connects", "--sources", f"10.77.1.1-10.77.1.{SOURCES}", "-c", "16")),
    ("echo, blocking threads", 0.1, echo("threads", "-c", "16")),
    ("echo, epoll edge", 0.15, echo("edge", "-c", "32", "--size", "500", "--depth", "8")),
    ("echo, epoll level", None, echo("level", "-c", "64")),
]


def run(bed, operations, seconds, say):
    """Runs all steps; ({step: operations checked}, {step: what was counted})."""
    volume = Volume(bed, operations, seconds, say)
    try:
        volume.run()
    except LabError as failure:
        raise AssertionError(f"{getattr(volume, 'name', 'start')}: {failure}") from failure
    return volume.checked, volume.counted
