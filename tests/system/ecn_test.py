#!/usr/bin/env python3
"""Explicit congestion notification against Linux, through a network that marks.

The kernel's own counters say what it saw: CE in the IP header of what came (IpExtInCEPkts), and
segments of its own that the engine reported as marked (TcpExtTCPDeliveredCE).
"""
import json

import harness
from harness import (CLIENT, CLIENT6, SERVER, SERVER6, case, check, client_program, need_engine,
                     wait_for, wire)

PORT = 7001
STREAM = 3_000_000  # bytes each way
MARKS = "select=tcp,mark=3%,delay=1ms"


def kernel_counters(namespace):
    """Marks as the kernel counts them, by name; both versions of IP together."""
    words = namespace.run(["nstat", "-asz", "IpExtInCEPkts", "Ip6InCEPkts",
                           "TcpExtTCPDeliveredCE"]).stdout.split()
    found = dict(zip(words, words[1:]))
    return {"ce_in": int(found.get("IpExtInCEPkts", 0)) + int(found.get("Ip6InCEPkts", 0)),
            "delivered_ce": int(found.get("TcpExtTCPDeliveredCE", 0))}


def engine_counters(bed):
    counters = bed.engine.ask("stats")["counters"]
    return {name: counters[name] for name in ("ce_in", "ece_in", "cwr_in", "mark_reductions",
                                              "ecn_negotiated")}


def grown(before, after):
    return {name: after[name] - before[name] for name in before}


def set_ecn(namespace, value):
    namespace.run(["sysctl", "-qw", f"net.ipv4.tcp_ecn={value}"])


def serve(bed, serving):
    """A bulk server, of the engine or of the kernel."""
    argv = [client_program("bulk"), "--serve", f"[::]:{PORT}"]
    if serving:
        bed.serve(argv, PORT)
    else:
        bed.client.start([*argv, "--congestion", "cubic"])
        wait_for(lambda: bed.client.listens(PORT), 10, "the kernel's bulk server")


def stream(bed, serving, address, size=STREAM):
    """A stream each way at once; every byte is compared."""
    argv = [client_program("bulk"), "--connect", f"{address}:{PORT}", "--up", size, "--down", size]
    with bed.engine_opens():
        if serving:
            done = bed.client.run([*argv, "--congestion", "cubic"], seconds=50)
        else:
            done = bed.run_server_side(argv, seconds=50)
    found = json.loads(done.stdout)
    check(not found["failed"], f"{address}: {found['reason']}")


def addresses(serving):
    four, six = (SERVER, SERVER6) if serving else (CLIENT, CLIENT6)
    return four, f"[{six}]"


def both_see_marks(bed, serving):
    need_engine()
    set_ecn(bed.client, 1)
    serve(bed, serving)
    for address in addresses(serving):
        ours, theirs = engine_counters(bed), kernel_counters(bed.client)
        with wire(bed.lab, MARKS) as summary:
            stream(bed, serving, address)
            bed.wait_no_connections(30)
        ours = grown(ours, engine_counters(bed))
        theirs = grown(theirs, kernel_counters(bed.client))
        print(f"{address}: engine {ours}, kernel {theirs}", flush=True)
        check(ours["ecn_negotiated"] == 1, f"{address}: ECN was not negotiated")
        for way in ("to_server", "to_client"):
            check(summary[way]["marked"] > 0, f"{way}: nothing was marked")
        # Nothing is lost; on a busy machine some may be sent again before they arrive.
        check(ours["ce_in"] > 0.9 * summary["to_server"]["marked"], "the engine missed marks")
        check(theirs["ce_in"] > 0.9 * summary["to_client"]["marked"], "the kernel missed marks")
        check(theirs["delivered_ce"] > 0, "the engine did not echo the marks it got")
        check(ours["ece_in"] > 0, "the engine did not hear the kernel's echo")
        check(0 < ours["mark_reductions"] <= ours["ece_in"], "no reduction, or more than echoes")
        check(ours["cwr_in"] > 0, "the kernel did not say that it reduced")
    check(bed.client.tcp_counters()["InErrs"] == 0, "checksums are wrong")


