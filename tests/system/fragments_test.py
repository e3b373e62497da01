#!/usr/bin/env python3
"""Fragments of segments for an offloaded port: dropped and counted, never delivered, no harm."""
import contextlib
import os
import socket
import struct

import harness
from harness import (CLIENT, CLIENT6, CLIENT_DEV, SERVER, SERVER6, case, check, need_engine,
                     wait_for)
from raw_peer import checksum

PORT = 7005
ETHERNET = 14
MORE = 0x2000  # of the IPv4 header
EVIL = b"evil" * 50


class Injector:
    """Sends packets of its own on the client's device in the name of one connection."""

    def __init__(self, bed, address):
        self.six = ":" in address
        with bed.client.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((CLIENT_DEV, 0))
        self.socket.settimeout(0.2)
        self.connection = bed.connect(PORT, address)
        self.port = self.connection.getsockname()[1]
        harness.echo_once(self.connection, b"hello")
        self._learn()

    def _learn(self):
        """Ethernet header and TCP header of the client's next segment, from its last one."""
        with contextlib.suppress(TimeoutError):
            while True:
                frame, (_, _, kind, *_) = self.socket.recvfrom(65535)
                offset = ETHERNET + (40 if self.six else 20)
                tcp = frame[offset:]
                is_tcp = frame[20 if self.six else 23] == socket.IPPROTO_TCP
                if kind != socket.PACKET_OUTGOING or not is_tcp or len(tcp) < 20:
                    continue
                source, _, sequence, _ = struct.unpack("!HHII", tcp[:12])
                if source != self.port:
                    continue
                header = (tcp[12] >> 4) * 4
                self.link = frame[:ETHERNET]
                end = len(frame) if self.six else ETHERNET + struct.unpack("!H", frame[16:18])[0]
                self.sequence = sequence + end - offset - header
                self.header = tcp[:header]

    def segment(self, payload):
        """The connection's next segment, TCP header and payload, in order and with a right sum."""
        header = bytearray(self.header)
        header[4:8] = struct.pack("!I", self.sequence & 0xffffffff)
        header[13] = 0x18
        header[16:18] = b"\0\0"
        family = socket.AF_INET6 if self.six else socket.AF_INET
        ends = [socket.inet_pton(family, a) for a in
                ((CLIENT6, SERVER6) if self.six else (CLIENT, SERVER))]
        pseudo = b"".join(ends) + struct.pack("!II", len(header) + len(payload), 6)
        header[16:18] = struct.pack("!H", checksum(pseudo + bytes(header) + payload))
        return bytes(header) + payload

    def send_fragment(self, data, offset, more, number):
        """`data` at `offset` of datagram `number`."""
        if self.six:
            data = struct.pack("!BBHI", socket.IPPROTO_TCP, 0, offset | more, number) + data
            packet = struct.pack("!IHBB", 6 << 28, len(data), 44, 64)
            packet += socket.inet_pton(socket.AF_INET6, CLIENT6)
            packet += socket.inet_pton(socket.AF_INET6, SERVER6)
        else:
            packet = bytearray(struct.pack(
                "!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), number & 0xffff,
                offset // 8 | (MORE if more else 0), 64, socket.IPPROTO_TCP, 0,
                socket.inet_aton(CLIENT), socket.inet_aton(SERVER)))
            packet[10:12] = struct.pack("!H", checksum(bytes(packet)))
        self.socket.send(self.link + bytes(packet) + data)

    def send_in_pieces(self, data, cuts, number, order=1):
        places = [0, *cuts, len(data)]
        pieces = list(zip(places, places[1:]))[::order]
        for start, end in pieces:
            self.send_fragment(data[start:end], start, end != len(data), number)


def reset(connection):
    """Ends a connection whose client does not know of the bytes sent in its name."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


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
    injector = Injector(bed, address)
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
    injector = Injector(bed, SERVER6)
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
    injector = Injector(bed, SERVER)
    injector.send_in_pieces(injector.segment(EVIL), [40, 120], 5)

    def received():
        out = bed.server.run(["ss", "-tinH", f"sport = :{PORT}"]).stdout
        return f"bytes_received:{5 + len(EVIL)}" in out
    wait_for(received, 5, "the kernel's connection to take the datagram")
    reset(injector.connection)


if __name__ == "__main__":
    harness.main()
