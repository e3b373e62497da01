"""Everything at once for a long time: checked load of unmodified programs while events, drawn from
a seed, disturb them. Used by tools/soak and soak_test.py.

A load reports what happens to it; an event opens a window that says what it may do to whom. What no
window explains is a failure. At quiet points the load rests and nothing may be left in the engine.
"""
import collections
import contextlib
import math
import random
import threading
import time
import traceback

import harness
import soak_levels
from harness import LabError, check, wait_for

# What may happen to a request, from bad to worse. A window that allows one allows those before it.
STALL, REFUSED, CUT, HANG = "stall", "refused", "cut", "hang"
KINDS = [STALL, REFUSED, CUT, HANG]
STALL_SECONDS = 2.0        # a request takes no longer, unless an event allows it
WIRED_STALL_SECONDS = 8.0  # the same on a network that loses what is sent
HOPELESS_SECONDS = 15.0    # no event explains a longer wait
AFTERMATH = 1.0            # seconds behind an event in which what was under way may still fail
LATE_SECONDS = 0.5         # this program itself was not run for so long: the machine is busy
SERVED_SECONDS = 10        # until a new engine has every listener
PARK_SECONDS = 60          # within which all load must have come to rest
GAP_SECONDS = (0.5, 3)     # between two events
ENOUGH_FAILURES = 20
PRESSURE_SHARE = 0.3       # of the events run beside a flood, a hostile program or busy CPUs


class WrongBytes(Exception):
    """What came back is not what was sent: nothing explains it."""


class Window:
    def __init__(self, event, worst, targets):
        self.event = event
        self.allows = KINDS[:KINDS.index(worst) + 1]
        self.targets = targets  # names of services and loads; None: all
        self.begin, self.end = time.monotonic(), math.inf

    def explains(self, kind, target, begin, end):
        return (kind in self.allows and (self.targets is None or target in self.targets)
                and begin <= self.end and end >= self.begin)


class Latency:
    """Counts by duration, in steps of five percent."""

    def __init__(self):
        self.counts = collections.Counter()
        self.longest = 0.0

    def add(self, seconds):
        self.counts[round(math.log(max(seconds, 1e-6), 1.05))] += 1
        self.longest = max(self.longest, seconds)

    def at(self, share):
        left = sum(self.counts.values()) * (1 - share)
        for step in sorted(self.counts, reverse=True):
            left -= self.counts[step]
            if left <= 0:
                return 1.05 ** step
        return 0.0

    def __str__(self):
        return (f"{sum(self.counts.values()):,} requests, p50 {self.at(0.5) * 1e3:.1f} ms, p99 "
                f"{self.at(0.99) * 1e3:.1f} ms, p99.9 {self.at(0.999) * 1e3:.1f} ms, longest "
                f"{self.longest * 1e3:.0f} ms")


class Record:
    """What a soak has seen, over all its phases; every line it says has the time and the event."""

    def __init__(self, say=print):
        self._say = say
        self._lock = threading.RLock()
        self.started = time.monotonic()
        self.events = collections.Counter()
        self.explained = collections.Counter()  # (event, kind)
        self.operations = collections.Counter()  # by load
        self.counters = collections.Counter()    # of all engines
        self.calm, self.disturbed = Latency(), Latency()
        self.quiet_points = []
        self.failures = []
        self.running = []  # names of the events under way

    def clock(self):
        return time.monotonic() - self.started

    def say(self, text):
        with self._lock:
            now = time.monotonic() - self.started
            self._say(f"{now:8.2f} [{' + '.join(self.running) or '-'}] {text}")

    def fail(self, text):
        with self._lock:
            self.failures.append(f"{self.clock():.2f} s: {text}")
            told = len(self.failures)
        if told <= ENOUGH_FAILURES:
            self.say("FAILURE " + text)


