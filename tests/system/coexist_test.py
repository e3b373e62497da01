#!/usr/bin/env python3
"""One device and one address for the engine and the kernel."""
import contextlib
import json
import os
import socket
import time

import harness
from harness import (CLIENT, CLIENT6, CLIENT_DEV, PYTHON, SERVER, SERVER6, SERVER_DEV, case, check,
                     echo_once, echo_server)

PORT = 7001


def forget_neighbours(bed):
    """The client knows the server, the server's kernel has never heard of the client."""
    link = json.loads(bed.server.ip("-j", "link", "show", "dev", SERVER_DEV))[0]
    for address in (SERVER, SERVER6):
        bed.client.ip("neigh", "replace", address, "lladdr", link["address"], "dev", CLIENT_DEV,
                      "nud", "permanent")
    bed.server.ip("neigh", "flush", "dev", SERVER_DEV)
    known = bed.server.ip("neigh", "show")
    check(CLIENT + " " not in known and CLIENT6 + " " not in known, f"still known: {known}")


@case
def first_contact_from_peer(bed):
    """A SYN from a peer that the kernel has no neighbour entry for."""
    bed.serve(echo_server("level", f"[::]:{PORT}"), PORT)
    with bed.engine_opens():
        forget_neighbours(bed)
        for address in (SERVER, f"[{SERVER6}]"):
            bed.load("echoload", "--server", f"{address}:{PORT}", "-n", "10", seconds=10)


@case
def first_contact_to_peer(bed):
    """connect() to a peer that the kernel has no neighbour entry for."""
    with contextlib.closing(bed.listen(PORT)) as listener, bed.engine_opens():
        forget_neighbours(bed)
        program = bed.server.start(bed.under_engine(["nc", "-N", "-v", CLIENT, PORT]))
        connection, _ = listener.accept()
        connection.sendall(b"hello\n")
        connection.close()
        check(program.wait(10) == 0 and "hello" in program.output(), program.output())


@case
def ping_and_kernel_service(bed):
    """Ping, a kernel TCP service and UDP on the engine's address, while the engine is busy."""
    bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
    bed.serve(echo_server("level", f"0.0.0.0:{PORT + 1}"), PORT + 1, offload=False)
    with bed.server.inside():
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((SERVER, 5353))
    with bed.client.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with bed.engine_opens(kernel=5):
        busy = bed.client.start([harness.client_program("echoload"), "--server",
                                 f"{SERVER}:{PORT}", "-c", "16", "--seconds", "4"])
        time.sleep(0.3)
        check(harness.ping(bed, 20) == 20, "pings were lost")
        bed.load("echoload", "--server", f"{SERVER}:{PORT + 1}", "-c", "5", "-n", "2000")
        udp.settimeout(2)
        sender.sendto(b"datagram", (SERVER, 5353))
        check(udp.recv(100) == b"datagram", "UDP is broken")
        check(busy.wait(20) == 0, busy.output())


@case
def loopback(bed):
    """An offloaded server is still reachable from its own machine, through the kernel."""
    bed.serve(echo_server("level", f"[::]:{PORT}"), PORT)
    opened = bed._opens()
    for address in ("127.0.0.1", "::1", SERVER, SERVER6):
        with bed.server.inside():
            connection = socket.create_connection((address, PORT), 5)
        connection.settimeout(5)
        echo_once(connection, os.urandom(100000))
        connection.close()
    check(bed._opens()["engine_passive"] == opened["engine_passive"],
          "the engine counted a local connection")
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-n", "100")


@case
def connect_to_loopback(bed):
    """connect() of an offloaded program to 127.0.0.1 and an own address stays with the kernel."""
    bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT, offload=False)
    opened = bed._opens()
    for address in ("127.0.0.1", SERVER):
        bed.run_server_side([PYTHON, "-c", f"""
import socket
s = socket.create_connection(("{address}", {PORT}), 5)
s.sendall(b"x" * 5000)
got = 0
while got < 5000: got += len(s.recv(5000))
"""])
    check(bed._opens()["engine_active"] == opened["engine_active"],
          "the engine counted a local connection")


harness.main()
