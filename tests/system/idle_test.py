#!/usr/bin/env python3
"""What waiting costs."""
import os
import resource
import time

import harness
from harness import KERNEL, SERVER, Skipped, case, check, echo_server, need_engine, receive_exactly

SECONDS = 6


def measure(bed, programs):
    """CPU share of all `programs` over some seconds, after things have settled."""
    time.sleep(2)
    started, before = time.monotonic(), [p.cpu_seconds() for p in programs]
    time.sleep(SECONDS)
    taken = [p.cpu_seconds() - b for p, b in zip(programs, before)]
    share = sum(taken) / (time.monotonic() - started)
    print(f"idle: {share * 100:.3f} % of a core ({', '.join(f'{t * 1e3:.1f} ms' for t in taken)})")
    check(share <= 0.01, f"idling costs {share * 100:.2f} % of a core")


def programs_of(bed, server):
    return [server] if KERNEL else [server, bed.engine.process]


def memcached(bed, connections):
    return bed.serve(["memcached", "-u", "nobody", "-t", "1", "-l", SERVER, "-p", "11211",
                      "-c", str(connections), "-b", "4096"], 11211)


@case
def engine_and_program(bed):
    measure(bed, programs_of(bed, memcached(bed, 1024)))


@case
def ten_thousand_connections(bed):
    """Engine, memcached and 10,000 idle connections: at most 1 % of a core together."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < 12000:
        raise Skipped(f"only {limit} file descriptors are allowed")
    server = memcached(bed, 11000)
    with bed.engine_opens():
        client = bed.client.start([harness.client_program("memcheck"), "--server",
                                   f"{SERVER}:11211", "-c", "10000", "-n", "10000",
                                   "--max-size", "100", "--keys", "1", "--idle", "60"])
        harness.wait_for(lambda: "idle with" in client.output() or not client.running(), 30,
                         lambda: "10,000 connections\n" + client.output()[-500:])
        check(client.running(), client.output())
    if bed.engine is not None:
        check(len(bed.engine.connections()) == 10000, "connections are missing")
    measure(bed, programs_of(bed, server))
    check(client.stop() == 0, client.output()[-500:])
    bed.wait_no_connections(10)


def segment_bytes(engine):
    """Memory that the engine's segments hold."""
    total = 0
    for name in os.listdir(f"/proc/{engine.pid}/fd"):
        path = f"/proc/{engine.pid}/fd/{name}"
        if os.readlink(path).startswith("/memfd:flextoe-segment"):
            total += os.stat(path).st_blocks * 512
    return total


@case
def idle_connections_give_their_rings_back(bed):
    """64 KiB both ways, then silence: at most 8 KiB stay in the segments for each connection."""
    need_engine()
    count, size = 1000, 65536
    bed.serve(echo_server("level", "0.0.0.0:7001"), 7001)
    before = segment_bytes(bed.engine)
    data = os.urandom(size)
    with bed.engine_opens():
        connections = [bed.connect(7001) for _ in range(count)]

    def exchange(some):
        for connection in some:
            connection.sendall(data)
            check(receive_exactly(connection, size) == data, "the echo differs")
    exchange(connections[:100])
    busy = (segment_bytes(bed.engine) - before) / 100
    exchange(connections[100:])
    time.sleep(3)
    idle = (segment_bytes(bed.engine) - before) / count
    print(f"resident for each connection: busy {busy / 1024:.1f} KiB, idle {idle / 1024:.1f} KiB")
    check(busy > 24 << 10, "the rings were never filled")
    check(idle <= 8192, f"an idle connection holds {idle:.0f} bytes")
    exchange(connections[:100])  # they work as before
    time.sleep(3)
    again = (segment_bytes(bed.engine) - before) / count
    check(again <= 8192, f"after a second rest a connection holds {again:.0f} bytes")
    renewed = bed.engine.ask("stats")["counters"]["rings_renewed"]
    check(renewed >= count // 2, f"only {renewed} rings were renewed")
    for connection in connections:
        connection.close()
    bed.wait_no_connections(10)


harness.main()
