#!/usr/bin/env python3
"""Engine and programs come and go under load: nobody loses a connection that is the other's."""
import contextlib
import os
import signal
import socket
import threading
import time

import harness
from harness import (SERVER, case, check, echo_once, echo_server, need_engine, receive_exactly,
                     wait_for)

PORT, OTHER_PORT = 7001, 7002
FULL = os.environ.get("TOE_FULL") == "1"
SOON = 2.0  # seconds within which a program is served again
AFTERMATH = 0.5  # seconds behind an end in which what was under way may still fail


class Load(contextlib.AbstractContextManager):
    """Two threads on the client side: one exchanges bytes over connections that must live, one
    opens a connection after the other."""

    def __init__(self, bed, port):
        self.bed, self.port = bed, port
        self.kept = []
        self.rounds = 0
        self.broken = []
        self.opened = 0
        self.failed = []  # (begin, end, what) of short connections that did not work
        self.longest = 0.0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(work,), daemon=True)
                         for work in (self._exchange, self._open)]
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        for connection in self.kept:
            connection.close()

    def keep(self, connection):
        connection.settimeout(20)
        self.kept = [*self.kept, connection]

    def _run(self, work):
        with self.bed.client.inside():
            while not self._over.is_set():
                work()

    def _exchange(self):
        for number, connection in enumerate(self.kept):
            data = os.urandom(300)
            try:
                connection.sendall(data)
                if receive_exactly(connection, len(data)) != data:
                    raise OSError("wrong bytes")
            except (OSError, AssertionError) as failure:
                self.broken.append(f"connection {number} of {len(self.kept)}: {failure!r}")
                self._over.set()
                return
        self.rounds += 1
        time.sleep(0.002)

    def _open(self):
        begin = time.monotonic()
        try:
            with socket.create_connection((SERVER, self.port), 20) as connection:
                connected = time.monotonic()
                connection.settimeout(20)
                connection.sendall(b"x" * 100)
                receive_exactly(connection, 100)
            self.opened += 1
            self.longest = max(self.longest, connected - begin)
        except (OSError, AssertionError) as failure:
            self.failed.append((begin, time.monotonic(), repr(failure)))
        time.sleep(0.003)

    def progress(self):
        """Until every kept connection has carried bytes, and new ones were opened."""
        rounds, opened = self.rounds, self.opened
        wait_for(lambda: self.broken or self.rounds > rounds + 1 and self.opened > opened + 5, 20,
                 lambda: f"progress of {len(self.kept)} connections, {self.opened} opened,"
                         f" {len(self.failed)} failed")
        check(not self.broken, f"a connection was cut: {self.broken}")

    def failures_outside(self, ends):
        """Short connections that failed although nobody ended at that time."""
        return [what for begin, end, what in self.failed
                if not any(begin < after + AFTERMATH and end > before for before, after in ends)]


def repeated_syns(bed):
    """How often the client side has sent a SYN again."""
    text = bed.client.run(["cat", "/proc/net/netstat"]).stdout.splitlines()
    names, values = [line.split() for line in text if line.startswith("TcpExt:")]
    return int(values[names.index("TCPSynRetrans")])


def connect_to_kernel(bed, port):
    accepted = bed.server.tcp_counters()["PassiveOpens"]
    connection = bed.connect(port)
    echo_once(connection, b"hello")
    check(bed.server.tcp_counters()["PassiveOpens"] > accepted, "not the kernel's connection")
    return connection


@case
def engine_comes_and_goes(bed):
    """Connections that the kernel took over while no engine was there live through the coming and
    going of many; an engine that ends in good order loses no SYN."""
    need_engine()
    server = bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
    check(bed.engine.stop() == 0, "not a clean exit")
    cycles = 100 if FULL else 4
    ends = []
    repeated = 0
    with Load(bed, PORT) as load:
        for cycle in range(cycles):
            load.keep(connect_to_kernel(bed, PORT))
            load.progress()
            bed.engine = harness.Engine(bed.lab)
            bed.wait_listening(server, PORT)
            load.progress()
            check(bed.engine.counter("passive_opens") > 0, "the engine serves nothing")
            syns = repeated_syns(bed)
            begin = time.monotonic()
            check(bed.engine.stop() == 0, f"cycle {cycle}: not a clean exit")
            ends.append((begin, time.monotonic()))
            load.progress()
            repeated += repeated_syns(bed) - syns
        cut = load.failures_outside(ends)
    print(f"{cycles} engines, {load.opened} short connections, {len(load.failed)} ended by an"
          f" engine's end, {repeated} SYNs repeated around ends; longest connect"
          f" {load.longest:.3f} s; {len(load.kept)} connections of the kernel,"
          f" {load.rounds} rounds")
    check(not load.broken, f"a connection of the kernel was cut: {load.broken}")
    check(not cut, f"{len(cut)} connections failed while no engine ended: {cut[:5]}")
    refused = [what for _, _, what in load.failed if "Refused" in what]
    check(not refused, f"{len(refused)} connections were refused")
    bed.engine = harness.Engine(bed.lab)


