#!/usr/bin/env python3
"""Attackers on the local link: storms of ARP and neighbour discovery, forged routers, redirects,
forged "packet too big", and a peer's address claimed by others thousands of times a second."""
import contextlib
import os
import subprocess
import threading
import time

import harness
from attacks import Attacker
from harness import CLIENT, CLIENT6, SERVER, SERVER6, case, check
from injector import Injector
from link_frames import LinkAttacker

PORT = 7011
FULL = os.environ.get("TOE_FULL") == "1"
MOST_STALLS = 100
LATEST_ANSWER = 15.0  # seconds, with the start of the program that asks; a tenth is usual
MOST_GROWTH = 32 << 20  # bytes of the engine's memory
ALL = ((SERVER, CLIENT), (SERVER6, CLIENT6))


def serve(bed):
    bed.serve(harness.echo_server("level", f"[::]:{PORT}"), PORT)


class Watch:
    """Looks at the engine while something happens: how late the control socket answers, what its
    threads spend and its memory grows by. Without an engine it sees nothing."""

    def __init__(self, bed):
        self.bed, self.latest, self._stop = bed, {}, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self):
        if self.bed.engine is not None:
            self._before, self._resident = self._spent(), self._memory()
            self._thread.start()
        return self

    def __exit__(self, *_):
        if self.bed.engine is not None:
            self._stop.set()
            self._thread.join()
            self.grown = self._memory() - self._resident
            after = self._spent()
            self.cpu = {name: after[name] - self._before.get(name, 0) for name in after}

    def _ask(self):
        while not self._stop.wait(0.05):
            for verb in ("status", "stats", "conns"):
                started = time.monotonic()
                with contextlib.suppress(harness.LabError, subprocess.TimeoutExpired):
                    self.bed.engine.ask(verb)
                took = time.monotonic() - started
                self.latest[verb] = max(took, self.latest.get(verb, 0))

    def _spent(self):
        found = {}
        base = f"/proc/{self.bed.engine.pid}/task"
        for task in os.listdir(base):
            with open(f"{base}/{task}/stat") as file:
                name, rest = file.read().rsplit(") ", 1)
            words = rest.split()
            name = name.split("(", 1)[1]
            found[name] = found.get(name, 0) + (int(words[11]) + int(words[12])) / 100
        return found

    def _memory(self):
        with open(f"/proc/{self.bed.engine.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    def report(self):
        """What was seen, in words; fails if it is too much."""
        if self.bed.engine is None:
            return ""
        worst = max(self.latest.values())
        check(worst < LATEST_ANSWER, f"late answers: {self.latest}")
        check(self.grown < MOST_GROWTH, f"memory grew by {self.grown} bytes")
        spent = ", ".join(f"{name} {cpu:.2f}" for name, cpu in sorted(self.cpu.items()) if cpu)
        return (f"; answers within {worst * 1000:.0f} ms, CPU s: {spent}, "
                f"grown {self.grown >> 10} KiB")


def log_lines(bed):
    return bed.engine.process.output().count("\n") if bed.engine is not None else 0


def beside(bed, name, frames, seconds, rate=0, server=SERVER):
    """A checked load beside a flood, and what it costs."""
    lines = log_lines(bed)
    flood = Attacker(bed, PORT).start(frames, "--seconds", seconds, "--rate", rate)
    with Watch(bed) as watch:
        done = bed.load("echoload", "--server", f"{server}:{PORT}", "-c", "8", "--seconds",
                        str(max(1, seconds - 0.5)), stalls=MOST_STALLS)
    sent = Attacker.sent(flood, 60)
    print(f"{name}: {done['per_s']:.0f} requests/s beside {sent / seconds:.0f} frames/s"
          + watch.report(), flush=True)
    check(log_lines(bed) - lines < 50, f"{log_lines(bed) - lines} lines in the log")


def storms(bed, live, live6):
    link = LinkAttacker(bed)
    ports = (PORT, live.port), (PORT, live6.port)
    return {"ARP": link.arp_storm(), "NDP": link.ndp_storm(), "routers": link.routers(),
            "redirects": link.redirects(live),
            "too big": link.too_bigs(ALL[0], ports[0], live.acknowledged())
            + link.too_bigs(ALL[1], ports[1], live6.acknowledged())}


@case
def storms_beside_a_load(bed):
    """All kinds at full speed; with TOE_FULL one after the other, ten seconds each."""
    serve(bed)
    live, live6 = Injector(bed, SERVER, PORT), Injector(bed, SERVER6, PORT)
    kinds = storms(bed, live, live6)
    if not FULL:
        kinds = {"all": [frame for of_kind in kinds.values() for frame in of_kind]}
    else:
        beside(bed, "nothing", [b"\xff" * 60], 5, 10)
    for name, frames in kinds.items():
        beside(bed, name, frames, 10 if FULL else 2)
    if bed.engine is not None:
        counters = bed.engine.ask("stats")["counters"]
        check(counters["icmp_too_big"] == 0, "a forged message lowered an MTU")
        check(counters["icmp_ignored"] > 0, "no forged message was looked at")
    for one in (live, live6):
        harness.echo_once(one.connection, os.urandom(100_000))
        one.connection.close()


def seconds_of_an_echo(connection, limit):
    connection.settimeout(limit)
    started = time.monotonic()
    harness.echo_once(connection, b"again")
    return time.monotonic() - started


def claims(bed, connections, seconds, announce):
    """The peer's addresses claimed at full speed, and how long its connections need then."""
    link = LinkAttacker(bed)
    flood = Attacker(bed, PORT).start(link.claims(), "--seconds", seconds)
    with Watch(bed) as watch:
        sent = Attacker.sent(flood, 60)
    if announce:
        right = [link.announcement(address, link.mac) for address in (CLIENT, CLIENT6)]
        Attacker.sent(Attacker(bed, PORT).start(right, "--count", len(right)))
    took = [seconds_of_an_echo(connection, 150) for connection in connections]
    print(f"{sent / seconds:.0f} claims/s{watch.report()}; echo after "
          + ", ".join(f"{t * 1000:.0f} ms" for t in took), flush=True)
    return took


@case
def claims_of_the_peer(bed):
    """After the peer's own announcement all goes on at once; with TOE_FULL also without one, which
    takes the kernel's own connections minutes."""
    serve(bed)
    connections = [bed.connect(PORT, address) for address in (SERVER, SERVER6)]
    for connection in connections:
        harness.echo_once(connection, b"before")
    took = claims(bed, connections, 10 if FULL else 2, True)
    check(max(took) < 10, f"echoes took {took} s")
    if FULL:
        claims(bed, connections, 5, False)
    for connection in connections:
        connection.close()


if __name__ == "__main__":
    harness.main()
