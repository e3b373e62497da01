#!/usr/bin/env python3
"""Who holds a connection: forks, restarts, threads and signals."""
import os
import signal
import time

import harness
from harness import (PYTHON, SERVER, case, check, echo_once, echo_server, need_engine,
                     receive_exactly, seconds_until_end, write_script)

PORT = 7001

CHILD_LEAVES = """
import os, socket
listener = socket.create_server(("0.0.0.0", 7001))
connection, _ = listener.accept()
connection.sendall(connection.recv(100))
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
while data := connection.recv(65536):
    connection.sendall(data)
connection.close()
connection, _ = listener.accept()
while data := connection.recv(65536):
    connection.sendall(data)
"""

PARENT_LEAVES = """
import os, socket
listener = socket.create_server(("0.0.0.0", 7001))
connection, _ = listener.accept()
if os.fork() != 0:
    connection.close()
    os._exit(0)
listener.close()
while data := connection.recv(65536):
    connection.sendall(data)
connection.close()
"""

INTERRUPTED = """
import os, signal, socket, sys, threading, time
class Rung(Exception):
    pass
def ring(*_):
    raise Rung
signal.signal(signal.SIGALRM, ring)
listener = socket.create_server(("0.0.0.0", 7001))
def interrupted(call):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        call()
    except Rung:
        return 1
    return 0
count = interrupted(listener.accept)
connection, _ = listener.accept()
count += interrupted(lambda: connection.recv(1))
connection.sendall(b"%d" % count)
connection.close()
"""


@case
def forked_child_leaves(bed):
    """The exit of a forked child closes nothing of its parent's, connection and listener."""
    bed.serve([PYTHON, write_script(bed, "child.py", CHILD_LEAVES)], PORT)
    with bed.engine_opens():
        for _ in range(2):
            connection = bed.connect(PORT)
            for size in (10, 50, 100000):
                echo_once(connection, os.urandom(size))
            connection.close()


@case
def parent_leaves(bed):
    """A connection lives on in the child when the parent has gone."""
    parent = bed.serve([PYTHON, write_script(bed, "parent.py", PARENT_LEAVES)], PORT)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        check(parent.wait(5) == 0, parent.output())
        time.sleep(0.3)
        for size in (10, 100000):
            echo_once(connection, os.urandom(size))
        connection.close()


@case
def interrupted_calls(bed):
    """A signal ends a blocking accept and a blocking recv."""
    bed.serve([PYTHON, write_script(bed, "interrupted.py", INTERRUPTED)], PORT)
    time.sleep(0.5)
    with bed.engine_opens():
        connection = bed.connect(PORT)
        check(receive_exactly(connection, 1) == b"2", "a call was not interrupted")
        connection.close()


def restart(bed, end):
    """A server with open connections ends and starts again on its port at once."""
    for _ in range(3):
        server = bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
        with bed.engine_opens():
            connections = [bed.connect(PORT) for _ in range(5)]
            for connection in connections:
                echo_once(connection, b"x" * 1000)
        end(server)
        server.wait(5)
        seconds_until_end(connections)
        for connection in connections:
            connection.close()


@case
def restart_after_sigterm(bed):
    restart(bed, lambda server: server.send_signal(signal.SIGTERM))


@case
def restart_after_kill(bed):
    restart(bed, lambda server: server.kill())


@case
def restarts_in_time_wait(bed):
    """A server that closed first ends and starts again, over and over: its port stays bound, but
    the engine keeps no more for ten ends than for one."""
    need_engine()

    def descriptors():
        return len(os.listdir(f"/proc/{bed.engine.pid}/fd"))
    before = descriptors()
    for _ in range(5):
        server = bed.serve(echo_server("level", f"0.0.0.0:{PORT}", "--close-after", "10"), PORT)
        with bed.engine_opens():
            connection = bed.connect(PORT)
            echo_once(connection, b"x" * 10)
            check(connection.recv(1) == b"", "no end")
            connection.close()
        server.kill()
        bed.wait_no_connections()
    states = {entry["state"] for entry in bed.engine.ask("conns", "--all")["conns"]}
    check(states == {"TIME-WAIT"}, f"states {states}")
    harness.wait_for(lambda: descriptors() <= before + 1, 2,
                     lambda: f"{before} descriptors; they are {descriptors()}")


@case
def two_servers(bed):
    """Two programs, two ports, one engine."""
    bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
    bed.serve(echo_server("threads", f"0.0.0.0:{PORT + 1}"), PORT + 1)
    with bed.engine_opens():
        first = bed.client.start([harness.client_program("echoload"), "--server",
                                  f"{SERVER}:{PORT}", "-c", "8", "--seconds", "2"])
        bed.load("echoload", "--server", f"{SERVER}:{PORT + 1}", "-c", "8", "--seconds", "2")
        check(first.wait(10) == 0, first.output())


harness.main()
