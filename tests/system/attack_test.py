#!/usr/bin/env python3
"""A network full of attackers: what is sent is counted by kind, no frame vanishes uncounted, and
beside it all others are served."""
import contextlib
import os
import random
import re
import subprocess
import time

import harness
from attacks import Attacker
from harness import SERVER, SERVER_DEV, case, check, need_engine, wait_for
from injector import Injector, reset
from raw_peer import SYN

PORT, KERNEL_PORT = 7009, 7010
ROUNDS = 20  # of every frame
ICMP_KINDS = 6  # of attacks.icmp(), not counting redirects, which the kernel keeps
# A busy machine loses frames at that rate. Ten seconds without progress fail in any case.
MOST_STALLS = 100
SLOW = 100  # readers
OTHER_NEIGHBOURS = 8  # the client and whoever the kernel asked for by itself
FULL = os.environ.get("TOE_FULL") == "1"
REASONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "wire",
                       "drop_reason.def")


def stats(bed):
    found = bed.engine.ask("stats")
    return {**found["counters"], **found["drops"], **found["levels"]}


def unexplained(now):
    """Received frames less those of which a counter says what became of them (Core)."""
    with open(REASONS) as file:
        reasons = re.findall(r'TOE_DROP_REASON\(\w+, "(\w+)"', file.read())
    check(len(reasons) > 20, "the list of reasons was not understood")
    here = sum(now[name] for name in (
        "segments_in", "control_behind", "control_full", "syn_ring_full", *reasons))
    control = sum(now[name] for name in (
        "unparsed", "own_source", "frames_given_back", "handshake_segments", "time_wait_segments",
        "syn_received", "syn_no_listener", "syn_stopping", "stray_segments"))
    return now["frames_in"] - here - control


def check_explained(bed):
    wait_for(lambda: unexplained(stats(bed)) == 0, 5,
             lambda: f"an explanation for each frame: {unexplained(stats(bed))} have none")


def serve(bed):
    bed.serve(harness.echo_server("level", f"[::]:{PORT}"), PORT)


@case
def every_kind_is_counted(bed):
    """Each kind of frame adds to the counter that tells of it exactly what was sent."""
    need_engine()
    serve(bed)
    attacker = Attacker(bed, PORT)
    live = Injector(bed, SERVER, PORT)
    # Answers are limited, and the connection must keep the state that the frames were made for.
    kinds = (attacker.strangers() + attacker.broken_tcp() + attacker.broken_ip()
             + attacker.odd_frames() + attacker.forged(live))
    frames, expected = [], {}
    for _, of_kind, counters in kinds:
        frames += of_kind
        for name, count in counters.items():
            expected[name] = expected.get(name, 0) + count * ROUNDS
    before = stats(bed)
    count = len(frames) * ROUNDS
    flood = attacker.start(frames, "--count", count, "--rate", 20000, "--seconds", 30)
    check(attacker.sent(flood) == count, "not everything was sent")

    def difference():
        now = stats(bed)
        return {name: (now[name] - before[name], wanted) for name, wanted in expected.items()
                if now[name] - before[name] != wanted}
    wait_for(lambda: not difference(), 5, lambda: f"as counted as sent: {difference()}")
    routers = attacker.icmp(live, live.acknowledged())
    ignored = stats(bed)["icmp_ignored"] + ICMP_KINDS * ROUNDS
    attacker.sent(attacker.start(routers, "--count", len(routers) * ROUNDS))
    wait_for(lambda: stats(bed)["icmp_ignored"] >= ignored, 5,
             lambda: f"{ignored} ignored messages, not {stats(bed)['icmp_ignored']}")
    check_explained(bed)
    text = subprocess.run([harness.FLEXTOE, "stats", "--prometheus"], check=True, text=True,
                          env=bed.lab.environment(), capture_output=True, timeout=20).stdout
    for name in expected:
        check(re.search(rf'flextoe_{name}_total|reason="{name}"', text), f"no sample of {name}")
    harness.echo_once(live.connection, os.urandom(1000))  # took nothing of it for true
    reset(live.connection)


def kernel_service(bed):
    bed.serve(harness.echo_server("level", f"[::]:{KERNEL_PORT}"), KERNEL_PORT, offload=False)


def neighbours_of_the_attack_answer(bed):
    """Ping and a service of the kernel's, on the same interface and address."""
    check(harness.ping(bed, 5) > 0, "no ping is answered")
    with bed.connect(KERNEL_PORT, seconds=10) as connection:
        harness.echo_once(connection, b"beside")


def everything(bed, attacker, live):
    """Frames of all kinds, in disorder, for the engine's port, the kernel's and closed ones."""
    kinds = (attacker.strangers() + attacker.broken_tcp() + attacker.broken_ip()
             + attacker.odd_frames())
    frames = [frame for _, of_kind, _ in kinds for frame in of_kind] * 5
    for port in (KERNEL_PORT, 9):
        other = Attacker(bed, port)
        frames += other.syns(100) + [f for _, of_kind, _ in other.broken_tcp() for f in of_kind]
    frames += attacker.syns(500) + attacker.icmp(live, 7) * 5 + attacker.arps()
    if bed.engine is not None:
        frames += [f for _, of_kind, _ in attacker.forged(live) for f in of_kind] * 5
    random.Random(3).shuffle(frames)
    return frames


