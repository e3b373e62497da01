#!/usr/bin/env python3
"""Offloaded clients of servers that use the kernel's TCP on the client side of the wire."""
import contextlib
import hashlib
import os
import threading

import harness
from harness import CLIENT, CLIENT6, PYTHON, case, check, echo_server, receive_exactly


@case
def curl(bed):
    content = os.urandom(1_000_000)
    with open(os.path.join(bed.lab.directory, "file.bin"), "wb") as file:
        file.write(content)
    bed.client.start([PYTHON, "-m", "http.server", "8000", "--directory", bed.lab.directory])
    harness.wait_for(lambda: bed.client.listens(8000), 10, "http.server")
    target = os.path.join(bed.lab.directory, "fetched")
    with bed.engine_opens():
        for _ in range(10):
            bed.run_server_side(["curl", "-sS", "--fail", "-m", "10", "-o", target,
                                 f"http://{CLIENT}:8000/file.bin"])
            with open(target, "rb") as file:
                check(hashlib.sha256(file.read()).digest() == hashlib.sha256(content).digest(),
                      "the file differs")


def netcat(bed, address):
    """Sends a megabyte, ends its direction, receives another."""
    up, down = os.urandom(500_000).hex(), os.urandom(500_000).hex()
    got = []
    with contextlib.closing(bed.listen(9000, address)) as listener, bed.engine_opens():
        def serve():
            connection, _ = listener.accept()
            connection.settimeout(10)
            got.append(receive_exactly(connection, len(up)).decode())
            got.append(connection.recv(1))
            connection.sendall(down.encode())
            connection.close()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        done = bed.run_server_side(["nc", "-N", address, "9000"], input=up)
        thread.join(10)
    check(got[:2] == [up, b""], "the server got something else")
    check(done.stdout == down, "nc got something else")


@case
def nc(bed):
    netcat(bed, CLIENT)


@case
def nc_ipv6(bed):
    netcat(bed, CLIENT6)


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
    bed.client.start(echo_server("level", "0.0.0.0:9001"))
    harness.wait_for(lambda: bed.client.listens(9001), 10, "echo_server")
    load = harness.client_program("echoload")
    with bed.engine_opens():
        bed.run_server_side([load, "--server", f"{CLIENT}:9001", "-c", "1000", "-n", "20000"])
        bed.run_server_side([load, "--server", f"{CLIENT}:9001", "-c", "16", "--seconds", "3"])
        for _ in range(20):
            bed.run_server_side([load, "--server", f"{CLIENT}:9001", "-n", "1"])


harness.main()
