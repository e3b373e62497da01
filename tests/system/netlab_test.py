#!/usr/bin/env python3
"""The bad network itself (docs/netlab.md), with the kernel's TCP at both ends."""
import json
import os
import socket
import struct
import subprocess
import tempfile
import time

import harness
from harness import (SERVER, SERVER6, Lab, case, check, client_program, wire)

PORT = 7001
NETLAB = os.path.join(os.path.dirname(os.path.abspath(harness.__file__)), "..", "..", "tools",
                      "netlab")
ETH_P_ALL, SOL_PACKET, PACKET_AUXDATA = 3, 263, 8
STREAM = 1_000_000  # bytes each way
# What is done to the frames: what the wire must have counted in each direction.
POINTS = {
    "loss=1%": "loss",
    "burst=1%/40%": "burst",
    "reorder=5%": "reordered",
    "reorder=5%,reorder-distance=3": "reordered",
    "duplicate=2%": "duplicated",
    "corrupt=1%": "corrupted",
    "delay=20ms,jitter=5ms": None,
    "loss=1%,reorder=3%,duplicate=1%,corrupt=1%,delay=2ms,jitter=1ms": "corrupted",
}


def load(lab, program, *arguments):
    done = lab.client.run([client_program(program), *arguments], seconds=50)
    found = json.loads(done.stdout)
    check(not found["failed"], f"{program}: {found['reason']}")
    return found


def serve(lab):
    for program, port in (("bulk", PORT), ("echo_server", PORT + 1)):
        word = "--serve" if program == "bulk" else "--listen"
        arguments = ["--congestion", "cubic"] if program == "bulk" else ["--mode", "level"]
        lab.server.start([client_program(program), word, f"[::]:{port}", *arguments])
        harness.wait_for(lambda at=port: lab.server.listens(at), 10, program)


def counted(way, name):
    return way["dropped"][name] if name in way["dropped"] else way[name]


def streams(lab, address):
    """A stream each way and small messages; every byte is compared."""
    load(lab, "bulk", "--connect", f"{address}:{PORT}", "--up", STREAM, "--down", STREAM,
         "--congestion", "cubic")
    load(lab, "echoload", "--server", f"{address}:{PORT + 1}", "-c", "8", "-n", "100",
         "--size", "3000")


def through_every_point(address):
    with Lab("toe-test", wired=True) as lab:
        serve(lab)
        for point, harm in POINTS.items():
            with wire(lab, "select=tcp," + point, seed=7) as summary:
                streams(lab, address)
            for way in ("to_server", "to_client"):
                found = summary[way]
                check(harm is None or counted(found, harm) > 0, f"{point} {way}: nothing done")
                lost = sum(found["dropped"].values())
                check(found["sent"] + found["under_way"]
                      == found["frames"] - lost + found["duplicated"],
                      f"{point} {way}: frames are missing: {found}")


@case
def every_impairment_ipv4():
    through_every_point(SERVER)


@case
def every_impairment_ipv6():
    through_every_point(f"[{SERVER6}]")


@case
def script_loses_exactly_its_frames():
    """The third to fifth data segment, and nothing else: as many retransmissions at least."""
    with Lab("toe-test", wired=True) as lab:
        serve(lab)
        before = lab.client.tcp_counters()["RetransSegs"]
        with wire(lab, "select=data,lose=3-5:9", "") as summary:
            load(lab, "bulk", "--connect", f"{SERVER}:{PORT}", "--up", STREAM)
        check(summary["to_server"]["dropped"]["script"] == 4, "not the four frames")
        check(sum(summary["to_client"]["dropped"].values()) == 0, "the other direction lost some")
        check(lab.client.tcp_counters()["RetransSegs"] - before >= 4, "fewer retransmissions")


@case
def delay_is_exact():
    with Lab("toe-test", wired=True) as lab:
        serve(lab)
        with wire(lab, "delay=20ms", "delay=30ms"):
            found = load(lab, "echoload", "--server", f"{SERVER}:{PORT + 1}", "-c", "1", "-n", "20")
        median = found["latency_us"]["median"]
        check(50_000 <= median < 60_000, f"a round trip takes {median} us, not 50 ms")


@case
def rate_and_queue():
    """5 MB at 20 Mbit/s take 2 s; the queue fills and stays within its bound."""
    with Lab("toe-test", wired=True) as lab:
        serve(lab)
        with wire(lab, "rate=20Mbit,queue=30,delay=5ms", "delay=5ms") as summary:
            started = time.monotonic()
            load(lab, "bulk", "--connect", f"{SERVER}:{PORT}", "--up", "5000000", "--congestion",
                 "cubic")
            seconds = time.monotonic() - started
        check(2.0 < seconds < 6.0, f"took {seconds:.2f} s")
        found = summary["to_server"]
        check(found["peak_queue_frames"] == 30, f"the queue held {found['peak_queue_frames']}")
        check(found["dropped"]["queue_full"] > 0, "the queue was never full")