class Soak:
    """One phase: a bed, its services, the load on them and the events."""

    def __init__(self, bed, record, seed):
        self.bed = bed
        self.record = record
        self.random = random.Random(seed)
        self.stall = WIRED_STALL_SECONDS if bed.lab.middle else STALL_SECONDS
        self.services, self.loads = [], []
        self.windows = []
        self.over, self.hold = False, threading.Event()
        self.wire = None
        self.engines = 1
        self.levels = soak_levels.Levels(self)
        self._resting = threading.Event()
        self._watch = threading.Thread(target=self._watch_machine, daemon=True)

    # What loads report.

    def explains(self, kind, target, begin, end):
        """The window that explains it, or None."""
        for window in list(self.windows):
            if window.explains(kind, target, begin, end):
                return window
        return None

    def answered(self, load, target, begin, end):
        window = self.explains(STALL, target, begin, end)
        with self.record._lock:
            self.record.operations[load] += 1
            (self.record.disturbed if window else self.record.calm).add(end - begin)
        if window is None and end - begin > self.stall:
            self.record.fail(f"{load}: {end - begin:.2f} s for a request to {target}, allowed are"
                             f" {self.stall:.0f} s and no event explains more")

    def happened(self, kind, load, target, begin, what):
        """Something other than an answer, between `begin` and now."""
        if self.over:
            return
        # A reset that is lost on the way is not sent again.
        lost_reset = self.bed.lab.middle and kind == HANG
        window = self.explains(CUT if lost_reset else kind, target, begin, time.monotonic())
        if window is None:
            self.record.fail(f"{load}: {kind} of {target}, which no event explains: {what}")
        else:
            self.record.explained[window.event, kind] += 1

    def wrong(self, load, what):
        self.record.fail(f"{load}: WRONG BYTES: {what}")

    def broken(self, load, failure):
        """The load itself does not work."""
        if not self.over:
            self.record.fail(f"{load} is broken: {failure!r}\n{traceback.format_exc()}")
        self.rest(1)

    def rest(self, seconds):
        """A pause of a load, which the end or a quiet point cuts short."""
        self.hold.wait(seconds)

    # What events use.

    @contextlib.contextmanager
    def allow(self, worst, targets=None, aftermath=AFTERMATH):
        """Within the block, and `aftermath` seconds more, so much may happen to the targets."""
        window = Window(self.record.running[-1] if self.record.running else "-", worst, targets)
        self.windows = [*self.windows, window]
        try:
            yield
        finally:
            window.end = time.monotonic() + aftermath

    def offloaded(self):
        """Names of all that the engine serves."""
        return {s.name for s in self.services if s.offload} | {
            load.target for load in self.loads if load.offloaded_client}

    def stop_engine(self, kill=False):
        """Ends the engine: in good order with exit status 0, or as by a defect."""
        self.levels.retire_engine()
        if kill:
            self.bed.engine.process.kill()
        else:
            status = self.bed.engine.stop()
            check(status == 0, f"the engine ended with {status} on SIGTERM")

    def start_engine(self):
        self.bed.engine = harness.Engine(self.bed.lab)
        self.engines += 1
        self.wait_served()

    def wait_served(self):
        """Until every service's port is the engine's again."""
        if self.bed.engine is None:
            return
        ports = [s.port for s in self.services if s.offload and s.runs()]

        def missing():
            return [port for port in ports if not self.bed.owns(port)]
        wait_for(lambda: not missing(), SERVED_SECONDS, lambda:
                 f"the engine's listeners on {missing()}")

    # The course of things.

    def start(self, services, loads):
        for service in services(self):
            self.services.append(service)
            service.start()
        self._watch.start()
        self.loads = loads(self)
        for load in self.loads:
            load.start()

    def run(self, table, seconds, quiet_seconds, warm_up=3):
        """Events drawn from the table until the time is over; the first pass has each once."""
        end = time.monotonic() + seconds
        time.sleep(warm_up)
        self.quiet()
        next_quiet = time.monotonic() + quiet_seconds
        order = []
        while time.monotonic() < end and self.goes_on():
            if not order:
                order = self.random.sample(table, len(table))
            event = order.pop()
            beside = [e for e in table if e.pressure]
            if not event.pressure and beside and self.random.random() < PRESSURE_SHARE:
                self.perform_beside(self.random.choice(beside), event)
            else:
                self.perform(event)
            time.sleep(self.random.uniform(*GAP_SECONDS))
            self.look()
            if time.monotonic() > next_quiet:
                self.quiet()
                next_quiet = time.monotonic() + quiet_seconds
        if self.goes_on():
            self.quiet()

    def run_these(self, events):
        """Each of these events once, in their order."""
        for event in events:
            self.perform(event)
            time.sleep(0.3)
            self.look()
        self.quiet(exceptions=False)

    def goes_on(self):
        return len(self.record.failures) < ENOUGH_FAILURES and (
            self.bed.engine is None or self.bed.engine.process.running())

    def perform(self, event):
        record, chosen = self.record, random.Random(self.random.getrandbits(32))
        record.running.append(event.name)
        record.events[event.name] += 1
        begin = time.monotonic()
        record.say("begins")
        try:
            said = event.run(self, chosen)
            record.say(f"over after {time.monotonic() - begin:.1f} s: {said or 'done'}")
        except (AssertionError, LabError, OSError) as failure:
            record.fail(f"event {event.name}: {failure}")
        finally:
            record.running.remove(event.name)

    def perform_beside(self, pressure, event):
        thread = threading.Thread(target=self.perform, args=(pressure,), daemon=True)
        thread.start()
        time.sleep(0.5)
        self.perform(event)
        thread.join(60)
        check(not thread.is_alive(), f"{pressure.name} does not end")

    def look(self):
        """What runs still has to run, and goes forward."""
        for service in self.services:
            if not service.runs():
                self.record.fail(f"{service.name} has ended by itself: {service.describe_end()}")
                service.start()
        engine = self.bed.engine
        if engine is not None and not engine.process.running():
            self.record.fail(f"the engine has ended with {engine.process.returncode()}:"
                             f" {engine.process.output()[-2000:]}")
        self.windows = [w for w in self.windows if w.end > time.monotonic() - 60]
        self.bed.lab.processes[:] = [p for p in self.bed.lab.processes if p.running()
                                     or (engine and p is engine.process)]

    def quiet(self, exceptions=True):
        """Everything stops but the engine, which must be as it was at its start."""
        self.record.running.append("quiet point")
        try:
            with self.allow(CUT):
                self.hold.set()
                wait_for(lambda: all(load.parked for load in self.loads), PARK_SECONDS, lambda:
                         f"the rest of {[l.name for l in self.loads if not l.parked]}")
                self.levels.check_exceptions()
                for service in self.services:
                    service.stop()
                try:
                    self.levels.examine(exceptions)
                finally:
                    for service in self.services:
                        service.start()
        except (AssertionError, LabError) as failure:
            self.record.fail(f"quiet point: {failure}")
        finally:
            self.record.running.remove("quiet point")
            self.hold.clear()

    def finish(self):
        """Ends load, services and engine; never raises."""
        self.over = True
        self.hold.set()
        for load in self.loads:
            load.end()
        for load in self.loads:
            load.join(HOPELESS_SECONDS + 5)
        self._resting.set()
        try:
            for service in self.services:
                service.stop()
            if self.bed.engine is not None and self.bed.engine.process.running():
                self.stop_engine()
            self.levels.finish()
        except (AssertionError, LabError) as failure:
            self.record.fail(f"the end: {failure}")

    def _watch_machine(self):
        """Time in which even this thread was not run is nobody's fault."""
        before = time.monotonic()
        while not self._resting.wait(0.05):
            now = time.monotonic()
            if now - before > LATE_SECONDS:
                window = Window("busy machine", STALL, None)
                window.begin, window.end = before, now + AFTERMATH
                self.windows = [*self.windows, window]
                self.record.explained["busy machine", "delay"] += 1
            before = now


