#!/usr/bin/env python3
"""redis-server under redis-cli and redis-benchmark."""
import os

import harness
from harness import SERVER, case, check


def serve(bed):
    return bed.serve(["redis-server", "--save", "", "--appendonly", "no", "--bind", SERVER,
                      "--protected-mode", "no", "--dir", bed.lab.directory], 6379)


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


harness.main()