@case
@harness.bed_options(wired=True)
def kernel_asks(bed):
    """By default the engine accepts what Linux asks for."""
    both_see_marks(bed, serving=True)


@case
@harness.bed_options(wired=True, run_arguments=("--ecn", "request"))
def engine_asks(bed):
    both_see_marks(bed, serving=False)


@case
@harness.bed_options(wired=True, run_arguments=("--cc", "dctcp"))
def dctcp_serves(bed):
    """Our listener uses DCTCP; Linux without DCTCP asks in the usual way, and both react."""
    both_see_marks(bed, serving=True)


@case
@harness.bed_options(wired=True, run_arguments=("--ecn", "off"))
def off(bed):
    """Nothing is ECN-capable, so nothing is marked."""
    need_engine()
    set_ecn(bed.client, 1)
    serve(bed, serving=True)
    with wire(bed.lab, MARKS) as summary:
        stream(bed, True, SERVER)
        bed.wait_no_connections(30)
    check(summary["to_server"]["marked"] + summary["to_client"]["marked"] == 0, "marked")
    check(engine_counters(bed)["ecn_negotiated"] == 0, "negotiated")


@case
@harness.bed_options(wired=True)
def shown(bed):
    """Every frame is marked: conns, TCP_INFO and the kernel's end say so."""
    need_engine()
    set_ecn(bed.client, 1)
    bed.serve([harness.PYTHON, harness.write_script(bed, "info.py", INFO)], PORT)
    with wire(bed.lab, "mark=100%,select=tcp"):
        connection = bed.connect(PORT)
        harness.echo_once(connection, b"x" * 1000)
        entry = bed.engine.ask("conns")["conns"][0]
        check(entry["ecn"] == "seen", f"conns: {entry['ecn']}")
        wait_for(lambda: bed.engine.ask("conns")["conns"][0]["ce_acked"] == 1000, 5,
                 "the echo of the marks")
        theirs = bed.client.run(["ss", "-tinH"]).stdout
        check("delivered_ce:1" in theirs, f"the kernel's end: {theirs}")
        connection.sendall(b"?")
        check(harness.receive_exactly(connection, 1)[0] & 24 == 24, "TCP_INFO: no ECN")
        connection.close()
        bed.wait_no_connections(30)


# Echoes; answers "?" by tcpi_options.
INFO = """
import socket
listener = socket.create_server(("0.0.0.0", 7001))
connection, _ = listener.accept()
while data := connection.recv(10000):
    if data == b"?":
        data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[5:6]
    connection.sendall(data)
"""


@case
@harness.bed_options(wired=True, run_arguments=("--ecn", "request"))
def falls_back(bed):
    """The first SYN, which asks for ECN, is lost: the second does not ask, and is answered."""
    need_engine()
    serve(bed, serving=False)
    with wire(bed.lab, "select=tcp", "select=tcp,lose=1"):
        stream(bed, False, CLIENT, 100_000)
        bed.wait_no_connections(30)
    check(engine_counters(bed)["ecn_negotiated"] == 0, "ECN on a path that lost its SYN")
    check(bed.engine.ask("stats")["counters"]["ecn_fallbacks"] == 1, "no plain repetition")


@case
@harness.bed_options(wired=True)
def lost_syn_ack(bed):
    """A SYN that asks for ECN is repeated because the SYN-ACK was lost: it is answered again."""
    need_engine()
    set_ecn(bed.client, 1)
    bed.client.run(["sysctl", "-qw", "net.ipv4.tcp_ecn_fallback=0"])
    serve(bed, serving=True)
    with wire(bed.lab, "select=tcp", "select=tcp,lose=1"):
        stream(bed, True, SERVER, 100_000)
        bed.wait_no_connections(30)
    check(engine_counters(bed)["ecn_negotiated"] == 1, "ECN was lost with the SYN-ACK")


harness.main()
