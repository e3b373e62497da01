"""The events of a soak: one function each. `@event` puts it into the table.

A function is given the soak and a random generator of its own. Around what it does it says with
`soak.allow(worst, targets)` what may happen to whom; whatever else happens is a failure. It leaves
everything as it was. What it returns is printed.
"""
import contextlib
import signal
import subprocess
import sys
import time

import changes_test
import flood_test
import harness
import hostile_test
from harness import (CLIENT, CLIENT_DEV, FLEXTOE, SERVER, SERVER6, SERVER_DEV, LabError, check,
                     wait_for)
from mtu_test import set_mtu
from soak import CUT, REFUSED, STALL

FROZEN_SECONDS = 2
AWAY_SECONDS = 1        # of an address, a route, a device
NETWORK_AFTERMATH = 4   # until what was lost meanwhile has been sent again
FLUSHED = REFUSED       # a SYN that waits for the entry that is flushed fails with EHOSTUNREACH
PRESSURE_SECONDS = 3
ATTACKS = [("garbage",), ("scribble", 7101), ("dying", 7102), ("flood",), ("mute",),
           ("connects", SERVER)]
HOSTILE_SEED = 1 << 30
BAD_NETWORKS = ["loss=1%", "loss=0.5%,delay=5ms,jitter=2ms", "reorder=2%,reorder-by=3ms",
                "duplicate=1%,corrupt=0.2%", "rate=100Mbit,queue=200", "delay=10ms", ""]

TABLE = []


class Event:
    def __init__(self, run, pressure, engine, ends_engine, wired):
        self.run, self.name = run, run.__name__.replace("_", " ")
        self.pressure, self.engine, self.wired = pressure, engine, wired
        self.ends_engine = ends_engine


def event(pressure=False, engine=True, ends_engine=False, wired=False):
    """`pressure`: may run beside another; `engine`: makes no sense without one; `wired`: only where
    there is a bad network."""
    def put(function):
        TABLE.append(Event(function, pressure, engine, ends_engine, wired))
        return function
    return put


def table(bed, names=()):
    """The events that are possible on this bed; only the named ones, if there are names."""
    unknown = set(names) - {e.name for e in TABLE}
    check(not unknown, f"no event {unknown}; there are: {', '.join(e.name for e in TABLE)}")
    return [e for e in TABLE if (not names or e.name in names) and (bed.engine or not e.engine)
            and (bed.lab.middle or not e.wired)]


# --- Ends of programs and of the engine

@event(engine=False)
def program_killed(soak, chosen):
    return _program_ends(soak, chosen, signal.SIGKILL)


@event(engine=False)
def program_terminated(soak, chosen):
    return _program_ends(soak, chosen, signal.SIGTERM)


def _program_ends(soak, chosen, number):
    service = chosen.choice([s for s in soak.services if not s.client_side])
    with soak.allow(CUT, {service.name}):
        service.process.send_signal(number)
        service.process.wait(5)
        begin = time.monotonic()
        service.start()
    return f"{service.name}, served again after {time.monotonic() - begin:.2f} s"


@event(engine=False)
def client_killed(soak, chosen):
    """Its load expects it; nobody else may notice."""
    def running():
        return [load for load in soak.loads if getattr(load, "process", None)
                and load.process.running()]
    load = chosen.choice(wait_for(running, 20, "a program that runs"))
    load.kill()
    return load.name


@event(ends_engine=True)
def engine_restarted(soak, chosen):
    """In good order; meanwhile the kernel serves. Connections of the kernel's own programs live."""
    with soak.allow(CUT, soak.offloaded() | {"iperf3"}):
        soak.stop_engine()
        time.sleep(chosen.random() * 2)
        soak.start_engine()
    return f"pid {soak.bed.engine.pid}"


@event(ends_engine=True)
def engine_killed(soak, chosen):
    with soak.allow(CUT, soak.offloaded() | {"iperf3"}):
        soak.stop_engine(kill=True)
        time.sleep(0.2 + chosen.random() * 2)
        soak.start_engine()
    return f"pid {soak.bed.engine.pid}"


