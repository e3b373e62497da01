#!/usr/bin/env python3
"""Ports that the kernel chooses, ports that run out, and sockets that are not the engine's to have.

Each case runs with sockets of the kernel alone and again with programs under the engine.
"""
import contextlib
import os
import socket

import harness
from agent import Agent
from harness import (CLIENT, PYTHON, SERVER, SERVER_DEV, case, check, need_engine, receive_exactly,
                     wait_for, write_script)

PORT = 7001
FULL = os.environ.get("TOE_FULL") == "1"
FOREIGN = "10.99.99.1"  # an address that nobody has at first

HELPERS = """
import ctypes, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held, l, c = [], None, None
def listening(address=None, port=0, protocol=0, options=()):
    global l
    l = socket(AF_INET, SOCK_STREAM, protocol)
    for option in options: l.setsockopt(*option)
    if address is not None: l.bind((address, port))
    l.listen(8)
    return l.getsockname()[1]
def accept():
    global c
    c = l.accept()[0]
    return "accepted"
def echo(count):
    c.sendall(c.recv(count, MSG_WAITALL))
    return count
def bind(port):
    s = socket()
    try: s.bind(("0.0.0.0", port))
    finally: s.close()
    return "free"
def crowd(address, port, most):
    # Connections until there are so many, or until one fails.
    made = 0
    while made < most:
        s = socket()
        try: s.connect((address, port))
        except OSError as failure:
            s.close()
            return made, errno.errorcode[failure.errno]
        held.append(s)
        made += 1
    return made, "enough"
def begun(address, source):
    s = socket()
    s.setsockopt(IPPROTO_IP, 15, 1)  # IP_FREEBIND
    s.setsockopt(IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    s.bind((source, 0))
    s.setblocking(False)
    held.append(s)
    return s.connect_ex(address)
"""


def program(bed, offload, **options):
    agent = Agent(bed, offload, **options)
    agent.ask(f"exec({HELPERS!r})")
    return agent


def compare(bed, play, **options):
    """What play(agent, offload) notes is the same with the kernel and with the engine."""
    need_engine()
    transcripts = []
    for offload in (False, True):
        agent = program(bed, offload, **options)
        play(agent, offload)
        agent.stop()
        transcripts.append(agent.transcript)
    kernel, ours = transcripts
    check(kernel == ours and kernel, "\n".join(f"  Linux   {a}\n  FlexTOE {b}"
                                               for a, b in zip(kernel, ours) if a != b))


def serve_one(bed, agent, port, address=SERVER):
    agent.start("accept()")
    connection = bed.connect(port, address)
    agent.finish("accept")
    return connection


def exchange(agent, connection, count=5000):
    connection.sendall(b"x" * count)
    agent(f"echo({count})")
    receive_exactly(connection, count)


@case
def chosen_by_the_kernel(bed):
    """bind() to port 0 and listen() without bind(): the port is held until its last connection
    has ended, and is free again then."""
    def play(agent, offload):
        for how in ("'0.0.0.0'", f"'{SERVER}'", ""):
            port = int(agent.ask(f"listening({how})"))
            agent.note("a port", port > 1023)
            with bed.engine_opens() if offload else contextlib.nullcontext():
                connection = serve_one(bed, agent, port)
                exchange(agent, connection)
            agent.note("while it listens", agent.ask(f"bind({port})"))
            agent("l.close()")
            agent.note("with its connection", agent.ask(f"bind({port})"))
            exchange(agent, connection)
            connection.close()
            check(agent.ask("c.recv(1)") == "b''", "no end")
            agent("c.close()")
            wait_for(lambda p=port: agent.ask(f"bind({p})") == "'free'", 10, "the end of its port")
    compare(bed, play)


# Its connections end with resets, so that no 4-tuple waits in TIME-WAIT for the next run.
PEER = """
import os, resource, signal, socket, struct, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
def end(*_):
    for connection in held:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=4096)
while True:
    held.append(listener.accept()[0])
"""


def crowd(bed, steps):
    """Two programs open connections, step by step: (which program, port of the peer, how many)."""
    script = write_script(bed, "peer.py", PEER)

    def run(offload):
        agents = [program(bed, offload), program(bed, offload)]
        peers = [bed.client.serve([PYTHON, script, CLIENT, port], port)
                 for port in sorted({port for _, port, _ in steps})]
        with bed.engine_opens() if offload else contextlib.nullcontext():
            found = [agents[who].ask(f"crowd('{CLIENT}', {port}, {most})")
                     for who, port, most in steps]
        for peer in peers:
            peer.stop()
        bed.wait_no_connections(20)
        for agent in agents:
            agent.stop()
        return found

    need_engine()
    kernel = run(False)
    ours = run(True)
    check(kernel == ours, f"Linux {kernel}, FlexTOE {ours}")
    return kernel


