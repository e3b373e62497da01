"""Connections in every state, what ends them, and what both sides see of it.

A scene has one program per state, each with one connection. The same scene is played with the
programs' sockets in the kernel and with offloaded ones. docs/crash-table.md says what must be seen;
it is read here, so that it is true.
"""
import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import time

from agent import LIMIT, PORT, Agent, drain, outcome, peer_events, tell
from harness import CLIENT_DEV, SERVER, check, need_engine, receive_exactly
from netns import ROOT
from raw_peer import FIN, RST, mac_of

PAGE = os.path.join(ROOT, "docs", "crash-table.md")
ADDRESS = "10.77.1.1"  # of the peers; it can vanish
IDLE, SENDING, RECEIVING = "idle", "sending", "receiving"
PEER_CLOSED, PROGRAM_CLOSED = "half-closed by the peer", "half-closed by the program"
STATES = (IDLE, SENDING, RECEIVING, PEER_CLOSED, PROGRAM_CLOSED)  # of the peer
EXIT = "__import__('ctypes').CDLL(None).exit(0)"  # Python's own would close its sockets
QUIET = 0.5  # seconds in which nothing may come
ROOM = 12_000  # bytes that a peer can take at most without reading
STREAM = 300_000  # bytes in each direction
_ATTACH_FILTER = 26
_OUTGOING = 4


class Ends:
    """FINs and RSTs from the server side, as they reach the peers' device (IPv4)."""

    def __init__(self, bed):
        with bed.client.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        words = [(0x28, 0, 0, 12), (0x15, 0, 7, 0x800), (0x30, 0, 0, 23), (0x15, 0, 5, 6),
                 (0x28, 0, 0, 34), (0x15, 0, 3, PORT), (0x30, 0, 0, 47), (0x45, 0, 1, FIN | RST),
                 (0x06, 0, 0, 100), (0x06, 0, 0, 0)]
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *w) for w in words))
        self.socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack(
            "HxxxxxxP", len(words), ctypes.addressof(program)))
        self.socket.bind((CLIENT_DEV, 3))
        self.socket.setblocking(False)
        self._seen = {}  # port: names in the order of their first coming
        self._taken = set()

    def take(self, port):
        """What came for the peer at `port` for the first time: "FIN", "RST", "FIN RST", ""."""
        while not isinstance(got := outcome(lambda: self.socket.recvfrom(100)), str):
            frame, where = got
            if where[2] == _OUTGOING:
                continue
            [to] = struct.unpack("!H", frame[36:38])
            names = self._seen.setdefault(to, [])
            names += [n for bit, n in ((FIN, "FIN"), (RST, "RST"))
                      if frame[47] & bit and n not in names]
        fresh = [name for name in self._seen.get(port, []) if (port, name) not in self._taken]
        self._taken |= {(port, name) for name in fresh}
        return " ".join(fresh)


