#!/usr/bin/env python3
"""Who may have a port, and who gets its connections: as Linux has it.

Each case does the same with sockets of the kernel alone and with programs under the engine, and
compares every outcome. All pairs of sockets of one case exist at once, on a port each.
"""
import contextlib
import os
import time

import harness
from agent import Agent
from harness import SERVER, SERVER6, case, check, echo_once, need_engine

PORT = 7001
FULL = os.environ.get("TOE_FULL") == "1"
PATIENCE = 10  # seconds until the engine has followed what the kernel's sockets do

HELPERS = """
sockets, taken = {}, {}
def make(name, address, port, flags="", how="listen"):
    s = socket(AF_INET6 if ":" in address else AF_INET)
    if "r" in flags: s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    if "g" in flags: s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
    if ":" in address: s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, int("o" in flags))
    step = "bind"
    try:
        s.bind((address, port))
        step = "listen"
        if how == "listen": s.listen(8)
    except OSError as failure:
        s.close()
        return step + " " + errno.errorcode[failure.errno]
    sockets[name] = s
    return "ok"
def drop(name):
    if name in sockets: sockets.pop(name).close()
def took(port):
    # Which of the sockets on the port has a connection; it is kept.
    for name, s in sockets.items():
        if name[1] != port: continue
        s.setblocking(False)
        try: taken.setdefault(port, []).append(s.accept()[0])
        except BlockingIOError: continue
        taken[port][-1].setblocking(True)
        return name[0]
def end(port):
    for s in taken.pop(port, []): s.close()
def echo(port, count):
    s = taken[port][0]
    data = s.recv(count, MSG_WAITALL)
    s.sendall(data)
    return len(data)
"""
NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
ADDRESSES = ("0.0.0.0", SERVER, "::", "::o", SERVER6)


def actor(bed, offload, wrap=()):
    agent = Agent(bed, offload, wrap)
    agent.ask(f"exec({HELPERS!r})")
    return agent


def make(agent, name, kind, port):
    address, flags = kind
    only = "o" if address.endswith("o") else ""
    return agent.ask(f"make({(name, port)!r}, {address.rstrip('o')!r}, {port}, {flags + only!r})")


def served_by(bed, actors, port, address):
    """Whose socket gets a connection to the port."""
    try:
        connection = bed.connect(port, address)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:  # the port was just being given back to the kernel
        return "reset"
    connection.setblocking(False)
    with contextlib.closing(connection):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for agent in actors:
                name = agent.ask(f"took({port})")
                if name != "None":
                    return name.strip("'")
            try:
                connection.recv(1)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return "reset"
        return "nobody"


class Pairs:
    """Every pair of two kinds of sockets, made by two programs, which may be the same."""

    def __init__(self, bed, first, second):
        self.bed = bed
        self.agents = (first, second)
        self.found = {}
        kinds = [(address, flags) for address in ADDRESSES for flags in ("", "r", "g")]
        self.pairs = {PORT + n: pair for n, pair in
                      enumerate((a, b) for a in kinds for b in kinds)}

    def make(self):
        for port, (a, b) in self.pairs.items():
            self.found[port, "first"] = make(self.agents[0], "first", a, port)
            self.found[port, "second"] = make(self.agents[1], "second", b, port)

    def connect(self, port, address):
        who = served_by(self.bed, set(self.agents), port, address)
        a, b = self.pairs[port]
        both = self.found[port, "second"] == self.found[port, "first"] == "'ok'"
        # Linux chooses within a group by a hash, and among equals by their order.
        group = both and a[0].rstrip("o") == b[0].rstrip("o")
        self.found[port, address] = ("one of the group" if group and who in ("first", "second")
                                     else who)

    def connect_all(self):
        for port in self.pairs:
            for address in (SERVER, SERVER6):
                self.connect(port, address)

    def check_shares(self):
        """Both members of a group that two programs share have connections in the end."""
        for port, (a, b) in self.pairs.items():
            if a != b or self.found[port, "second"] != "'ok'":
                continue
            address = SERVER6 if a[0] in (SERVER6, "::o") else SERVER
            missing = {"first", "second"}
            end = time.monotonic() + PATIENCE
            while missing and time.monotonic() < end:
                missing.discard(served_by(self.bed, self.agents, port, address))
            check(not missing, f"{a} on {address}: no connection for the {missing} of the group")

    def wrong(self, linux):
        return [key for key in linux.found if linux.found[key] != self.found[key]]

    def describe(self, key, linux):
        return (f"  {self.pairs[key[0]]} {key[1]}: Linux {linux.found[key]},"
                f" FlexTOE {self.found[key]}")


def compare_pairs(bed, make_actors, counted):
    """`make_actors(offload)`: the program of the first and that of the second socket. `counted`:
    every connection must be the engine's."""
    need_engine()
    runs = []
    for offload in (False, True):
        pairs = Pairs(bed, *make_actors(offload))
        runs.append(pairs)
        with bed.engine_opens() if counted and offload else contextlib.nullcontext():
            pairs.make()
            pairs.connect_all()
        linux = runs[0]
        end = time.monotonic() + PATIENCE
        while not counted and pairs.wrong(linux) and time.monotonic() < end:
            time.sleep(0.5)  # the engine looks once a second who has joined a group
            for port, address in pairs.wrong(linux):
                if address in (SERVER, SERVER6):
                    pairs.connect(port, address)
        wrong = pairs.wrong(linux)
        check(not wrong, f"{len(wrong)} of {len(linux.found)} outcomes differ:\n"
              + "\n".join(pairs.describe(key, linux) for key in wrong[:20]))
        if not counted:
            pairs.check_shares()
        for agent in set(pairs.agents):
            agent.stop()
    outcomes = set(runs[0].found.values())
    check({"'ok'", "'bind EADDRINUSE'", "first", "second", "refused"} <= outcomes,
          f"the pairs show too little: {outcomes}")


