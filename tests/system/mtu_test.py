#!/usr/bin/env python3
"""Other MTUs than 1500: jumbo frames, both sides unlike, changes under traffic."""
import contextlib
import json
import os
import time

import harness
from harness import (CLIENT, CLIENT6, CLIENT_DEV, SERVER, SERVER6, SERVER_DEV, bed_options, case,
                     check, client_program, need_engine, wait_for)

PORT = 7004
MB = 1_000_000
ENDLESS = 1_000_000 * MB
TIMESTAMPS = 12
HEADERS = {SERVER: 40, SERVER6: 60}


def serve(bed):
    bed.serve([client_program("bulk"), "--serve", f"[::]:{PORT}"], PORT)


def start_bulk(bed, address, *arguments):
    """A checked stream from the client side; (process, file of its result)."""
    path = os.path.join(bed.lab.directory, f"bulk-{time.monotonic_ns()}.json")
    host = f"[{address}]" if ":" in address else address
    process = bed.client.start([client_program("bulk"), "--json", path, "--connect",
                                f"{host}:{PORT}", *map(str, arguments)])
    return process, path


def finish_bulk(process, path, seconds=60):
    status = process.wait(seconds)
    check(os.path.exists(path), f"{process}: exit {status}\n{process.output()[-2000:]}")
    with open(path) as file:
        found = json.load(file)
    check(status == 0 and not found["failed"], f"bulk: exit {status}, {found['reason']}")
    return found


@contextlib.contextmanager
def traffic(bed, address, mtu):
    """Checked bytes both ways, more than can pass meanwhile: what ends early has failed. The
    connection opens before the MTU changes: what its SYN says bounds it for ever."""
    process, _ = start_bulk(bed, address, "--down", ENDLESS, "--up", ENDLESS)
    wait_for_mss(bed, mtu - HEADERS[address] - TIMESTAMPS)
    yield
    check(process.running(), f"bulk has ended: {process.output()[-2000:]}")
    process.stop(10)
    stream(bed, address, 10 * MB, 10 * MB)  # and the next one is whole


def stream(bed, address, down=40 * MB, up=40 * MB):
    return finish_bulk(*start_bulk(bed, address, "--down", down, "--up", up))


def set_mtu(bed, server=None, client=None):
    for namespace, device, mtu in ((bed.server, SERVER_DEV, server),
                                   (bed.client, CLIENT_DEV, client)):
        if mtu is not None:
            namespace.ip("link", "set", device, "mtu", str(mtu))


def send_sizes(bed):
    """MSS of the engine's connections on PORT."""
    return {row["mss"] for row in bed.engine.ask("conns")["conns"] if "mss" in row}


def wait_for_mss(bed, expected):
    if bed.engine is not None:
        wait_for(lambda: send_sizes(bed) == {expected}, 10,
                 lambda: f"segments of {expected} bytes: {send_sizes(bed)}")


def nothing_dropped(bed):
    if bed.engine is None:
        return
    drops = bed.engine.ask("stats")["drops"]
    for reason in ("port_rx_jumbo", "port_rx_no_fill", "headers_split", "too_many_parts"):
        check(drops[reason] == 0, f"{reason}: {drops[reason]}")


@bed_options(mtu=9000)
@case
def jumbo_streams(bed):
    """Bulk both ways at once; the segments are as long as the MTU allows."""
    serve(bed)
    with bed.engine_opens():
        for address in (SERVER, SERVER6):
            running = start_bulk(bed, address, "--down", 300 * MB, "--up", 300 * MB)
            wait_for_mss(bed, 9000 - HEADERS[address] - TIMESTAMPS)
            finish_bulk(*running)
    if bed.engine is not None:
        counters = bed.engine.ask("stats")["counters"]
        check(600 * MB / counters["frames_out"] > 3000, f"frames were not long: {counters}")
    nothing_dropped(bed)


@bed_options(mtu=9000)
@case
def jumbo_requests(bed):
    bed.serve(["memcached", "-u", "nobody", "-l", SERVER, "-p", "11211", "-m", "256"], 11211)
    with bed.engine_opens():
        bed.load("memcheck", "--server", f"{SERVER}:11211", "-c", "50", "-n", "100000")
    nothing_dropped(bed)


@bed_options(mtu=9000)
@case
def jumbo_client(bed):
    """The engine's side connects."""
    server = bed.client.serve([client_program("bulk"), "--serve", f"[::]:{PORT}"], PORT)
    check(server.running(), str(server))
    with bed.engine_opens():
        for address in (CLIENT, f"[{CLIENT6}]"):
            bed.run_server_side([client_program("bulk"), "--connect", f"{address}:{PORT}",
                                 "--down", 40 * MB, "--up", 40 * MB])
    nothing_dropped(bed)


@bed_options(mtu=9000)
@case
def peer_with_a_smaller_mtu(bed):
    set_mtu(bed, client=1500)
    serve(bed)
    for address in (SERVER, SERVER6):
        running = start_bulk(bed, address, "--down", 40 * MB, "--up", 40 * MB)
        wait_for_mss(bed, 1500 - HEADERS[address] - TIMESTAMPS)
        finish_bulk(*running)


@case
def changes_under_traffic(bed):
    """Smaller and larger again while bytes move both ways; 1280 is the least that IPv6 allows."""
    serve(bed)
    for address in (SERVER, SERVER6):
        with traffic(bed, address, 1500):
            for mtu in (1280, 1500, 1400, 1500):
                set_mtu(bed, mtu, mtu)
                wait_for_mss(bed, mtu - HEADERS[address] - TIMESTAMPS)
                time.sleep(0.1)


