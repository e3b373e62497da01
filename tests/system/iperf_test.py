#!/usr/bin/env python3
"""iperf3 as server and as client, each way."""
import json

import harness
from harness import CLIENT, SERVER, case, check


def result(text):
    report = json.loads(text)
    check("error" not in report, report.get("error"))
    received = report["end"]["sum_received"]["bytes"]
    check(received > 10_000_000, f"only {received} bytes in two seconds")
    return report


def client(address, *arguments):
    return ["iperf3", "-c", address, "-t", "2", "-J", *arguments]


@case
def server(bed):
    bed.serve(["iperf3", "-s"], 5201)
    with bed.engine_opens():
        for arguments in ([], ["-R"], ["-P", "4"], ["--bidir"]):
            result(bed.client.run(client(SERVER, *arguments)).stdout)


@case
def offloaded_client(bed):
    bed.client.serve(["iperf3", "-s"], 5201)
    with bed.engine_opens():
        for arguments in ([], ["-R"]):
            result(bed.run_server_side(client(CLIENT, *arguments)).stdout)


harness.main()
