#!/usr/bin/env python3
"""The distribution's memcached, byte-exact."""
import harness
from harness import SERVER, case, check


def memcached(threads, *arguments):
    return ["memcached", "-u", "nobody", "-t", threads, "-m", "1024", "-c", "2048",
            "-l", SERVER, "-p", "11211", *arguments]


def load(bed, threads):
    bed.serve(memcached(threads), 11211)
    with bed.engine_opens():
        found = bed.load("memcheck", "--server", f"{SERVER}:11211", "-c", "50", "-n", "150000")
    check(found["operations"] == 150000, "operations were lost")


@case
def one_thread(bed):
    load(bed, 1)


@case
def four_threads(bed):
    load(bed, 4)


@case
def one_connection(bed):
    bed.serve(memcached(1), 11211)
    with bed.engine_opens():
        bed.load("memcheck", "--server", f"{SERVER}:11211", "-c", "1", "-n", "20000")


harness.main()