def delivered_marks(namespace):
    text = namespace.run(["nstat", "-asz", "TcpExtTCPDeliveredCE"]).stdout
    return int(text.split()[-2])


@case
def marks_are_seen():
    """The kernel's own ECN finds the marks, in both versions of IP, and no segment is spoilt."""
    with Lab("toe-test", wired=True) as lab:
        for side in (lab.server, lab.client):
            side.run(["sysctl", "-qw", "net.ipv4.tcp_ecn=1"])
        serve(lab)
        for address in (SERVER, f"[{SERVER6}]"):
            before = delivered_marks(lab.client)
            with wire(lab, "mark=5%") as summary:
                streams(lab, address)
            check(summary["to_server"]["marked"] > 0, "nothing was marked")
            check(delivered_marks(lab.client) > before, f"{address}: no mark was found")
        for side in (lab.server, lab.client):
            check(side.tcp_counters()["InErrs"] == 0, "marks spoilt checksums")


@case
def fast_wire():
    """The wire inside the kernel loses and marks as told."""
    with Lab("toe-test", wired=True) as lab:
        for side in (lab.server, lab.client):
            side.run(["sysctl", "-qw", "net.ipv4.tcp_ecn=1"])
        serve(lab)
        with wire(lab, "loss=1%,mark=2%,select=tcp", fast=True) as summary:
            for address in (SERVER, f"[{SERVER6}]"):
                streams(lab, address)
                load(lab, "bulk", "--connect", f"{address}:{PORT}", "--up", "20000000")
        found = summary["to_server"]
        share = found["dropped"]["loss"] / found["selected"]
        check(0.007 < share < 0.013, f"lost {share:.2%} of {found['selected']}")
        check(found["marked"] > 0, "nothing was marked")
        check(found["frames"] >= found["selected"] > 10_000, "frames went another way")


@case
def jumbo_frames():
    with Lab("toe-test", wired=True, mtu=9000) as lab:
        serve(lab)
        with wire(lab, "loss=0.5%") as summary:
            load(lab, "bulk", "--connect", f"{SERVER}:{PORT}", "--up", "5000000")
        found = summary["to_server"]
        check(found["bytes"] / found["frames"] > 6000, f"the frames are not large: {found}")


@case
def tags_are_kept():
    """A VLAN tag, which the kernel takes out of received frames, leaves the wire again."""
    frame = bytes.fromhex("ffffffffffff020000000001" "81002064" "88b5") + b"behind the tag" * 4
    with Lab("toe-test", wired=True) as lab, wire(lab):
        with lab.client.inside():
            receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        receiver.bind((harness.CLIENT_DEV, ETH_P_ALL))
        receiver.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        receiver.settimeout(5)
        with lab.server.inside():
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind((harness.SERVER_DEV, 0))
        sender.send(frame)
        bytes_read = b""
        while not bytes_read.startswith(frame[:12]):
            bytes_read, extra, _, _ = receiver.recvmsg(2000, 200)
        check(bytes_read == frame[:12] + frame[16:], f"came as {bytes_read.hex()}")
        auxiliary = struct.unpack("=IIIHHHH", extra[0][2])
        check(auxiliary[5:] == (0x2064, 0x8100), f"another tag: {auxiliary}")


def netlab(*words):
    return subprocess.run([NETLAB, *words], capture_output=True, text=True, timeout=50)


@case
def by_hand():
    """tools/netlab as a person uses it."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        done = netlab("--delay", "3ms", "--lose", "1,3-4", "--select", "data", "--json", file.name,
                      "--to-client", "loss=0%,lose=2", "--wait-port", str(PORT),
                      "--server", f"{client_program('bulk')} --serve {SERVER}:{PORT}", "--",
                      client_program("bulk"), "--connect", f"{SERVER}:{PORT}", "--up", "100000",
                      "--down", "100000")
        check(done.returncode == 0, done.stderr)
        summary = json.load(file)
    check(summary["to_server"]["dropped"]["script"] == 3, f"lost otherwise: {summary}")
    check(summary["to_client"]["dropped"]["script"] == 1, f"lost otherwise: {summary}")
    done = netlab("--", "sh", "-c", "echo $NETLAB_SERVER_NS $NETLAB_CLIENT_NS; exit 7")
    check(done.returncode == 7, "the command's status is lost")
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    for name in done.stdout.split():
        check(name.startswith("toe-netlab-") and name not in left, f"{name} is left behind")
    for words in (["--loss", "150%", "--", "true"], ["--fast", "--delay", "1ms", "--", "true"]):
        refused = netlab(*words)
        check(refused.returncode == 1 and "netlab_wire: " in refused.stderr, f"{words} taken")


harness.main()