@case
def run_out(bed):
    """A local port serves each peer once: with all ports used towards one peer another can still
    be reached, and the error is Linux's."""
    bed.server.run(["sysctl", "-qw", "net.ipv4.ip_local_port_range=20000 20399"])
    found = crowd(bed, [(0, PORT, 250), (1, PORT, 1000), (1, PORT + 1, 150), (0, PORT + 1, 1000),
                        (0, PORT, 1)])
    check(found == ["(250, 'enough')", "(150, 'EADDRNOTAVAIL')", "(150, 'enough')",
                    "(250, 'EADDRNOTAVAIL')", "(0, 'EADDRNOTAVAIL')"], f"Linux itself: {found}")


@case
def more_than_all_ports(bed):
    """More connections than there are ports, no process with more than 20,000 descriptors."""
    if not FULL:
        raise harness.Skipped("takes a minute: TOE_FULL=1")
    crowd(bed, [(0, PORT, 9000), (1, PORT, 6000), (0, PORT + 1, 6000), (1, PORT + 1, 8500)])


@case
def addresses_of_others(bed):
    """IP_FREEBIND: an address that comes later, or never."""
    bed.client.ip("route", "add", FOREIGN, "via", SERVER)

    def play(agent, _):
        freebind = "[(SOL_SOCKET, SO_REUSEADDR, 1), (IPPROTO_IP, 15, 1)]"
        agent(f"listening('{FOREIGN}', {PORT}, 0, {freebind})")
        agent(f"begun(('{CLIENT}', {PORT}), '{FOREIGN}')")
        bed.server.ip("addr", "add", FOREIGN + "/32", "dev", SERVER_DEV)
        connection = serve_one(bed, agent, PORT, FOREIGN)
        exchange(agent, connection)
        connection.close()
        bed.server.ip("addr", "del", FOREIGN + "/32", "dev", SERVER_DEV)
    compare(bed, play)


@case
def multipath(bed):
    """A server's MPTCP socket stays the kernel's; an MPTCP client of the engine falls back."""
    def play(agent, offload):
        if agent("listening('0.0.0.0', 7001, 262)") != str(PORT):
            raise harness.Skipped("the kernel has no MPTCP")
        connection = serve_one(bed, agent, PORT)
        exchange(agent, connection)
        connection.close()
        agent("l.close()")
        agent(f"listening('0.0.0.0', {PORT + 1})")
        agent.start("accept()")
        with bed.client.inside():
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
        with bed.engine_opens() if offload else contextlib.nullcontext():
            connection.connect((SERVER, PORT + 1))
            agent.finish("accept")
            exchange(agent, connection)
        connection.close()
    compare(bed, play)


@case
def other_namespace(bed):
    """A program of the engine in another network namespace: its sockets are that kernel's, and
    prove nothing here."""
    def play(agent, _):
        agent(f"listening('0.0.0.0', {PORT})")
        try:
            bed.connect(PORT)
            agent.note("from the client", "connected")
        except ConnectionRefusedError:
            agent.note("from the client", "refused")
        agent.start("accept()")
        with bed.server.inside():
            connection = socket.create_connection((CLIENT, PORT), 5)
        agent.finish("accept")
        connection.settimeout(5)
        exchange(agent, connection)
        connection.close()
    compare(bed, play, wrap=("nsenter", f"--net=/run/netns/{bed.client.name}"))


@case
def bound_to_a_device(bed):
    """SO_BINDTODEVICE: a listener behind another device serves nobody here."""
    def play(agent, _):
        agent(f"listening('0.0.0.0', {PORT}, 0, [(SOL_SOCKET, SO_BINDTODEVICE, b'lo')])")
        try:
            bed.connect(PORT)
            agent.note("from outside", "connected")
        except ConnectionRefusedError:
            agent.note("from outside", "refused")
        agent("l.close()")
        agent(f"listening('0.0.0.0', {PORT}, 0,"
              f" [(SOL_SOCKET, SO_BINDTODEVICE, b'{SERVER_DEV}')])")
        connection = serve_one(bed, agent, PORT)
        exchange(agent, connection)
        connection.close()
    compare(bed, play, strict=False)


harness.main()
