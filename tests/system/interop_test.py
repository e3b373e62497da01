#!/usr/bin/env python3
"""Streams between the engine and the kernel's TCP through a bad network (docs/netlab.md).

Every byte is compared. With TOE_FULL=1 every point runs with five seeds or more, each paired with a
run of the kernel on both sides through the same wire, and the longest gap between two deliveries
must not be more than twice the kernel's, by the medians. Else a few points run once.
"""
import json
import os
import statistics

import harness
from harness import (CLIENT, CLIENT6, SERVER, SERVER6, case, check, client_program, need_engine,
                     wait_for, wire)

FULL = os.environ.get("TOE_FULL") == "1"
OURS, KERNELS = 7001, 7002  # ports
SENDS, RECEIVES = "sends", "receives"
MOST = 2.0     # of the kernel's gap
NOISE = 0.010  # seconds a busy machine may add to a gap


class Point:
    """A network, and how many bytes take a second or so there."""

    def __init__(self, harm, rtt_ms, size, short=False):
        self.name = f"{harm or 'clean'}, {rtt_ms} ms"
        self.spec = f"select=tcp,delay={rtt_ms / 2}ms" + ("," + harm if harm else "")
        self.size = size
        self.short = short
        # A gap is a round trip or two, or a timeout of 200 ms and more. Streams of 10 % loss are so
        # long that nearly all have a timeout, with either stack: else the median tells chance.
        self.seeds = range(1, 16 if harm == "loss=10%" else 6)


LOSS_20 = [Point("", 20, 8_000_000), Point("loss=0.1%", 20, 3_000_000),
           Point("loss=1%", 20, 800_000, short=True), Point("loss=3%", 20, 400_000),
           Point("loss=10%", 20, 600_000, short=True)]
LOSS_100 = [Point("", 100, 3_000_000), Point("loss=0.1%", 100, 800_000),
            Point("loss=1%", 100, 200_000), Point("loss=3%", 100, 100_000, short=True),
            Point("loss=10%", 100, 180_000)]
REORDERING = [Point("reorder=1%,reorder-by=5ms", 20, 2_000_000),
              Point("reorder=5%,reorder-by=5ms", 20, 1_000_000, short=True),
              Point("reorder=25%,reorder-by=5ms", 20, 500_000, short=True),
              Point("reorder=5%,reorder-by=20ms", 100, 300_000),
              Point("reorder=25%,reorder-by=20ms", 100, 200_000)]
DAMAGE = [Point("duplicate=1%", 20, 2_000_000, short=True),
          Point("corrupt=1%", 20, 800_000, short=True)]


