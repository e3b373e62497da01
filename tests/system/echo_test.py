#!/usr/bin/env python3
"""Echo servers of every shape: epoll with both triggers, blocking threads, processes."""
import harness
from harness import SERVER, case, check, echo_server

PORT = 7001
ADDRESS = f"{SERVER}:{PORT}"


def serve_and_load(bed, mode):
    bed.serve(echo_server(mode, f"0.0.0.0:{PORT}"), PORT)
    with bed.engine_opens():
        bed.load("echoload", "--server", ADDRESS, "-c", "16", "-n", "20000")
        bed.load("echoload", "--server", ADDRESS, "-c", "4", "--size", "1", "--depth", "8",
                 "-n", "5000")
        bed.load("echoload", "--server", ADDRESS, "-c", "4", "--size", "200000", "--depth", "3",
                 "-n", "1000")


@case
def epoll_level(bed):
    serve_and_load(bed, "level")


@case
def epoll_edge(bed):
    serve_and_load(bed, "edge")


@case
def blocking_threads(bed):
    serve_and_load(bed, "threads")


@case
def process_per_connection(bed):
    serve_and_load(bed, "processes")


@case
def busy_64(bed):
    bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
    with bed.engine_opens():
        bed.load("echoload", "--server", ADDRESS, "-c", "64", "--seconds", "10")


@case
def busy_1000(bed):
    bed.serve(echo_server("edge", f"0.0.0.0:{PORT}"), PORT)
    with bed.engine_opens():
        found = bed.load("echoload", "--server", ADDRESS, "-c", "1000", "--seconds", "10")
    check(found["connections"] == 1000, "connections are missing")


@case
@harness.bed_options(extra_clients=8)
def connect_request_close(bed):
    """Many short connections, the client ending first and the server ending first."""
    bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
    bed.serve(echo_server("level", f"0.0.0.0:{PORT + 1}", "--close-after", "64"), PORT + 1)
    sources = ["--connects", "--sources", "10.77.1.1-10.77.1.8", "-c", "16", "-n", "10000"]
    with bed.engine_opens():
        bed.load("echoload", "--server", ADDRESS, *sources)
        bed.load("echoload", "--server", f"{SERVER}:{PORT + 1}", "--server-closes", *sources)


@case
def bulk(bed):
    """Checked streams each way and both ways at once, ended by a half-close."""
    bed.serve([harness.client_program("bulk"), "--serve", f"0.0.0.0:{PORT}"], PORT)
    with bed.engine_opens():
        for amounts in (["--up", "200000000"], ["--down", "200000000"],
                        ["--up", "70000001", "--down", "70000003"], []):
            bed.load("bulk", "--connect", ADDRESS, *amounts)


harness.main()
