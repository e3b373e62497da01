#!/usr/bin/env python3
"""Socket options of offloaded connections: the same answers as Linux, and their effect."""
import contextlib
import os
import socket
import time

import harness
from harness import (CLIENT, CLIENT_DEV, PYTHON, case, check, echo_once, need_engine,
                     receive_exactly, write_script)

PORT = 7001

# Prints what a program sees of a listener and an accepted connection, one line each.
READ_BACK = """
import fcntl, os, socket, struct
S, T = socket.SOL_SOCKET, socket.IPPROTO_TCP
listener = socket.create_server(("0.0.0.0", 7001), backlog=64)
connection, _ = listener.accept()
def show(text):
    print(text, flush=True)
def value(name, sock, level, option):
    try:
        show(f"{name} {sock.getsockopt(level, option)}")
    except OSError as failure:
        show(f"{name} errno {failure.errno}")
for name, sock in (("listener", listener), ("connection", connection)):
    for option in ("SO_TYPE", "SO_DOMAIN", "SO_PROTOCOL", "SO_ACCEPTCONN", "SO_ERROR",
                   "SO_REUSEADDR", "SO_KEEPALIVE", "SO_OOBINLINE"):
        value(name + " " + option, sock, S, getattr(socket, option))
    for option in ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_CORK",
                   "TCP_USER_TIMEOUT"):
        value(name + " " + option, sock, T, getattr(socket, option))
connection.setsockopt(S, socket.SO_KEEPALIVE, 1)
connection.setsockopt(T, socket.TCP_NODELAY, 1)
connection.setsockopt(T, socket.TCP_KEEPIDLE, 77)
connection.setsockopt(T, socket.TCP_KEEPINTVL, 13)
connection.setsockopt(T, socket.TCP_KEEPCNT, 4)
connection.setsockopt(T, socket.TCP_USER_TIMEOUT, 12345)
connection.setsockopt(S, socket.SO_LINGER, struct.pack("ii", 1, 5))
for option in ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
    value("set " + option, connection, T, getattr(socket, option))
show(f"linger {struct.unpack('ii', connection.getsockopt(S, socket.SO_LINGER, 8))}")
show(f"state {connection.getsockopt(T, socket.TCP_INFO, 8)[0]}")
show(f"mss {500 < connection.getsockopt(T, socket.TCP_MAXSEG) <= 1460}")
show(f"names {connection.getsockname()} {connection.getpeername()[0]}")
for flags in (os.O_NONBLOCK, 0):
    fcntl.fcntl(connection, fcntl.F_SETFL, flags)
    show(f"flags {fcntl.fcntl(connection, fcntl.F_GETFL) & os.O_NONBLOCK}")
def error(name, call):
    try:
        call()
        show(f"{name} works")
    except OSError as failure:
        show(f"{name} {failure.errno}")
error("bad KEEPIDLE", lambda: connection.setsockopt(T, socket.TCP_KEEPIDLE, 0))
error("bad option", lambda: connection.setsockopt(T, 9999, 1))
error("connect again", lambda: connection.connect(("10.77.0.2", 1)))
error("accept on it", connection.accept)
error("bind again", lambda: connection.bind(("0.0.0.0", 0)))
connection.setblocking(False)
error("empty recv", lambda: connection.recv(1))
connection.shutdown(socket.SHUT_WR)
error("send after shutdown", lambda: connection.send(b"x", socket.MSG_NOSIGNAL))
connection.close()
"""

KEEPALIVE = """
import socket, time
listener = socket.create_server(("0.0.0.0", 7001))
connection, _ = listener.accept()
connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
    connection.setsockopt(socket.IPPROTO_TCP, option, value)
connection.sendall(connection.recv(100))
started = time.monotonic()
try:
    connection.recv(1)
    print("end", flush=True)
except OSError as failure:
    print(f"errno {failure.errno} after {time.monotonic() - started:.1f}", flush=True)
"""

RESET_BY_LINGER = """
import socket, struct
listener = socket.create_server(("0.0.0.0", 7001))
connection, _ = listener.accept()
connection.sendall(connection.recv(100))
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
connection.close()
listener.accept()
"""

TIMEOUTS = """
import socket, struct, time
listener = socket.create_server(("0.0.0.0", 7001))
connection, _ = listener.accept()
connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 300000))
started = time.monotonic()
try:
    connection.recv(1)
    text = "data"
except OSError as failure:
    text = str(failure.errno)
taken = time.monotonic() - started
connection.sendall(f"{text} {0.2 < taken < 3}".encode())
connection.shutdown(socket.SHUT_WR)
rest = b""
while data := connection.recv(1000):
    rest += data
print(rest.decode(), flush=True)
"""


def run_script(bed, name, text, talk, offload=True):
    """Serves `text`, lets `talk(connection)` speak to it; its output."""
    process = bed.serve([PYTHON, write_script(bed, name, text)], PORT, offload)
    connection = bed.connect(PORT)
    talk(connection)
    connection.close()
    process.wait(10)
    return process.output()


@case
def read_back(bed):
    """A program sees the same of its sockets offloaded and not."""
    def talk(connection):
        check(connection.recv(10) == b"", "unexpected bytes")
    kernel = run_script(bed, "plain.py", READ_BACK, talk, offload=False)
    check("send after shutdown 32" in kernel, kernel)
    need_engine()
    with bed.engine_opens():
        ours = run_script(bed, "offloaded.py", READ_BACK, talk)
    differences = [f"Linux: {a}   FlexTOE: {b}"
                   for a, b in zip(kernel.splitlines(), ours.splitlines()) if a != b]
    check(ours.count("\n") == kernel.count("\n") and not differences,
          "\n".join(differences) + f"\n{ours[-300:]}")


@case
def keep_alive(bed):
    """A peer that has vanished is found after TCP_KEEPIDLE + TCP_KEEPCNT * TCP_KEEPINTVL."""
    process = bed.serve([PYTHON, write_script(bed, "keepalive.py", KEEPALIVE)], PORT)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        echo_once(connection, b"hello")
    time.sleep(2.5)
    check(process.running(), "ended although the peer answered: " + process.output())
    bed.client.ip("addr", "del", CLIENT + "/16", "dev", CLIENT_DEV)
    process.wait(10)
    check("errno 110" in process.output(), process.output())
    bed.client.ip("addr", "add", CLIENT + "/16", "dev", CLIENT_DEV)
    connection.close()


@case
def linger_reset(bed):
    """SO_LINGER with time 0: close() resets."""
    bed.serve([PYTHON, write_script(bed, "linger.py", RESET_BY_LINGER)], PORT)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        echo_once(connection, b"hello")
        with contextlib.suppress(ConnectionResetError):
            check(False, f"no reset but {connection.recv(1)!r}")
        connection.close()


@case
def timeouts_and_half_close(bed):
    """SO_RCVTIMEO ends a recv; after SHUT_WR the other direction lives on."""
    rest = os.urandom(100000).hex()
    process = bed.serve([PYTHON, write_script(bed, "timeouts.py", TIMEOUTS)], PORT)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        said = receive_exactly(connection, len("11 True"))
        check(said == b"11 True", f"{said}")
        check(connection.recv(1) == b"", "no end after SHUT_WR")
        connection.sendall(rest.encode())
        connection.shutdown(socket.SHUT_WR)
        process.wait(10)
        connection.close()
    check(process.output().strip() == rest, "the other direction lost bytes")


harness.main()
