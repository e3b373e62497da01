#!/usr/bin/env python3
"""iperf3 as server and as client, each way."""
import harness
import transfers
from harness import CLIENT, SERVER, case, check


def transfer(serve, run, address, *arguments):
    received = transfers.iperf(serve, lambda argv: run(argv).stdout, address, 2, *arguments)
    check(received > 10_000_000, f"only {received} bytes in two seconds")


@case
def server(bed):
    with bed.engine_opens():
        for arguments in ([], ["-R"], ["-P", "4"], ["--bidir"]):
            transfer(bed.serve, bed.client.run, SERVER, *arguments)


@case
def offloaded_client(bed):
    with bed.engine_opens():
        for arguments in ([], ["-R"]):
            transfer(bed.client.serve, bed.run_server_side, CLIENT, *arguments)


harness.main()