@event()
def engine_frozen(soak, _):
    """Everything waits, then goes on: nothing is cut."""
    # Programs that start meanwhile may give up on it and use the kernel.
    with soak.allow(STALL, aftermath=NETWORK_AFTERMATH):
        soak.bed.engine.process.send_signal(signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        soak.bed.engine.process.send_signal(signal.SIGCONT)


# --- The network changes

@event(engine=False)
def address_removed(soak, _):
    """Connections outlive their address."""
    with soak.allow(REFUSED, aftermath=NETWORK_AFTERMATH):
        server = soak.bed.server
        for address, length in ((SERVER, "/16"), (SERVER6, "/64")):
            server.ip("addr", "del", address + length, "dev", SERVER_DEV)
        time.sleep(AWAY_SECONDS)
        server.ip("addr", "add", SERVER + "/16", "dev", SERVER_DEV)
        server.ip("addr", "add", SERVER6 + "/64", "dev", SERVER_DEV, "nodad")
        soak.wait_served()


@event(engine=False)
def route_withdrawn(soak, _):
    with soak.allow(REFUSED, aftermath=NETWORK_AFTERMATH):
        soak.bed.server.ip("route", "add", "unreachable", CLIENT + "/32")
        time.sleep(AWAY_SECONDS)
        soak.bed.server.ip("route", "del", "unreachable", CLIENT + "/32")


@event(engine=False)
def congestion_of_the_route_changed(soak, chosen):
    name = chosen.choice(["reno", "cubic"])
    soak.bed.server.ip("route", "change", "10.77.0.0/16", "dev", SERVER_DEV, "proto", "kernel",
                       "scope", "link", "src", SERVER, "congctl", name)
    return name


@event(engine=False)
def mac_address_changed(soak, chosen):
    """The peer's, then the device's own."""
    with soak.allow(FLUSHED, aftermath=NETWORK_AFTERMATH):
        for namespace, device in ((soak.bed.client, CLIENT_DEV), (soak.bed.server, SERVER_DEV)):
            changes_test.set_mac(namespace, device, f"02:00:00:00:{chosen.randrange(256):02x}:"
                                                    f"{chosen.randrange(256):02x}")
            soak.bed.client.ip("neigh", "flush", "dev", CLIENT_DEV)
            time.sleep(0.5)


@event(engine=False)
def peer_announced(soak, _):
    """A gratuitous ARP and an unsolicited advertisement that change nothing."""
    changes_test.announce_client(soak.bed)


@event(engine=False)
def neighbours_flushed(soak, _):
    with soak.allow(FLUSHED):
        for namespace, device in ((soak.bed.server, SERVER_DEV), (soak.bed.client, CLIENT_DEV)):
            with contextlib.suppress(LabError):  # entries change meanwhile
                namespace.ip("neigh", "flush", "dev", device)


@event(engine=False)
def mtu_changed(soak, chosen):
    with soak.allow(STALL, aftermath=NETWORK_AFTERMATH):
        for mtu in (chosen.choice([1280, 1400]), 1500):
            set_mtu(soak.bed, mtu, mtu)
            time.sleep(0.5)


@event(engine=False)
def device_down(soak, _):
    """The server side's: its routes and its IPv6 address go too."""
    with soak.allow(REFUSED, aftermath=NETWORK_AFTERMATH):
        soak.bed.server.ip("link", "set", SERVER_DEV, "down")
        time.sleep(AWAY_SECONDS)
        soak.bed.server.ip("link", "set", SERVER_DEV, "up")
        soak.bed.server.ip("addr", "add", SERVER6 + "/64", "dev", SERVER_DEV, "nodad")
        soak.wait_served()


@event(engine=False)
def carrier_lost(soak, _):
    """The client side goes down and keeps its addresses."""
    changes_test.keep_addresses(soak.bed.client)
    with soak.allow(REFUSED, aftermath=NETWORK_AFTERMATH):
        soak.bed.client.ip("link", "set", CLIENT_DEV, "down")
        time.sleep(AWAY_SECONDS)
        soak.bed.client.ip("link", "set", CLIENT_DEV, "up")


@event(engine=False, wired=True)
def network_changed(soak, chosen):
    """Another bad network; while it is changed nothing passes."""
    with soak.allow(STALL, aftermath=NETWORK_AFTERMATH):
        soak.wire.stop()
        name = chosen.choice(BAD_NETWORKS)
        soak.wire = harness.Wire(soak.bed.lab, name, name, chosen.getrandbits(30))
    return name or "a good one"


# --- The operator

@event()
def operator_asks(soak, _):
    """Every verb answers while everything runs."""
    engine, begin = soak.bed.engine, time.monotonic()
    for _ in range(2):
        for verb in ("conns", "stats", "status", "config"):
            check(isinstance(engine.ask(verb), dict), verb)
    for words in (["conns"], ["status"], ["stats"], ["stats", "--prometheus"]):
        done = subprocess.run([FLEXTOE, *words], capture_output=True, text=True, timeout=20,
                              env=soak.bed.lab.environment())
        check(done.returncode == 0 and done.stdout, f"{words}: {done.stderr}")
    return f"12 answers in {time.monotonic() - begin:.2f} s"


@event()
def packet_filter_comes_and_goes(soak, _):
    """New sockets are the kernel's meanwhile; nobody notices. What listened before stays the
    engine's."""
    # Of iperf3 the load awaits that each new server is the engine's; one that begins now never is.
    with soak.allow(REFUSED, {"iperf3"}, aftermath=harness.OWNED_SECONDS + 1):
        soak.bed.server.run(["nft", "add table inet soak; add chain inet soak c { type filter hook"
                             " input priority 0; }"])
        time.sleep(1)
        soak.bed.server.run(["nft", "delete table inet soak"])
    soak.wait_served()


# --- Pressure, also beside other events

@event(pressure=True)
def hostile_program(soak, chosen):
    """Of another user: nobody may notice."""
    name, *arguments = chosen.choice(ATTACKS)
    path = hostile_test.socket_path(soak.bed)
    attacker = hostile_test.start_as_nobody(soak.bed, "hostile.py", name, path, PRESSURE_SECONDS,
                                            chosen.randrange(HOSTILE_SEED), *arguments)
    status = attacker.wait(40)
    said = attacker.output().strip()
    # While an engine ends there is nobody to attack.
    check(status == 0 or "engine" in " ".join(soak.record.running), f"{name}: {said[-1000:]}")
    return f"{name}: {said[-200:]}"


@event(pressure=True)
def syn_flood(soak, chosen):
    """To a port in use, from sources that answer nothing."""
    rate = 2000 if soak.bed.lab.middle else chosen.choice([2000, 20000, 50000])
    with soak.allow(STALL):
        flood = flood_test.start_flood(soak.bed, PRESSURE_SECONDS, rate,
                                       chosen.choice([7001, 7003, 7009, 7999]))
        check(flood.wait(30) == 0, flood.output())
        with contextlib.suppress(LabError):  # a device that was down took the route along
            soak.bed.server.ip("route", "del", flood_test.SOURCES + "/15")
    return f"{rate} a second"


@event(pressure=True, engine=False)
def busy_cpus(soak, chosen):
    count = chosen.randrange(2, 6)
    with soak.allow(STALL):
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            time.sleep(PRESSURE_SECONDS)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
    return f"{count} loops"