class Pair:
    """A bed with a bulk server of both stacks on one side, and the other side's addresses.

    `serving`: the side under test serves and the client side connects; else the other way round.
    """

    def __init__(self, bed, serving, ipv6):
        self.bed = bed
        self.serving = serving
        host = (SERVER6 if ipv6 else SERVER) if serving else (CLIENT6 if ipv6 else CLIENT)
        self.host = f"[{host}]" if ipv6 else host
        for side in (bed.server, bed.client):
            # What one connection learned must not help the next; and one that begins under a
            # congestion control with pacing keeps the pacing when it gets another.
            side.run(["sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1",
                      "net.ipv4.tcp_congestion_control=reno"])
        if serving:
            bed.serve(self._server(OURS), OURS)
            bed.serve(self._server(KERNELS, "cubic"), KERNELS, offload=False)
        else:
            bed.client.start(self._server(KERNELS, "cubic"))
            wait_for(lambda: bed.client.listens(KERNELS), 10, "the kernel's bulk server")

    def _server(self, port, congestion=None):
        return [client_program("bulk"), "--serve", f"{self.host}:{port}",
                *(["--congestion", congestion] if congestion else [])]

    def gap(self, point, seed, direction, ours):
        """The longest gap of one stream, in seconds; `direction` as the tested side sees it."""
        up = (direction == RECEIVES) == self.serving
        port = OURS if ours and self.serving else KERNELS
        argv = [client_program("bulk"), "--connect", f"{self.host}:{port}", "--seed", seed,
                "--up" if up else "--down", point.size if FULL else point.size // 3]
        if not ours or self.serving:
            argv += ["--congestion", "cubic"]
        with wire(self.bed.lab, point.spec, seed=seed):
            found = json.loads(self._run(argv, ours).stdout)
        check(not found["failed"], f"{point.name}, seed {seed}: {found['reason']}")
        return found["longest_gap_up_s" if up else "longest_gap_down_s"]

    def _run(self, argv, ours):
        if not ours:
            side = self.bed.client if self.serving else self.bed.server
            return side.run(argv, seconds=120)
        with self.bed.engine_opens():
            if self.serving:
                return self.bed.client.run(argv, seconds=120)
            return self.bed.run_server_side(argv, seconds=120)

    def compare(self, point, direction):
        """True unless our gap is too long. The kernel's TCP and the wire run ahead of every
        program; the engine and all that is started here do so too: protocols are compared."""
        if not FULL:
            gap = self.gap(point, 1, direction, True)
            print(f"{point.name}, {direction}: {gap * 1e3:.0f} ms", flush=True)
            return True
        gaps = {True: [], False: []}
        for seed in point.seeds:  # by turns: what disturbs the machine disturbs both
            for ours, found in gaps.items():
                found.append(self.gap(point, seed, direction, ours))
        ours, theirs = (statistics.median(found) for found in gaps.values())
        shown = [" ".join(f"{gap * 1e3:.0f}" for gap in sorted(found)) for found in gaps.values()]
        print(f"{point.name}, {direction}: {ours / theirs:.2f} of the kernel's "
              f"({shown[0]} against {shown[1]} ms)", flush=True)
        return ours <= MOST * theirs + NOISE


def through(points, serving, ipv6):
    def run(bed):
        need_engine()
        pair = Pair(bed, serving, ipv6)
        few = [point for point in points if point.short][:1 if ipv6 else None]
        late = [f"{point.name}, {direction}" for point in (points if FULL else few)
                for direction in (SENDS, RECEIVES) if not pair.compare(point, direction)]
        with wire(bed.lab):  # ends that were lost are sent again
            bed.wait_no_connections(30)
        check(not late, "the longest gap is more than twice the kernel's: " + "; ".join(late))
    return harness.bed_options(wired=True)(run)


@case
@harness.bed_options(wired=True)
def everything_at_once(bed):
    """Messages of many connections and whole short connections; every byte is compared."""
    need_engine()
    bed.serve(harness.echo_server("level", f"[::]:{OURS}"), OURS)
    harm = ("select=tcp,loss=2%,burst=0.2%/50%,duplicate=2%,reorder=5%,corrupt=2%,delay=2ms,"
            "jitter=1ms,rate=100Mbit,queue=100")
    loads = {"messages": ["-c", "16", "-n", "1000", "--size", "3000"],
             "connections": ["-c", "16", "-n", "300", "--size", "100", "--connects",
                             "--sources", CLIENT]}
    for name, load in loads.items():
        with wire(bed.lab, harm, seed=1), bed.engine_opens():
            done = bed.client.run([client_program("echoload"), "--server", f"{SERVER}:{OURS}",
                                   *load], seconds=100)
        found = json.loads(done.stdout)
        check(not found["failed"], f"{name}: {found['reason']}")
        print(f"{name}: {found['operations']} in {found['seconds']:.1f} s, longest stand "
              f"{found['longest_stand_s']:.2f} s", flush=True)
    with wire(bed.lab):
        bed.wait_no_connections(30)


for _serving in (True, False):
    for _ipv6 in (False, True):
        for _name, _points in (("loss_20ms", LOSS_20), ("loss_100ms", LOSS_100),
                               ("reordering", REORDERING), ("damage", DAMAGE)):
            _case = through(_points, _serving, _ipv6)
            _case.__name__ = (f"{_name}_{'server' if _serving else 'client'}_"
                              f"{'ipv6' if _ipv6 else 'ipv4'}")
            case(_case)

if FULL:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
harness.main()
