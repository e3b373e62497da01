#!/usr/bin/env python3
"""Socket options of offloaded connections: the same answers as Linux, and their effect."""
import contextlib
import os
import socket
import struct
import time

import harness
from harness import (CLIENT, CLIENT6, CLIENT_DEV, PYTHON, SERVER, SERVER6, case, check, echo_once,
                     need_engine, receive_exactly, write_script)

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

# Options of a listener show in its connections, those set before listen() and those set after it.
INHERITED = """
import socket, struct
S, T = socket.SOL_SOCKET, socket.IPPROTO_TCP
listener = socket.socket()
listener.setsockopt(S, socket.SO_REUSEADDR, 1)
early = ((S, "SO_KEEPALIVE", 1), (T, "TCP_KEEPIDLE", 55), (S, "SO_RCVBUF", 50000))
late = ((T, "TCP_NODELAY", 1), (T, "TCP_KEEPINTVL", 7), (S, "SO_SNDBUF", 60000),
        (T, "TCP_USER_TIMEOUT", 4321))
for level, name, value in early:
    listener.setsockopt(level, getattr(socket, name), value)
listener.bind(("0.0.0.0", 7001))
listener.listen()
for level, name, value in late:
    listener.setsockopt(level, getattr(socket, name), value)
listener.setsockopt(S, socket.SO_LINGER, struct.pack("ii", 1, 3))
listener.accept()[0].close()  # this one may have come before the late options
connection, _ = listener.accept()
for level, name, _ in early + late:
    print(name, connection.getsockopt(level, getattr(socket, name)), flush=True)
print("SO_LINGER", struct.unpack("ii", connection.getsockopt(S, socket.SO_LINGER, 8)), flush=True)
connection.close()
"""

# Single bytes, a moment apart, without and with TCP_NODELAY.
SMALL_WRITES = """
import socket, time
listener = socket.create_server(("0.0.0.0", 7001))
for no_delay in (0, 1):
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
    connection.recv(1)
    for _ in range(100):
        connection.send(b"x")
        time.sleep(0.002)
    connection.close()
"""

CORKED = """
import socket, time
listener = socket.create_server(("0.0.0.0", 7001))
connection, _ = listener.accept()
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
for _ in range(5):
    connection.send(b"x" * 100)
    time.sleep(0.01)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
connection.recv(1)
"""

# How much fits into a connection whose other side does not read. The size is the client's wish.
BUFFERS = """
import select, socket, time
listener = socket.create_server(("0.0.0.0", 7001))
def fill(connection):
    total, moved = 0, time.monotonic()
    connection.setblocking(False)
    while time.monotonic() - moved < 1:
        try:
            total += connection.send(bytes(16384))
            moved = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    return total
while True:
    connection, _ = listener.accept()
    name, size = connection.recv(100).decode().split()
    connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), int(size))
    connection.send(b"set")
    if name == "SO_SNDBUF":
        print(fill(connection), flush=True)
    waits = select.poll()
    waits.register(connection, select.POLLRDHUP)
    waits.poll(20000)
    connection.close()
"""

CONGESTION = """
import socket
T = socket.IPPROTO_TCP
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(T, socket.TCP_CONGESTION, b"reno")
listener.bind(("0.0.0.0", 7001))
listener.listen()
connection, _ = listener.accept()
def say():
    connection.sendall(connection.getsockopt(T, socket.TCP_CONGESTION, 16).rstrip(bytes(1)) + b".")
    connection.recv(1)
say()
connection.setsockopt(T, socket.TCP_CONGESTION, b"cubic")
say()
try:
    connection.setsockopt(T, socket.TCP_CONGESTION, b"nosuch")
except OSError as failure:
    connection.sendall(b"%d." % failure.errno)
"""

ONE_FAMILY = """
import select, socket
listeners = []
for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, 7001))
    listener.listen()
    listeners.append(listener)
while True:
    for ready in select.select(listeners, [], [])[0]:
        connection, peer = ready.accept()
        connection.sendall(peer[0].encode())
        connection.close()
"""

V6_ONLY = """
import socket
listener = socket.create_server(("::", 7001), family=socket.AF_INET6)
assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
while True:
    connection, peer = listener.accept()
    connection.sendall(peer[0].encode())
    connection.close()
"""


def run_script(bed, name, text, talk, offload=True):
    """Serves `text`, lets `talk(connection)` speak to it; its output."""
    process = bed.serve([PYTHON, write_script(bed, name, text)], PORT, offload)
    connection = bed.connect(PORT)
    talk(connection)
    connection.close()
    process.wait(10)
    return process.output()


def compare_with_kernel(bed, text, talk, marker):
    """The program prints the same offloaded and not."""
    kernel = run_script(bed, "plain.py", text, talk, offload=False)
    check(marker in kernel, kernel)
    need_engine()
    with bed.engine_opens():
        ours = run_script(bed, "offloaded.py", text, talk)
    differences = [f"Linux: {a}   FlexTOE: {b}"
                   for a, b in zip(kernel.splitlines(), ours.splitlines()) if a != b]
    check(ours.count("\n") == kernel.count("\n") and not differences,
          "\n".join(differences) + f"\n{ours[-300:]}")