def summary(record, seed, replay):
    """One page of what a soak has done."""
    lines = ["", f"soak of {(time.monotonic() - record.started) / 60:.1f} minutes, seed {seed}",
             f"requests while nothing was disturbed: {record.calm}",
             f"requests beside events that may delay: {record.disturbed}", "answers by load:"]
    lines += [f"  {name:36}{count:>12,}" for name, count in sorted(record.operations.items())]
    lines.append("events, and what they did to requests and connections:")
    for name, count in sorted(record.events.items()):
        effects = ", ".join(f"{number} {kind}" for (event, kind), number
                            in sorted(record.explained.items()) if event == name)
        lines.append(f"  {name:28}{count:>5}  {effects}")
    for name in sorted({event for event, _ in record.explained} - set(record.events)):
        lines.append(f"  ({name})  " + ", ".join(f"{n} {kind}" for (event, kind), n
                                                 in record.explained.items() if event == name))
    lines.append("quiet points:")
    lines += ["  " + text for text in record.quiet_points]
    lines.append("engines' counters: " + ", ".join(
        f"{name} {count:,}" for name, count in sorted(record.counters.items())))
    lines += [f"FAILURE {text}" for text in record.failures[:ENOUGH_FAILURES]]
    verdict = f"FAILED, {len(record.failures)} failures" if record.failures else "clean"
    lines += [f"replay: {replay}", f"soak: {verdict}"]
    return "\n".join(lines)