@bed_options(mtu=9000)
@case
def jumbo_to_small_under_traffic(bed):
    serve(bed)
    for address in (SERVER, SERVER6):
        set_mtu(bed, 9000, 9000)
        with traffic(bed, address, 9000):
            for mtu in (9000, 1500, 9000):
                set_mtu(bed, mtu, mtu)
                wait_for_mss(bed, mtu - HEADERS[address] - TIMESTAMPS)
                time.sleep(0.1)


@case
def grows_beyond_what_it_was_at_start(bed):
    """Chunks are as small as for an MTU of 1500 then; new connections use the new MTU."""
    serve(bed)
    set_mtu(bed, 9000, 9000)
    if bed.engine is not None:
        wait_for(lambda: "MTU is now 9000" in bed.engine.process.output(), 5, "the new MTU")
    for address in (SERVER, SERVER6):
        running = start_bulk(bed, address, "--down", 300 * MB, "--up", 300 * MB)
        wait_for_mss(bed, 9000 - HEADERS[address] - TIMESTAMPS)
        finish_bulk(*running)
    nothing_dropped(bed)


@bed_options(mtu=30000)
@case
def larger_than_frames_can_be(bed):
    need_engine()
    serve(bed)
    said = "the MTU of srv0 (30000) is more than frames can hold here: connections use 23018"
    check(said in bed.engine.process.output(), bed.engine.process.output())
    for address in (SERVER, SERVER6):
        running = start_bulk(bed, address, "--down", 300 * MB, "--up", 300 * MB)
        wait_for_mss(bed, 23018 - HEADERS[address] - TIMESTAMPS)
        finish_bulk(*running)
    nothing_dropped(bed)
    set_mtu(bed, server=65535)
    wait_for(lambda: "(65535) is more than frames can hold" in bed.engine.process.output(), 5,
             "a sentence about the new MTU")
    stream(bed, SERVER)


@case
def route_metrics_at_run_time(bed):
    """`mtu` of a route bounds what is sent, at once; `advmss` what new connections are sent."""
    serve(bed)
    running = start_bulk(bed, SERVER, "--down", 800 * MB, "--up", 200 * MB)
    for mtu in (1400, 1300, 1500):
        bed.server.ip("route", "replace", CLIENT, "dev", SERVER_DEV, "mtu", str(mtu))
        wait_for_mss(bed, mtu - 40 - TIMESTAMPS)
    finish_bulk(*running)
    bed.server.ip("route", "replace", CLIENT, "dev", SERVER_DEV, "advmss", "1000")
    time.sleep(1)  # changes of routes are looked up a moment later
    connection = bed.connect(PORT)
    mss = connection.getsockopt(harness.socket.IPPROTO_TCP, harness.socket.TCP_MAXSEG)
    check(mss == 1000 - TIMESTAMPS, f"the peer sends {mss}")
    connection.close()


MAXSEG = """
import socket, sys
L, M = socket.IPPROTO_TCP, socket.TCP_MAXSEG
def show(name, s):
    print(name, s.getsockopt(L, M), flush=True)
def attempt(s, value):
    try:
        s.setsockopt(L, M, value)
        print("set", value, flush=True)
    except OSError as error:
        print("set", value, error.errno, flush=True)
s = socket.socket()
show("fresh", s)
for value in (20, 87, 40000, 1000):
    attempt(s, value)
show("before", s)
s.connect((sys.argv[1], int(sys.argv[2])))
show("connected", s)
attempt(s, 600)
attempt(s, 20)
show("after", s)
s.sendall(b"x" * 5000)
left = 5000
while left:
    left -= len(s.recv(left))
show("after data", s)
s.close()
"""

MAXSEG_LISTENER = """
import socket, sys
L, M = socket.IPPROTO_TCP, socket.TCP_MAXSEG
s = socket.create_server((sys.argv[1], int(sys.argv[2])), reuse_port=False)
s.close()
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(L, M, 900)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
print("listening", s.getsockopt(L, M), flush=True)
c, _ = s.accept()
print("accepted", c.getsockopt(L, M), flush=True)
c.recv(1)
"""


@case
def maximum_segment_option(bed):
    """TCP_MAXSEG before and after connect, and on a listener, as Linux."""
    server = bed.client.serve(harness.echo_server("level", f"{CLIENT}:{PORT}"), PORT)
    check(server.running(), str(server))
    script = harness.write_script(bed, "maxseg.py", MAXSEG)
    said = bed.run_server_side([harness.PYTHON, script, CLIENT, str(PORT)]).stdout.splitlines()
    check(said == ["fresh 536", "set 20 22", "set 87 22", "set 40000 22", "set 1000",
                   "before 1000", "connected 988", "set 600", "set 20 22", "after 988",
                   "after data 988"], f"as a client: {said}")
    script = harness.write_script(bed, "listener.py", MAXSEG_LISTENER)
    process = bed.serve([harness.PYTHON, script, SERVER, str(PORT + 1)], PORT + 1)
    connection = bed.connect(PORT + 1)
    mss = connection.getsockopt(harness.socket.IPPROTO_TCP, harness.socket.TCP_MAXSEG)
    check(mss == 888, f"the peer sends {mss}")
    connection.close()
    process.wait(5)
    check(process.output().split("\n")[:2] == ["listening 900", "accepted 888"], process.output())


if __name__ == "__main__":
    harness.main()