def returned(bed, before):
    """What the attack may not keep."""
    def all_back():
        now = stats(bed)
        return (now["flows"] <= before["flows"] and now["frames_held"] == 0
                and now["ports_held"] <= before["ports_held"])
    wait_for(all_back, 10, lambda: f"the return of {before} from {stats(bed)}")


def log_lines(bed):
    return bed.engine.process.output().count("\n") if bed.engine is not None else 0


def attack_under_load(bed, seconds, rate):
    """Requests a second of a checked load during an attack; `rate` 0: full speed."""
    attacker = Attacker(bed, PORT)
    live = Injector(bed, SERVER, PORT)
    frames = everything(bed, attacker, live)
    flood = attacker.start(frames, "--seconds", seconds, "--rate", rate)
    before = stats(bed) if bed.engine is not None else None
    lines = log_lines(bed)
    done = bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-c", "8", "--seconds",
                    str(max(1, seconds - 1)), stalls=MOST_STALLS,
                    watch=lambda process: neighbours_of_the_attack_answer(bed))
    sent = attacker.sent(flood, 60)
    reset(live.connection)
    print(f"{done['per_s']:.0f} requests/s beside {sent / seconds:.0f} frames/s")
    if before is not None:
        check_explained(bed)
        check(log_lines(bed) - lines < 50, f"{log_lines(bed) - lines} lines in the log")
    return before


def load_beside(bed, seconds, rate):
    serve(bed)
    kernel_service(bed)
    before = attack_under_load(bed, seconds, rate)
    with bed.connect(PORT, seconds=10) as connection:
        harness.echo_once(connection, b"and afterwards")
    if before is not None:
        returned(bed, before)


@case
def load_beside_everything(bed):
    load_beside(bed, 4, 30000)


@case
def everything_at_full_speed(bed):
    """As fast as the device takes it: twenty seconds with TOE_FULL."""
    load_beside(bed, 20 if FULL else 2, 0)


@case
def slow_readers(bed):
    """Peers that send and never read, or a byte now and then, cost the others nothing."""
    serve(bed)
    before = stats(bed) if bed.engine is not None else None
    slow = [bed.connect(PORT) for _ in range(SLOW)]
    for connection in slow:
        connection.setblocking(False)

    def fill():
        for connection in slow:
            with contextlib.suppress(BlockingIOError):
                while connection.send(b"x" * 65536):
                    pass

    def all_closed():
        """Of half of them to the last byte; the others may have a useless rest."""
        fill()
        return before is None or stats(bed)["zero_windows"] - before["zero_windows"] >= SLOW // 2
    wait_for(all_closed, 20, lambda: f"closed windows, not {stats(bed)['zero_windows']}")

    def look(process):
        while process.running():
            for connection in slow[:10]:
                with contextlib.suppress(BlockingIOError):
                    connection.recv(1)
            time.sleep(0.2)
    done = bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-c", "8", "--seconds", "3",
                    watch=look, stalls=MOST_STALLS)
    print(f"{done['per_s']:.0f} requests/s beside {SLOW} slow readers")
    if before is not None:
        check(stats(bed)["frames_held"] == 0, "slow readers hold packet buffers")
    for connection in slow:
        reset(connection)
    if before is not None:
        returned(bed, before)


def neighbour_table(bed):
    """(entries on the server's device, places in the kernel's table), IPv4."""
    entries = bed.server.ip("-4", "neigh", "show", "dev", SERVER_DEV, "nud", "all").splitlines()
    table = bed.server.ip("ntable", "show", "name", "arp_cache")
    return len(entries), int(re.search(r"thresh3 (\d+)", table).group(1))


@case
def forged_neighbours(bed):
    """SYNs in the name of every address of the network do not fill the kernel's table."""
    need_engine()
    serve(bed)
    attacker = Attacker(bed, PORT)
    ends = [(f"10.77.0.{host}", SERVER) for host in range(3, 250)]
    syns = [attacker.frame(attacker.segment(SYN, pair)) for pair in ends]
    flood = attacker.start(syns, "--rate", 2000, "--seconds", 2)
    most = 0
    while flood.running():
        entries, table = neighbour_table(bed)
        most = max(most, entries)
        with bed.connect(PORT, seconds=10) as connection:  # one that the kernel knows
            harness.echo_once(connection, b"beside")
    bound = table // 8 + OTHER_NEIGHBOURS
    check(most <= bound, f"{most} neighbours, of a table of {table}")
    if bound < len(syns):
        check(stats(bed)["destinations_refused"] > 0, "no destination was refused")
    wait_for(lambda: stats(bed)["flows"] == 0, 10, "the end of all connections")
    check_explained(bed)


if __name__ == "__main__":
    harness.main()
