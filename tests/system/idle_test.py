#!/usr/bin/env python3
"""What waiting costs."""
import resource
import time

import harness
from harness import KERNEL, SERVER, Skipped, case, check

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


harness.main()
