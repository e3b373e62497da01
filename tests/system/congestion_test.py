#!/usr/bin/env python3
"""Congestion control as it is chosen: by program, by route, by default; and fixed rates."""
import hashlib
import time

import harness
from harness import (CLIENT, PYTHON, SERVER, SERVER6, bed_options, case, check, need_engine,
                     receive_exactly, write_script)

PORT = 7001
ALGORITHMS = ("cubic", "reno", "dctcp", "dctcp-rate", "timely", "constant")

# Says which algorithm it has, then sends the number of bytes asked for under the name asked for.
SENDER = """
import socket
T = socket.IPPROTO_TCP
listener = socket.create_server(("::", 7001), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, _ = listener.accept()
    def algorithm():
        return connection.getsockopt(T, socket.TCP_CONGESTION, 16).rstrip(bytes(1))
    connection.sendall(algorithm().ljust(16))
    while ask := connection.recv(100).split():
        if ask[0] != b"-":
            connection.setsockopt(T, socket.TCP_CONGESTION, ask[0])
        connection.sendall(algorithm().ljust(16))
        connection.sendall(bytes(i * 7 % 251 for i in range(1000)) * (int(ask[1]) // 1000))
    connection.close()
"""


def name_from(connection):
    return receive_exactly(connection, 16).decode().strip()


def used(bed):
    return [entry["cc"] for entry in bed.engine.ask("conns")["conns"]]


def transfer(connection, name, size):
    """The name in use, and how long the bytes took."""
    connection.sendall(f"{name} {size}".encode())
    chosen = name_from(connection)
    started = time.monotonic()
    digest = hashlib.sha256(receive_exactly(connection, size)).digest()
    wanted = hashlib.sha256(bytes(i * 7 % 251 for i in range(1000)) * (size // 1000)).digest()
    check(digest == wanted, f"{name}: other bytes")
    return chosen, time.monotonic() - started


@case
@bed_options(run_arguments=("--cc", "reno", "--cc-route", f"{CLIENT}/32=dctcp-rate"))
def by_program_by_route_by_default(bed):
    """The option beats the route, the route the default; conns shows what is used."""
    need_engine()
    bed.serve([PYTHON, write_script(bed, "sender.py", SENDER)], PORT)
    with bed.engine_opens():
        for address, name in ((SERVER, "dctcp-rate"), (SERVER6, "reno")):
            connection = bed.connect(PORT, address)
            check(name_from(connection) == name, f"{address}: not {name}")
            check(used(bed) == [name], f"{used(bed)} instead of {name}")
            chosen, _ = transfer(connection, "timely", 1000)
            check(chosen == "timely" and used(bed) == ["timely"], "the option has no effect")
            connection.close()
            harness.wait_for(lambda: not used(bed), 5, "its end")


@case
@bed_options(run_arguments=("--pacing", "on"))
def every_algorithm_moves_bytes(bed):
    need_engine()
    bed.serve([PYTHON, write_script(bed, "sender.py", SENDER)], PORT)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        check(name_from(connection) == "cubic", "not cubic")
        for name in ALGORITHMS:
            chosen, seconds = transfer(connection, name, 3_000_000)
            check(chosen == name, f"{chosen} instead of {name}")
            check(used(bed) == [name], f"{used(bed)} instead of {name}")
            print(f"{name}: {seconds:.3f} s")
        connection.close()


@case
@bed_options(run_arguments=("--cc", "constant", "--constant-rate", "8000"))
def fixed_rate(bed):
    """8 Mbit/s are 1 MB in a second, and an answer is not held back by it."""
    need_engine()
    bed.serve([PYTHON, write_script(bed, "sender.py", SENDER)], PORT)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        check(name_from(connection) == "constant", "not constant")
        rates = {entry["pacing_rate"] for entry in bed.engine.ask("conns")["conns"]}
        check(rates == {1_000_000}, f"paces {rates}")
        _, seconds = transfer(connection, "-", 2_000_000)
        check(1.9 < seconds < 2.3, f"2 MB at 1 MB/s took {seconds:.2f} s")
        _, seconds = transfer(connection, "cubic", 2_000_000)
        check(seconds < 1, f"without the pace it took {seconds:.2f} s")
        connection.close()


harness.main()
