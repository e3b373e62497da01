#!/usr/bin/env python3
"""IPv6, and both families on one listener."""
import harness
from harness import (CLIENT, CLIENT6, PYTHON, SERVER, SERVER6, case, check, echo_server,
                     write_script)

PORT = 7001
NAMES = """
import socket
listener = socket.create_server(("::", 7002), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, peer = listener.accept()
    text = f"{peer[0]} {connection.getsockname()[0]} {connection.getpeername()[0]}"
    connection.sendall(text.encode())
    connection.close()
"""


@case
def ipv6_only(bed):
    bed.serve(echo_server("level", f"[{SERVER6}]:{PORT}"), PORT)
    with bed.engine_opens():
        bed.load("echoload", "--server", f"[{SERVER6}]:{PORT}", "-c", "16", "-n", "20000")
        bed.load("echoload", "--server", f"[{SERVER6}]:{PORT}", "--size", "200000", "-n", "200")


@case
def dual_stack(bed):
    bed.serve(echo_server("edge", f"[::]:{PORT}"), PORT)
    with bed.engine_opens():
        for address in (f"[{SERVER6}]", SERVER):
            bed.load("echoload", "--server", f"{address}:{PORT}", "-c", "16", "-n", "10000")


@case
def addresses_as_seen(bed):
    """accept, getsockname and getpeername of a dual-stack listener."""
    bed.serve([PYTHON, write_script(bed, "names.py", NAMES)], 7002)
    wanted = {SERVER: f"::ffff:{CLIENT} ::ffff:{SERVER} ::ffff:{CLIENT}",
              SERVER6: f"{CLIENT6} {SERVER6} {CLIENT6}"}
    with bed.engine_opens():
        for address, text in wanted.items():
            connection = bed.connect(7002, address)
            said = b""
            while more := connection.recv(1000):
                said += more
            check(said.decode() == text, f"{said} instead of {text}")


@case
def memcached(bed):
    bed.serve(["memcached", "-u", "nobody", "-t", "1", "-l", SERVER6, "-p", "11211"], 11211)
    with bed.engine_opens():
        bed.load("memcheck", "--server", f"[{SERVER6}]:11211", "-c", "20", "-n", "30000",
                 "--max-size", "20000")
        echo = bed.connect(11211, SERVER6)
        echo.sendall(b"version\r\n")
        check(echo.recv(100).startswith(b"VERSION"), "no version")
        echo.close()


harness.main()
