#!/usr/bin/env python3
"""redis-server under redis-cli and redis-benchmark."""
import os

import harness
import transfers
from harness import SERVER, case, check


def serve(bed):
    return bed.serve(transfers.redis_server(bed), 6379)


def cli(bed, *words, **options):
    return bed.client.run(["redis-cli", "-h", SERVER, *words], **options).stdout.strip()


@case
def redis_cli(bed):
    serve(bed)
    big = os.urandom(750_000).hex()
    with bed.engine_opens():
        check(cli(bed, "ping") == "PONG", "no PONG")
        check(cli(bed, "-x", "set", "big", input=big) == "OK", "set failed")
        check(cli(bed, "get", "big") == big, "the value differs")
        check([cli(bed, "incr", "n") for _ in range(3)] == ["1", "2", "3"], "incr is wrong")
        transfers.redis_commands(bed, 5000)
        check("tcp_port:6379" in cli(bed, "info", "server"), "info is wrong")


@case
def redis_benchmark(bed):
    serve(bed)
    with bed.engine_opens():
        for pipeline, count in (("1", "30000"), ("16", "100000")):
            said = bed.client.run(["redis-benchmark", "-h", SERVER, "-c", "50", "-n", count,
                                   "-P", pipeline, "-d", "64", "--csv",
                                   "-t", "ping,set,get,lpush,lrange_100"], seconds=50).stdout
            check(said.count("\n") >= 6, f"short report: {said}")


@case
def checked_load(bed):
    """Sets and gets of 1 B to 100 KB, every answer compared."""
    serve(bed)
    with bed.engine_opens():
        found = bed.load("memcheck", "--server", f"{SERVER}:6379", "--protocol", "redis",
                         "-n", "50000")
    check(found["operations"] == 50000, "operations were lost")


harness.main()
