#!/usr/bin/env python3
"""Offloaded clients of servers that use the kernel's TCP on the client side of the wire."""
import os

import harness
import transfers
from harness import CLIENT, CLIENT6, PYTHON, case, check, echo_server


@case
def curl(bed):
    files = transfers.make_files(bed, [1_000_000, 100])
    bed.client.serve(transfers.http_server(os.path.dirname(files[0])), 8000)
    with bed.engine_opens():
        transfers.fetch(bed.run_server_side, f"http://{CLIENT}:8000", files, 20)


@case
def nc(bed):
    with bed.engine_opens():
        transfers.netcat(bed, CLIENT)


@case
def nc_ipv6(bed):
    with bed.engine_opens():
        transfers.netcat(bed, CLIENT6)


@case
def connect_refused(bed):
    """A port nobody listens on answers at once, with the error Linux gives."""
    done = bed.run_server_side([PYTHON, "-c", f"""
import errno, socket
try:
    socket.create_connection(("{CLIENT}", 9999), 5)
except ConnectionRefusedError:
    print("refused")
"""])
    check(done.stdout.strip() == "refused", done.stdout)


@case
def many_connections(bed):
    """A thousand connections of one offloaded program, and short ones after each other."""
    bed.client.serve(echo_server("level", "0.0.0.0:9001"), 9001)
    load = harness.client_program("echoload")
    with bed.engine_opens():
        bed.run_server_side([load, "--server", f"{CLIENT}:9001", "-c", "1000", "-n", "20000"])
        bed.run_server_side([load, "--server", f"{CLIENT}:9001", "-c", "16", "--seconds", "3"])
        for _ in range(20):
            bed.run_server_side([load, "--server", f"{CLIENT}:9001", "-n", "1"])


harness.main()