@case
def program_comes_and_goes(bed):
    """A program that ends, in good order or not, is served again on its port at once; connections
    of a program of the kernel live through it."""
    need_engine()
    bed.serve(echo_server("level", f"0.0.0.0:{OTHER_PORT}"), OTHER_PORT, offload=False)
    cycles = 100 if FULL else 10
    ends, longest = [], 0.0
    server = bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
    with Load(bed, PORT) as load:
        for _ in range(4):
            load.keep(connect_to_kernel(bed, OTHER_PORT))
        for cycle in range(cycles):
            load.progress()
            held = [bed.connect(PORT) for _ in range(4)]
            for connection in held:
                echo_once(connection, b"x" * 1000)
            begin = time.monotonic()
            server.send_signal(signal.SIGKILL if cycle % 2 else signal.SIGTERM)
            server.wait(5)
            server = bed.server.start(bed.under_engine(echo_server("level", f"0.0.0.0:{PORT}")))
            bed.wait_listening(server, PORT)
            ends.append((begin, time.monotonic()))
            with contextlib.closing(bed.connect(PORT)) as first:
                echo_once(first, b"again")
            longest = max(longest, time.monotonic() - begin)
            for connection in held:
                connection.close()
        load.progress()
        cut = load.failures_outside(ends)
    print(f"{cycles} programs, {load.opened} short connections, {len(load.failed)} at their ends;"
          f" served again within {longest:.3f} s; {load.rounds} rounds of {len(load.kept)}"
          " connections of the kernel")
    check(not load.broken, f"a connection of the kernel was cut: {load.broken}")
    check(not cut, f"{len(cut)} connections failed while no program ended: {cut[:5]}")
    check(longest < SOON, f"{longest:.1f} s until a program was served again")


# Listens on the port in its argument and waits in one of the ways there are, without a visitor.
IDLE = """
import select, socket, sys
how, port = sys.argv[1], int(sys.argv[2])
listener = socket.create_server(("0.0.0.0", port))
print("listening", flush=True)
def wait(how):
    if how.startswith("poll"):
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        return poll.poll(300 if how == "poll-briefly" else None)
    if how == "select":
        return select.select([listener], [], [])[0]
    if how == "epoll":
        epoll = select.epoll()
        epoll.register(listener, select.EPOLLIN)
        return epoll.poll()
    return True
while True:
    if wait(how):
        connection, _ = listener.accept()
        while data := connection.recv(1000):
            connection.sendall(data)
"""
IDLE_WAYS = ("poll", "poll-briefly", "select", "epoll", "accept")


@case
def idle_programs_meet_the_next_engine(bed):
    """However a program waits for its first visitor: an engine that comes serves it, and so does
    the one behind it, also when the program started without."""
    need_engine()
    script = harness.write_script(bed, "idle.py", IDLE)
    ports = {PORT + number: how for number, how in enumerate(IDLE_WAYS)}

    def start(port, engine):
        argv = bed.under_engine([harness.PYTHON, script, ports[port], port], strict=engine)
        process = bed.server.start(argv)
        bed.wait_listening(process, port, offload=engine)
        # The engine knows the listener before listen() returns: it must not end in between.
        wait_for(lambda: "listening" in process.output(), 10, process.output)
        return process

    def all_served():
        wait_for(lambda: all(bed.owns(port) for port in ports), 10, lambda:
                 f"listeners of {[how for port, how in ports.items() if not bed.owns(port)]}")
        for port in ports:
            with bed.engine_opens(), contextlib.closing(bed.connect(port)) as connection:
                echo_once(connection, b"hello")
    programs = [start(port, True) for port in ports]
    check(bed.engine.stop() == 0, "not a clean exit")
    time.sleep(1)
    bed.engine = harness.Engine(bed.lab)
    all_served()
    bed.engine.process.kill()
    for program in programs:
        program.stop()
    wait_for(lambda: not any(bed.server.listens(port) for port in ports), 5, "free ports")
    for port in ports:
        start(port, False)
    bed.engine = harness.Engine(bed.lab)
    all_served()


harness.main()