def connect(bed, address, port=PORT):
    with bed.client.inside():
        peer = socket.socket()
    peer.settimeout(LIMIT)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM // 2)  # the kernel doubles it
    peer.bind((address, 0))
    peer.connect((SERVER, port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def send_what_fits(sender):
    """Bytes that a socket takes at once."""
    sender.setblocking(False)
    count = 0
    while not isinstance(took := outcome(lambda: sender.send(bytes(STREAM - count))), str) and took:
        count += took
    sender.settimeout(LIMIT)
    return count


def enter(agent, peer, state):
    """Brings the connection into the state; bytes on their way that their receiver has not read."""
    tell(peer, b"ask")
    check(agent.ask("take()") == "b'ask'", "wrong bytes")
    agent.ask("c.send(b'answer')")
    check(receive_exactly(peer, 6) == b"answer", "wrong bytes")
    agent.sent()
    if state == SENDING:
        count = send_what_fits(peer)
        check(agent.ask("until(lambda: unread() > 0)") == "'yes'", "nothing arrives")
        return count
    if state == RECEIVING:
        agent.ask("c.setblocking(False)")
        count = int(agent.ask("c.send(bytes(30000))"))
        agent.ask("c.setblocking(True)")
        check(count > ROOM, f"only {count} bytes could be written")
        check(peer_events(peer, select.POLLIN, 1000 * LIMIT), "nothing arrives")
        return count
    if state == PEER_CLOSED:
        peer.shutdown(socket.SHUT_WR)
        check(agent.ask("c.recv(1)") == "b''", "no end")
    elif state == PROGRAM_CLOSED:
        agent.ask("c.shutdown(SHUT_WR)")
        check(peer.recv(1) == b"", "no end")
        agent.sent()
    return 0


def told(count, how, held=0):
    """How a stream of `held` bytes came to its reader. In front of an error it may be any part."""
    if held == 0 or count > held:
        return how if count == 0 else f"{count} bytes, {how}"
    if how != "end":
        return f"what had come, {how}"
    return "all, end" if count == held else f"{count} of {held}, end"


def write_to_failure(peer):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if isinstance(answer := outcome(lambda: peer.send(b"x")), str):
            return answer
        time.sleep(0.01)
    return "none"


def take_away(bed, address):
    """Nobody on the client side sends from the address any more, or hears what is sent to it."""
    bed.client.ip("addr", "del", address + "/16", "dev", CLIENT_DEV)


def bring_back(bed, address):
    bed.client.ip("addr", "add", address + "/16", "dev", CLIENT_DEV)


def kill_owner(peers):
    """SIGKILL of a process that alone has the peers' sockets."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(1)
    for peer in peers:
        peer.close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


class Place:
    """A program with one connection in a state. `held`: see enter()."""

    def __init__(self, bed, offload, state):
        self.state = state
        self.agent = Agent(bed, offload)
        self.agent.ask(f"(l := create_server(('0.0.0.0', {PORT}))) and None")
        self.peer = connect(bed, ADDRESS)
        self.agent.ask("(c := l.accept()[0]) and None")
        self.agent.ask("l.close()")
        self.port = self.peer.getsockname()[1]
        self.held = enter(self.agent, self.peer, state)

    def peer_says(self, ends):
        """What a peer that reads and then writes has learned."""
        if self.state == PROGRAM_CLOSED:
            time.sleep(QUIET)
        count, how = drain(self.peer)
        frames = ends.take(self.port) or "nothing"
        writes = write_to_failure(self.peer)
        behind = ends.take(self.port)
        reads = told(count, how, self.held if self.state == RECEIVING else 0)
        return f"{frames}; reads {reads}; writes {writes}" + (f", {behind}" if behind else "")

    def program_says(self):
        count, how = eval(self.agent.ask("read_all()"))
        writes = eval(self.agent.ask("write_to_failure()"))
        reads = told(count, how, self.held if self.state == SENDING else 0)
        return f"program reads {reads}; writes {writes}"

    def program_times_out(self):
        """What a program learns whose peer says nothing more."""
        check(self.agent.ask("until(lambda: 'ERR' in events(), 30)") == "'yes'", "no time-out")
        return self.program_says()

    def exchange(self):
        """Sends bytes each way that is open; waits for none of them. What each side has sent."""
        mine = send_what_fits(self.peer) if self.state in (IDLE, RECEIVING, PROGRAM_CLOSED) else 0
        theirs = 0
        if self.state in (IDLE, SENDING, PEER_CLOSED):
            self.agent.start(f"c.sendall(bytes({STREAM}))")
            theirs = STREAM
        return mine, theirs

    def everything_comes(self, mine, theirs):
        """Both streams to their ends, in good order, after exchange()."""
        if self.state == SENDING:
            mine = self.held
        if self.state == RECEIVING:
            theirs = self.held
        if self.state != PEER_CLOSED:
            self.peer.shutdown(socket.SHUT_WR)
        got = receive_exactly(self.peer, theirs) if theirs else b""
        if self.state in (IDLE, SENDING, PEER_CLOSED):
            self.agent.finish("sent")
        count, how = eval(self.agent.ask("read_all()"))
        self.agent.ask("c.close()")
        left, end = drain(self.peer)
        return (f"program reads {told(count, how, mine)}; peer reads"
                f" {told(left + len(got), end, theirs)}")

    def leave(self):
        """Ends whatever is left."""
        self.peer.close()
        if self.agent.process.running():
            self.agent.process.kill()
        self.agent.hang_up()


def expected(event):
    """{state: (seconds, on Linux, of FlexTOE)} of an event, as the page says."""
    rows = {}
    with open(PAGE) as page:
        for line in page:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) == 5 and cells[0] == event:
                same = cells[3] if cells[4] == "same" else cells[4]
                rows[cells[1]] = float(cells[2]), cells[3], same
    return rows


class Failures:
    """What differs from the page."""

    def __init__(self, event):
        self.event = event
        self.rows = expected(event)
        self.texts = []

    def compare(self, state, offload, seconds, seen):
        print(f"{self.event} | {state} | {seconds:.2f} s | {'FlexTOE' if offload else 'Linux'} |"
              f" {seen}", flush=True)
        limit, *wanted = self.rows.get(state, (0, "?", "?"))
        if seen != wanted[offload] or seconds > limit:
            self.texts.append(f"{state}: {'FlexTOE' if offload else 'Linux'} {seen} after"
                              f" {seconds:.1f} s; the page says {wanted[offload]} within {limit} s")

    def check(self):
        check(not self.texts, f"{self.event}:\n" + "\n".join(self.texts))


def play(bed, event, scene):
    """`scene(places, ends, offload, note)` with sockets of the kernel, then with offloaded ones;
    note(place, seconds, seen)."""
    need_engine()
    failures = Failures(event)
    check(set(failures.rows) == set(STATES), f"rows of {event} in {PAGE}: {list(failures.rows)}")
    for offload in (False, True):
        with bed.engine_opens() if offload else contextlib.nullcontext():
            places = [Place(bed, offload, state) for state in STATES]
        ends = Ends(bed)
        scene(places, ends, offload, lambda place, seconds, seen, offload=offload: failures.compare(
            place.state, offload, seconds, seen))
        for place in places:
            place.leave()
        ends.socket.close()
    failures.check()