def expect_end(connection):
    check(connection.recv(10) == b"", "unexpected bytes")


@case
def read_back(bed):
    """A program sees the same of its sockets offloaded and not."""
    compare_with_kernel(bed, READ_BACK, expect_end, "send after shutdown 32")


@case
def inherited(bed):
    """An accepted connection has the options of its listener."""
    def talk(first):
        expect_end(first)
        second = bed.connect(PORT)
        expect_end(second)
        second.close()
    compare_with_kernel(bed, INHERITED, talk, "SO_LINGER (1, 3)")


@case
def no_delay(bed):
    """Nagle's rule holds small segments back while data is unacknowledged; TCP_NODELAY lifts it."""
    bed.serve([PYTHON, write_script(bed, "small.py", SMALL_WRITES)], PORT)
    segments = []
    with bed.engine_opens():
        for _ in range(2):
            connection = bed.connect(PORT)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            before = bed.client.tcp_counters()["InSegs"]
            connection.sendall(b"g")
            time.sleep(0.6)  # unread bytes are acknowledged late
            receive_exactly(connection, 100)
            segments.append(bed.client.tcp_counters()["InSegs"] - before)
            connection.close()
    check(segments[0] < 50 < segments[1], f"segments without and with TCP_NODELAY: {segments}")


@case
def cork(bed):
    """Nothing leaves a corked connection but full segments."""
    bed.serve([PYTHON, write_script(bed, "cork.py", CORKED)], PORT)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        first = len(connection.recv(1000))
        check(first == 500, f"{first} bytes came first")
        connection.close()


def wish(bed, name, size):
    """A connection on whose server side SO_RCVBUF or SO_SNDBUF is set; small buffers here."""
    with bed.client.inside():
        connection = socket.socket()
    connection.settimeout(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
    connection.connect((SERVER, PORT))
    connection.sendall(f"{name} {size}".encode())
    check(receive_exactly(connection, 3) == b"set", "not set")
    return connection


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def fill(connection):
    """Bytes that fit in until nothing has moved for a second."""
    connection.setblocking(False)
    total, moved = 0, time.monotonic()
    while time.monotonic() - moved < 1:
        try:
            total += connection.send(bytes(8192))
            moved = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    return total


SMALL, LARGE = 16_000, 200_000  # Linux bounds larger ones unless it is told otherwise


def judge_buffers(held):
    check(held[0] < 200_000, f"{SMALL} bytes of buffer held {held[0]}")
    check(held[1] > held[0] + LARGE // 2, f"{SMALL} and {LARGE} bytes of buffer held {held}")


@case
def receive_buffer(bed):
    """SO_RCVBUF bounds what a program that does not read has received."""
    bed.serve([PYTHON, write_script(bed, "buffers.py", BUFFERS)], PORT)
    held = []
    with bed.engine_opens():
        for size in (SMALL, LARGE):
            connection = wish(bed, "SO_RCVBUF", size)
            held.append(fill(connection))
            reset(connection)
    judge_buffers(held)


@case
def send_buffer(bed):
    """SO_SNDBUF bounds what a program may write that nobody reads."""
    server = bed.serve([PYTHON, write_script(bed, "buffers.py", BUFFERS)], PORT)
    with bed.engine_opens():
        for number, size in enumerate((SMALL, LARGE)):
            connection = wish(bed, "SO_SNDBUF", size)
            harness.wait_for(lambda: server.output().count("\n") > number, 10, "the total")
            reset(connection)
    judge_buffers([int(word) for word in server.output().split()])


@case
def congestion_control(bed):
    """TCP_CONGESTION of the listener, then of the connection, is the one that is used."""
    server = bed.serve([PYTHON, write_script(bed, "congestion.py", CONGESTION)], PORT)

    def used():
        return [entry["cc"] for entry in bed.engine.connections().values()]
    with bed.engine_opens():
        connection = bed.connect(PORT)
        for name in ("reno", "cubic"):
            check(receive_exactly(connection, len(name) + 1).decode() == name + ".", "not " + name)
            check(bed.engine is None or used() == [name], f"{name} is not used")
            connection.sendall(b"n")
        check(receive_exactly(connection, 2) == b"2.", "an unknown name is not ENOENT")
        connection.close()
    check(server.wait(5) == 0, server.output())


def who(bed, address):
    connection = bed.connect(PORT, address)
    text = b""
    while more := connection.recv(100):
        text += more
    connection.close()
    return text.decode()


@case
def v6_only(bed):
    """An IPv6 listener with IPV6_V6ONLY does not serve IPv4, and leaves the port to another."""
    server = bed.serve([PYTHON, write_script(bed, "v6only.py", V6_ONLY)], PORT)
    with bed.engine_opens():
        check(who(bed, SERVER6) == CLIENT6, "not served by IPv6")
    try:
        who(bed, SERVER)
        check(False, "served by IPv4")
    except ConnectionRefusedError:
        pass
    server.stop()
    bed.serve([PYTHON, write_script(bed, "families.py", ONE_FAMILY)], PORT)
    with bed.engine_opens():
        check(who(bed, SERVER6) == CLIENT6, "not served by the IPv6 listener")
        check(who(bed, SERVER) == CLIENT, "not served by the IPv4 listener")


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
