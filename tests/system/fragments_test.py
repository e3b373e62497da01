#!/usr/bin/env python3
"""Fragments of segments for an offloaded port: dropped and counted, never delivered, no harm."""
import os

import harness
from harness import SERVER, SERVER6, case, check, need_engine, wait_for
from injector import Injector, reset

PORT = 7005
EVIL = b"evil" * 50


def counts(bed):
    stats = bed.engine.ask("stats")
    return {"first": stats["drops"]["steering_fragments"],
            "later": stats["counters"]["fragments_passed"],
            "in": stats["counters"]["bytes_in"]}


def not_delivered(bed, injector):
    """Cut anywhere, in any order: nothing of it arrives, and the connection goes on."""
    before = counts(bed)
    data = injector.segment(EVIL)
    first = later = 0
    for number, cuts in enumerate(([8], [16], [24], [40], [120], [8, 16, 24], [40, 80, 160])):
        for order in (1, -1):
            injector.send_in_pieces(data, cuts, 100 + number * 2 + order, order)
            first += 1
            later += len(cuts)
    injector.send_fragment(data[:64], 0, True, 900)  # overlapping ones
    injector.send_fragment(data[8:72], 8, True, 900)
    first, later = first + 1, later + 1

    def counted():
        now = counts(bed)
        return now["first"] - before["first"] == first and now["later"] - before["later"] == later
    wait_for(counted, 5, lambda: f"{first} first, {later} later ones: {before} {counts(bed)}")
    check(counts(bed)["in"] == before["in"], "bytes of fragments were delivered")
    harness.echo_once(injector.connection, os.urandom(100_000))


def injected_into(bed, address):
    need_engine()
    bed.serve(harness.echo_server("level", f"[::]:{PORT}"), PORT)
    injector = Injector(bed, address, PORT)
    resets = bed.client.tcp_counters()["EstabResets"]
    not_delivered(bed, injector)
    check(bed.client.tcp_counters()["EstabResets"] == resets, "a connection was reset")
    injector.connection.close()


@case
def ipv4(bed):
    injected_into(bed, SERVER)


@case
def ipv6(bed):
    injected_into(bed, SERVER6)


@case
def atomic_fragment(bed):
    """A fragment header of a whole packet (RFC 6946) changes nothing: the segment is taken."""
    need_engine()
    bed.serve(harness.echo_server("level", f"[::]:{PORT}"), PORT)
    injector = Injector(bed, SERVER6, PORT)
    before = counts(bed)
    injector.send_fragment(injector.segment(EVIL), 0, False, 7)
    wait_for(lambda: counts(bed)["in"] == before["in"] + len(EVIL), 5, "the segment's bytes")
    check(counts(bed)["first"] == before["first"], "it was taken for a part")
    reset(injector.connection)


@case
def other_ports_stay_the_kernels(bed):
    """The kernel puts together what is meant for a port of its own."""
    bed.serve([harness.PYTHON, "-c", f"""
import socket
s = socket.create_server(("{SERVER}", {PORT}))
while True:
    c, _ = s.accept()
    while data := c.recv(65536):
        c.sendall(data)
"""], PORT, offload=False)
    injector = Injector(bed, SERVER, PORT)
    injector.send_in_pieces(injector.segment(EVIL), [40, 120], 5)

    def received():
        out = bed.server.run(["ss", "-tinH", f"sport = :{PORT}"]).stdout
        return f"bytes_received:{5 + len(EVIL)}" in out
    wait_for(received, 5, "the kernel's connection to take the datagram")
    reset(injector.connection)


if __name__ == "__main__":
    harness.main()