@case
def one_program(bed):
    """Two sockets of one program."""
    def actors(offload):
        agent = actor(bed, offload)
        return agent, agent
    compare_pairs(bed, actors, counted=True)


@case
def two_users(bed):
    """The second socket is another user's."""
    compare_pairs(bed, lambda offload: (actor(bed, offload), actor(bed, offload, NOBODY)),
                  counted=True)


@case
def second_is_the_kernels(bed):
    """The second socket is that of a program which knows nothing of the engine: ports are given
    back while connections are being opened."""
    if not FULL:
        raise harness.Skipped("at full length only: TOE_FULL=1")
    compare_pairs(bed, lambda offload: (actor(bed, offload), actor(bed, False)), counted=False)


@case
def first_is_the_kernels(bed):
    compare_pairs(bed, lambda offload: (actor(bed, False), actor(bed, offload)), counted=False)


class Successors:
    """A listener ends, with or without a connection; another socket follows on its port."""

    ENDS = ("no connection", "open", "closed here", "closed by the peer")

    def __init__(self, bed, first, second, base):
        self.bed = bed
        self.first, self.second = first, second
        self.found = {}
        self.peers = {}
        combinations = [(old, new, end) for old in ("", "r", "g", "rg") for new in ("", "r", "g")
                        for end in self.ENDS]
        self.plan = {base + n: one for n, one in enumerate(combinations)}

    def open_all(self):
        for port, (old, _, end) in self.plan.items():
            check(make(self.first, "old", ("0.0.0.0", old), port) == "'ok'", "the first is refused")
            if end != "no connection":
                self.peers[port] = self.bed.connect(port)
                harness.wait_for(lambda p=port: self.first.ask(f"took({p})") != "None", PATIENCE,
                                 "a connection")

    def end_all(self):
        for port, (_, _, end) in self.plan.items():
            if end == "closed here":
                self.first.ask(f"end({port})")
                check(self.peers[port].recv(1) == b"", "no end")
            if end in ("closed here", "closed by the peer"):
                self.peers[port].close()
        time.sleep(1)  # FIN and its acknowledgement
        for port, (_, _, end) in self.plan.items():
            if end == "closed by the peer":
                self.first.ask(f"end({port})")
        time.sleep(1)

    def follow_all(self):
        for port, (_, new, end) in self.plan.items():
            self.first.ask(f"drop({('old', port)!r})")
            self.found[self.plan[port], "made"] = make(self.second, "new", ("0.0.0.0", new), port)
        for port, (_, _, end) in self.plan.items():
            self.found[self.plan[port], "served"] = self.served(port)
            if end == "open":
                self.peers[port].sendall(b"x" * 5000)
                self.found[self.plan[port], "old"] = self.first.ask(f"echo({port}, 5000)")
                self.peers[port].close()


    def served(self, port):
        """The engine's port is given back to the kernel a moment after its listener has ended."""
        end = time.monotonic() + PATIENCE
        while True:
            who = served_by(self.bed, [self.second], port, SERVER)
            made = self.found[self.plan[port], "made"] == "'ok'"
            if who != "refused" or not made or time.monotonic() > end:
                return who
            time.sleep(0.1)


def compare_successors(bed, make_actors):
    need_engine()
    runs = []
    for offload, base in ((False, PORT), (True, PORT + 1000)):  # TIME-WAIT keeps the first ones
        run = Successors(bed, *make_actors(offload), base)
        runs.append(run)
        with bed.engine_opens() if offload else contextlib.nullcontext():
            run.open_all()
        run.end_all()
        run.follow_all()
        for agent in {run.first, run.second}:
            agent.stop()
    linux, ours = runs
    wrong = [f"  {key}: Linux {answer}, FlexTOE {ours.found[key]}"
             for key, answer in linux.found.items() if answer != ours.found[key]]
    check(not wrong, f"{len(wrong)} of {len(linux.found)} outcomes differ:\n" + "\n".join(wrong))
    check({"'ok'", "'bind EADDRINUSE'", "new", "5000"} <= set(linux.found.values()),
          f"the successors show too little: {set(linux.found.values())}")


@case
def successor_in_the_program(bed):
    """SO_REUSEADDR, TIME-WAIT and open connections, when a program listens again at once."""
    def actors(offload):
        agent = actor(bed, offload)
        return agent, agent
    compare_successors(bed, actors)


@case
def successor_in_another_program(bed):
    compare_successors(bed, lambda offload: (actor(bed, offload), actor(bed, offload)))


@case
def successor_of_the_kernel(bed):
    """Connections of the engine survive that their port is the kernel's again."""
    compare_successors(bed, lambda offload: (actor(bed, offload), actor(bed, False)))


harness.main()
