#!/usr/bin/env python3
"""A network behind a router whose next link takes smaller packets."""
import json
import os
import socket
import struct
import tempfile

import harness
from harness import (CLIENT, CLIENT6, SERVER, SERVER6, SERVER_DEV, case, check, client_program,
                     need_engine, side_behind)

PORT = 7003
SMALL = 1280


def far_side(bed):
    """A namespace behind the client side, which becomes a router; the link between has SMALL."""
    far = side_behind(bed, bed.client, "10.78.0", "fd78", SMALL)
    # The far side does not know how small its link is for others: it offers the usual MSS.
    far.ip("route", "replace", "default", "via", "10.78.0.1", "advmss", "1460")
    far.ip("-6", "route", "replace", "default", "via", "fd78::1", "advmss", "1440")
    bed.server.ip("route", "add", "10.78.0.0/24", "via", CLIENT, "dev", SERVER_DEV)
    bed.server.ip("-6", "route", "add", "fd78::/64", "via", CLIENT6, "dev", SERVER_DEV)
    return far


def fetch(bed, far, address, size):
    with tempfile.NamedTemporaryFile("r", dir=bed.lab.directory) as file:
        far.run([client_program("bulk"), "--json", file.name, "--connect", f"{address}:{PORT}",
                 "--down", size, "--up", size // 4], seconds=40)
        with open(file.name) as result:
            found = json.load(result)
    check(not found["failed"], found["reason"])


def icmp_counters(bed):
    counters = bed.engine.ask("stats")["counters"]
    return counters["icmp_too_big"], counters["icmp_ignored"]


@case
def small_link_behind_a_router(bed):
    far = far_side(bed)
    bed.serve([client_program("bulk"), "--serve", f"[::]:{PORT}"], PORT)
    fetch(bed, far, SERVER, 20_000_000)
    fetch(bed, far, f"[{SERVER6}]", 20_000_000)
    if bed.engine is not None:
        check(icmp_counters(bed)[0] == 2, f"one message per family expected: {icmp_counters(bed)}")


@case
def unreachable_network(bed):
    """connect() reports what the router says, as on Linux."""
    far_side(bed)
    bed.server.ip("route", "add", "10.79.0.0/24", "via", CLIENT, "dev", SERVER_DEV)
    script = harness.write_script(bed, "connect.py", """
import errno, socket, sys
try:
    socket.create_connection(("10.79.0.9", 80), 20)
except OSError as error:
    print(errno.errorcode[error.errno])
""")
    done = bed.run_server_side([harness.PYTHON, script])
    check(done.stdout.strip() == "ENETUNREACH", f"connect: {done.stdout}")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return 0xffff - ((total & 0xffff) + (total >> 16))


def too_big(source, target, ports, sequence, mtu):
    """ICMP `fragmentation needed` about a 1500-byte packet from source to target."""
    quote = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1500, 1, 0x4000, 64, 6, 0,
                        socket.inet_aton(source), socket.inet_aton(target))
    quote += struct.pack("!HHI", *ports, sequence)
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quote
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


@case
def forged_messages(bed):
    need_engine()
    bed.serve(harness.echo_server("level", f"{SERVER}:{PORT}"), PORT)
    connection = bed.connect(PORT)
    harness.echo_once(connection, b"hello")
    ports = (PORT, connection.getsockname()[1])
    with bed.client.inside():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    for i in range(200):
        sequence = int.from_bytes(os.urandom(4), "big")
        raw.sendto(too_big(SERVER, CLIENT, ports, sequence, 552 + i), (SERVER, 0))
    harness.wait_for(lambda: icmp_counters(bed)[1] == 200, 5,
                     lambda: f"200 messages ignored: {icmp_counters(bed)}")
    check(icmp_counters(bed)[0] == 0, "a forged message was believed")
    harness.echo_once(connection, os.urandom(100_000))
    connection.close()


if __name__ == "__main__":
    harness.main()
