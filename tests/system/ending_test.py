#!/usr/bin/env python3
"""Ends of the client, the program and the engine: nobody is left waiting."""
import os
import signal
import subprocess
import time

import harness
from harness import (LIVENESS, SERVER, case, check, echo_once, echo_server, need_engine,
                     seconds_until_end, wait_for)

PORT = 7001


def open_some(bed, count=20):
    """Connections that have carried bytes and are silent now."""
    with bed.engine_opens():
        connections = [bed.connect(PORT) for _ in range(count)]
        for connection in connections:
            echo_once(connection, os.urandom(3000))
    return connections


def serve(bed, mode="level"):
    return bed.serve(echo_server(mode, f"0.0.0.0:{PORT}"), PORT)


def served_by_kernel(bed, server):
    """The program answers new connections through the kernel."""
    accepted = bed.server.tcp_counters()["PassiveOpens"]
    connection = bed.connect(PORT, seconds=LIVENESS)
    echo_once(connection, b"after the engine")
    connection.close()
    check(bed.server.tcp_counters()["PassiveOpens"] == accepted + 1, "not the kernel's connection")
    check(server.running(), "the program ended: " + server.output())


def guardians(bed):
    pids = subprocess.run(["ip", "netns", "pids", bed.server.name], capture_output=True,
                          text=True).stdout.split()
    names = []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/comm") as file:
                names.append(file.read().strip())
        except FileNotFoundError:
            pass
    return names.count("flextoe-guard")


@case
def program_killed(bed):
    """kill -9 of the program: silent peers see the end, the engine keeps nothing."""
    for mode in ("level", "threads"):
        server = serve(bed, mode)
        connections = open_some(bed)
        server.kill()
        print(f"program killed: ends seen within {seconds_until_end(connections):.3f} s")
        for connection in connections:
            connection.close()
        bed.wait_no_connections(2)


@case
def program_killed_under_load(bed):
    server = serve(bed)
    load = bed.client.start([harness.client_program("echoload"), "--server", f"{SERVER}:{PORT}",
                             "-c", "50", "--seconds", "20"])
    time.sleep(1.5)
    server.kill()
    check(load.wait(LIVENESS) == 1, "the load did not see the end")
    bed.wait_no_connections(2)


@case
def client_killed(bed):
    """kill -9 of the client: its kernel ends the connections, the engine keeps nothing."""
    serve(bed)
    load = bed.client.start([harness.client_program("echoload"), "--server", f"{SERVER}:{PORT}",
                             "-c", "50", "--seconds", "20"])
    time.sleep(1.5)
    if bed.engine is not None:
        check(len(bed.engine.connections()) == 50, "connections are missing")
    load.kill()
    bed.wait_no_connections(2)
    bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-c", "50", "-n", "5000")


@case
def engine_terminated(bed):
    """SIGTERM of the engine: a clean exit, peers see the end, the kernel serves on."""
    need_engine()
    server = serve(bed)
    connections = open_some(bed)
    bed.engine.process.send_signal(signal.SIGTERM)
    print(f"engine terminated: ends seen within {seconds_until_end(connections):.3f} s")
    check(bed.engine.process.wait(LIVENESS) == 0, "not a clean exit")
    served_by_kernel(bed, server)
    wait_for(lambda: guardians(bed) == 0, LIVENESS, "the guardian's end")


@case
def engine_killed(bed):
    """kill -9 of the engine: the guardian ends the connections, the kernel serves on, and a new
    engine takes the program's listener over."""
    need_engine()
    server = serve(bed)
    connections = open_some(bed)
    check(guardians(bed) == 1, "there is no guardian")
    bed.engine.process.kill()
    print(f"engine killed: ends seen within {seconds_until_end(connections):.3f} s")
    wait_for(lambda: guardians(bed) == 0, LIVENESS, "the guardian's end")
    served_by_kernel(bed, server)
    bed.engine = harness.Engine(bed.lab)
    bed.wait_listening(server, PORT)
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-c", "10", "-n", "1000")


@case
def engine_killed_under_load(bed):
    need_engine()
    server = serve(bed)
    load = bed.client.start([harness.client_program("echoload"), "--server", f"{SERVER}:{PORT}",
                             "-c", "50", "--seconds", "20"])
    time.sleep(1.5)
    bed.engine.process.kill()
    check(load.wait(LIVENESS) == 1, "the load did not see the end")
    served_by_kernel(bed, server)


harness.main()
