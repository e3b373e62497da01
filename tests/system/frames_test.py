#!/usr/bin/env python3
"""Frames that are not plain: VLAN tags, IPv4 options, IPv6 extension headers; receive queues."""
import os

import harness
from harness import (BUILD, FLEXTOE, SERVER, SERVER6, SERVER_DEV, bed_options, case, check,
                     echo_server, need_engine, wait_for)
from raw_peer import RawPeer

PORT = 7006
VLAN, SERVICE = 0x8100, 0x88a8


def serve(bed):
    bed.serve(echo_server("level", f"[::]:{PORT}"), PORT)


def converse(bed, **options):
    peer = RawPeer(bed, PORT, **options)
    check(peer.connect(), f"no answer to {options}")
    for _ in range(3):
        peer.echo()
    peer.close()


@bed_options(run_arguments=["--vlan", "100", "--vlan", "4094"])
@case
def tags_of_configured_vlans(bed):
    """One tag or two, of a VLAN or a priority alone: answers carry the same."""
    need_engine()
    serve(bed)
    for six in (False, True):
        for tags in ([(VLAN, 100)], [(VLAN, 0xa000 | 4094)], [(SERVICE, 4094), (VLAN, 100)],
                     [(VLAN, 100), (VLAN, 100)], [(VLAN, 0xe000)], [(VLAN, 0), (VLAN, 100)]):
            converse(bed, six=six, tags=tags)
    with bed.engine_opens():
        harness.echo_once(bed.connect(PORT), b"without any tag")


@bed_options(run_arguments=["--vlan", "100"])
@case
def other_tags_pass(bed):
    """Frames of a VLAN that is not configured, and with too many tags, are none of the engine's."""
    need_engine()
    serve(bed)
    odd = [[(VLAN, 101)], [(VLAN, 100), (VLAN, 7)], [(SERVICE, 7), (VLAN, 100)],
           [(VLAN, 100), (VLAN, 100), (VLAN, 100)]]
    peers = [RawPeer(bed, PORT, six=six, tags=tags) for tags in odd for six in (False, True)]
    before = bed.engine.counter("vlan_passed")
    for peer in peers:
        peer.send(2)
    wait_for(lambda: bed.engine.counter("vlan_passed") == before + len(peers), 5,
             "the frames to be counted")
    converse(bed, tags=[(VLAN, 100)])
    for peer in peers:
        check(peer.receive(0.01) is None, f"an answer to {peer.tags}")
    check(bed.engine.counter("syn_received") == 1, "a SYN of another VLAN was taken")


ROUTER_ALERT = b"\x94\x04\x00\x00"
RECORD_ROUTE = b"\x07\x0b\x04" + bytes(8) + b"\x01"
SOURCE_ROUTE = b"\x83\x07\x08\x0a\x4d\x00\x02\x00"
PADDING = b"\x00\x01\x04\x00\x00\x00\x00"  # a header of 8 bytes, without its first
HOP_BY_HOP, ROUTING, DESTINATION = 0, 43, 60


@case
def ipv4_options(bed):
    """Those that a host passes over; a source route is not obeyed."""
    need_engine()
    serve(bed)
    converse(bed, between=ROUTER_ALERT)
    converse(bed, between=RECORD_ROUTE)
    converse(bed, between=b"\x01" * 40)
    routed = RawPeer(bed, PORT, between=SOURCE_ROUTE)
    check(not routed.connect(1), "a source-routed SYN was answered")
    wait_for(lambda: bed.engine.ask("stats")["drops"]["source_route"] == 1, 5, "the drop")


@case
def ipv6_extension_headers(bed):
    need_engine()
    serve(bed)
    for between in ([(HOP_BY_HOP, PADDING)], [(DESTINATION, PADDING)],
                    [(ROUTING, b"\x00\x04\x00\x00\x00\x00\x00")],
                    [(HOP_BY_HOP, PADDING), (ROUTING, b"\x00\x04\x00\x00\x00\x00\x00"),
                     (DESTINATION, PADDING)]):
        converse(bed, six=True, between=between)
    unknown = b"\x00\xc2\x04\x00\x00\x00\x00"
    for between, reason in (([(DESTINATION, unknown)], "unknown_ip_option"),
                            ([(DESTINATION, PADDING)] * 9, "steering_headers")):
        peer = RawPeer(bed, PORT, six=True, between=between)
        check(not peer.connect(1), f"an answer to {reason}")
        wait_for(lambda: bed.engine.ask("stats")["drops"][reason] == 1, 5, reason)


@bed_options(queues=4)
@case
def several_receive_queues(bed):
    """The peer's kernel spreads its connections over the queues; every one is the engine's."""
    serve(bed)
    bed.serve(["memcached", "-u", "nobody", "-l", SERVER, "-p", "11211", "-m", "256"], 11211)
    with bed.engine_opens():
        for address in (SERVER, f"[{SERVER6}]"):
            bed.load("echoload", "--server", f"{address}:{PORT}", "-c", "100", "-n", "20000")
        bed.load("memcheck", "--server", f"{SERVER}:11211", "-c", "50", "-n", "20000")
    if bed.engine is None:
        return
    said = bed.server.run(["ethtool", "-S", SERVER_DEV]).stdout
    counts = [int(line.split(":")[1]) for line in said.splitlines()
              if "rx_queue_" in line and "xdp_packets" in line]
    check(len(counts) == 4 and all(counts), f"a queue was not used: {counts}")


@case
def foreign_xdp_program(bed):
    """It stays where it is, and the engine says so."""
    need_engine()
    check(bed.engine.stop() == 0, "not a clean exit")
    path = os.path.join(BUILD, "bpf", "steering.bpf.o")
    for mode in ("xdpdrv", "xdpgeneric"):
        bed.server.ip("link", "set", "dev", SERVER_DEV, mode, "obj", path, "sec", "xdp.frags")
        there = bed.server.ip("-d", "link", "show", "dev", SERVER_DEV)
        done = bed.server.run([FLEXTOE, "run", "--dev", SERVER_DEV], check=False, seconds=20)
        lines = done.stderr.strip().splitlines()
        check(done.returncode == 1 and len(lines) == 1, f"exit {done.returncode}: {done.stderr}")
        check("already has an XDP program" in lines[0], lines[0])
        check(bed.server.ip("-d", "link", "show", "dev", SERVER_DEV) == there, "it was replaced")
        bed.server.ip("link", "set", "dev", SERVER_DEV, mode, "off")
    bed.engine = harness.Engine(bed.lab)


if __name__ == "__main__":
    harness.main()
