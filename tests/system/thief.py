"""thief.py SOCKET PORT CONNECTIONS PID...: tries to get at what is another user's, by every way in
which something can be named: segments, lines, cookies, descriptors, processes.

Waits for CONNECTIONS to its own PORT, and claims them with the cookies that the next sockets of
others will have. Prints one JSON object: what was had and should not be ("leaks"), and how much was
tried; then holds what it has.
"""
import ctypes
import json
import os
import socket
import struct
import sys
import time

import raw_client
from raw_client import Client

SO_COOKIE = 57
TCP_CONGESTION = 13
SYS_PTRACE, SYS_PIDFD_GETFD = 101, 438
PTRACE_ATTACH = 16
COOKIE_BATCH = 4096  # how many cookies the kernel gives a CPU at once
_libc = ctypes.CDLL(None, use_errno=True)


class Thief:
    def __init__(self):
        self.leaks = []
        self.tried = 0

    def must_fail(self, what, succeeded):
        self.tried += 1
        if succeeded:
            self.leaks.append(what)


def others_segments(thief, client):
    for segment in range(64):
        if segment in client.segments:
            continue
        kind, _, _ = client.context(segment)
        thief.must_fail(f"a context in segment {segment}", kind != raw_client.REFUSED)
        for line in (0, 1, 2, 3, 100, 32767, 32768, 0xFFFFFFFF):
            kind, _, _ = client.info(segment, line)
            thief.must_fail(f"TCP_INFO of {segment}:{line}", kind != raw_client.REFUSED)
            _, body, _ = client.option(segment, line, socket.IPPROTO_TCP, TCP_CONGESTION, b"reno")
            [error] = struct.unpack_from("<i", body)
            thief.must_fail(f"an option of {segment}:{line}", error == 0)
        thief.must_fail(f"segment {segment}", segment in client.segments)


def others_sockets(thief, client, victim_port):
    """Sockets that are not the victim's, but look like them."""
    look_alike = socket.socket()
    for name in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        look_alike.setsockopt(socket.SOL_SOCKET, name, 1)
    try:
        look_alike.bind(("0.0.0.0", victim_port))
    except OSError:
        pass
    through_kernel = socket.create_connection((os.environ["SERVER"], victim_port), 5)
    ends = os.pipe()
    descriptors = [look_alike.fileno(), through_kernel.fileno(), *ends,
                   socket.socket(socket.AF_UNIX).fileno(), os.open("/dev/null", os.O_RDWR)]
    for kind, segment, line in client.show(descriptors):
        thief.must_fail(f"a line by a descriptor: {segment}:{line}", kind != 0)
    for descriptor in descriptors:
        body = struct.pack("<II", 16, 0) + bytes(56)
        kind, _, _ = client.ask(raw_client.LISTEN, body, [descriptor])
        thief.must_fail("a listener by a descriptor that proves none", kind != raw_client.REFUSED)
    through_kernel.close()


def others_processes(thief, pids):
    for pid in pids:
        for path in ("fd", "map_files", "mem", "environ", "maps"):
            try:
                if path in ("fd", "map_files"):
                    os.listdir(f"/proc/{pid}/{path}")
                else:
                    with open(f"/proc/{pid}/{path}", "rb") as file:
                        file.read(1)
                thief.must_fail(f"/proc/{pid}/{path}", True)
            except OSError:
                thief.must_fail("", False)
        attached = _libc.syscall(SYS_PTRACE, PTRACE_ATTACH, pid, 0, 0)
        thief.must_fail(f"ptrace of {pid}", attached == 0)
        pidfd = os.pidfd_open(pid)
        for descriptor in range(40):
            got = _libc.syscall(SYS_PIDFD_GETFD, pidfd, descriptor, 0)
            thief.must_fail(f"descriptor {descriptor} of {pid}", got >= 0)


def fresh_cookie():
    with socket.socket() as sock:
        [cookie] = struct.unpack("<Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))
    return cookie


def next_cookies(count):
    """What the kernel will give next: each CPU has a batch of its own. What lies behind a batch
    is known to nobody, and may be in use."""
    found = []
    cpus = os.sched_getaffinity(0)
    share = count // len(cpus) + 1
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
        now = fresh_cookie()
        while -now % COOKIE_BATCH < share:
            now = fresh_cookie()
        found += range(now + 1, now + 1 + share)
    os.sched_setaffinity(0, cpus)
    return found


def accept_with_forged_cookies(client, listening, slot, count):
    """Takes `count` connections from the accept ring; returns their lines."""
    segment, line = listening
    memory = client.segments[segment]
    at = raw_client.LINES + line * raw_client.LINE_BYTES
    end = time.monotonic() + 20
    while struct.unpack_from("<Q", memory, at)[0] < count:
        if time.monotonic() > end:
            raise TimeoutError("the connections did not come")
        time.sleep(0.01)
    [ring] = struct.unpack_from("<I", memory, at + 36)
    entries = (1 << (ring >> 24)) // 8
    base = (ring & 0xFFFFFF) * 4096
    cookies = next_cookies(count)
    taken = []
    for number in range(count):
        [entry] = struct.unpack_from("<Q", memory, base + number % entries * 8)
        taken.append(entry & 0xFFFFFFFF)
        own = raw_client.LINES + taken[-1] * raw_client.LINE_BYTES
        struct.pack_into("<Q", memory, own + raw_client.LINE_CLAIM,
                         entry >> 32 << 32 | 1 + slot)
        struct.pack_into("<Q", memory, at + raw_client.LINE_RX_HEAD, number + 1)
        struct.pack_into("<Q", memory, own + raw_client.LINE_COOKIE, cookies[number])
        client.post(segment, slot, [raw_client.ACCEPT << 24 | taken[-1]])
    return taken


def send_from_elsewhere(client, segment, slot, line, victim_port):
    """Says that its line is the victim's, and sends."""
    memory = client.segments[segment]
    at = raw_client.LINES + line * raw_client.LINE_BYTES
    struct.pack_into("<HH", memory, at + 64 + 16 + 32, victim_port, 1)
    [ring] = struct.unpack_from("<I", memory, at + 48)
    base = (ring & 0xFFFFFF) * 4096
    memory[base:base + 6] = b"stolen"
    struct.pack_into("<Q", memory, at + raw_client.LINE_TX_TAIL, 6)
    client.post(segment, slot, [raw_client.LOOK << 24 | line])


def main():
    path, port, connections, victim_port, *pids = sys.argv[1:]
    thief = Thief()
    client = Client(path)
    segment = client.hello()
    _, slot, _ = client.context(segment)
    listener = socket.create_server(("0.0.0.0", int(port)), backlog=128)
    kind, body, _ = client.listen(listener, 128)
    if kind != raw_client.LISTENING:
        raise AssertionError(f"not even its own listener: {kind} {body}")
    print("listening", flush=True)
    others_segments(thief, client)
    others_sockets(thief, client, int(victim_port))
    others_processes(thief, map(int, pids))
    lines = accept_with_forged_cookies(client, struct.unpack_from("<II", body), slot,
                                       int(connections))
    send_from_elsewhere(client, segment, slot, lines[0], int(victim_port))
    client.show([])  # what was posted before is done when the answer comes
    print(json.dumps({"leaks": thief.leaks, "tried": thief.tried, "lines": lines}), flush=True)
    time.sleep(60)


main()
