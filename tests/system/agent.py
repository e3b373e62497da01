"""A program on the server side that evaluates what a test tells it, call by call.

A play is a function play(agent, peer): agent(EXPRESSION) evaluates in the program, whose connection
is `c`; peer is the kernel's socket at the other end. compare() runs a play with the program's
sockets in the kernel and once more offloaded, with the program as server and as client, and
compares every answer of the program, and what the play itself notes by agent.note().
"""
import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time

from harness import CLIENT, PYTHON, SERVER, check, need_engine, wait_for, write_script

PORT = 7001
LIMIT = 10
SIOCOUTQ = termios.TIOCOUTQ

PROGRAM = """
import array, errno, fcntl, os, select, signal, socket, struct, sys, termios, time
from socket import *
control = socket(AF_UNIX)
control.connect(sys.argv[1])
c = None
urged = []
def ioctl(request, fd=None):
    value = array.array("i", [0])
    fcntl.ioctl(fd or c, request, value)
    return value[0]
def queued():
    return ioctl(termios.TIOCOUTQ)
def unread():
    return ioctl(termios.FIONREAD)
def mark():
    return ioctl(0x8905)
def oob(flags=0):
    return c.recv(4, MSG_OOB | flags)
def take(count=100, flags=0):
    return c.recv(count, MSG_DONTWAIT | flags)
NAMES = {"IN": 1, "PRI": 2, "OUT": 4, "ERR": 8, "HUP": 16, "RDHUP": 0x2000}
def events(wait=0, wanted=0x2007):
    poll = select.poll()
    poll.register(c, wanted)
    got = [bits for _, bits in poll.poll(wait)]
    return " ".join(n for n, bit in NAMES.items() if got and got[0] & bit)
def fill(waiting=6000):
    # How much was sent when more than so many bytes have waited for a second.
    total, moved = 0, time.monotonic()
    while time.monotonic() - moved < 1:
        if queued() > waiting:
            time.sleep(0.01)
            continue
        total += c.send(bytes(4000))
        moved = time.monotonic()
    return total
def read_to_mark():
    # Never reads over an urgent byte that it has not taken.
    sizes = {}
    while not (events(0, 2) and mark()):  # in this order: the mark may be that of the byte before
        events(10000, 3)
        count = unread()
        if count == 0 and mark() and evaluate("oob(MSG_PEEK)") == "EINVAL":
            count = 1
        if count == 0:
            continue
        try:
            data = take(count)
        except BlockingIOError:
            continue
        for value in set(data):
            sizes[value] = sizes.get(value, 0) + data.count(value)
    return sizes, oob()
def hold_in_child():
    # A child that has what we have until a byte comes on the pipe; then it sends and ends.
    wait, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(wait, 1)
        c.send(b"child")
        os._exit(0)
    return child, tell
def read_all():
    # What can be read, and what ends it.
    count = 0
    while data := evaluate("c.recv(1 << 16)"):
        if isinstance(data, str):
            return count, data
        count += len(data)
    return count, "end"
def write_to_failure(seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = evaluate("c.send(b'x')")
        if isinstance(answer, str):
            return answer
        time.sleep(0.01)
    return "none"
def tcp_state(fd=None):
    return (fd or c).getsockopt(IPPROTO_TCP, TCP_INFO, 8)[0]
def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return "never"
        time.sleep(0.005)
    return "yes"
def took(call):
    started = time.monotonic()
    try:
        result = call()
    except OSError as failure:
        result = errno.errorcode[failure.errno]
    return result, time.monotonic() - started
def evaluate(line):
    try:
        return eval(line, globals())
    except OSError as failure:
        return errno.errorcode[failure.errno]
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
for line in control.makefile():
    text = line.rstrip()
    try:
        answer = repr(evaluate(text))
    except Exception as failure:
        answer = "failed: " + repr(failure)
    control.sendall((answer + "\\n").encode())
"""


class Agent:
    def __init__(self, bed, offload, wrap=(), strict=True):
        """`wrap`: words in front of its command, such as setpriv's."""
        self.bed = bed
        self.transcript = []
        path = os.path.join(bed.lab.directory, f"agent-{offload}.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listener.settimeout(LIMIT)
        os.chmod(path, 0o666)
        argv = [PYTHON, "-u", write_script(bed, "agent.py", PROGRAM), path]
        if offload:
            argv = bed.under_engine(argv, strict)
        self.process = bed.server.start([*wrap, *argv])
        self.control, _ = listener.accept()
        listener.close()
        self.control.settimeout(60)
        self.lines = self.control.makefile()

    def ask(self, expression):
        """The answer, not noted."""
        self.control.sendall(expression.encode() + b"\n")
        answer = self.lines.readline().rstrip()
        check(answer and not answer.startswith("failed"), f"{expression}: {answer!r}")
        return answer

    def __call__(self, expression):
        answer = self.ask(expression)
        self.note(expression, answer)
        return answer

    def start(self, expression):
        """For calls that block: finish() has the answer."""
        self.control.sendall(expression.encode() + b"\n")

    def finish(self, what):
        self.note(what, self.lines.readline().rstrip())

    def note(self, what, found):
        self.transcript.append(f"{what} -> {found}")

    def sent(self):
        """Until the peer's kernel has all that the program has sent."""
        check(self.ask("until(lambda: queued() == 0)") == "'yes'", "not acknowledged")

    def hang_up(self):
        self.lines.close()
        self.control.close()

    def stop(self):
        self.hang_up()
        check(self.process.wait(LIMIT) == 0, self.process.output()[-2000:])


def outcome(call):
    """What a call on the peer's side gives, or its errno's name."""
    try:
        return call()
    except OSError as failure:
        return errno.errorcode[failure.errno] if failure.errno else "nothing in time"


def drain(peer):
    """How many bytes come, and what ends them."""
    count = 0
    while more := outcome(lambda: peer.recv(1 << 16)):
        if isinstance(more, str):
            return count, more
        count += len(more)
    return count, "end"


def reset(peer):
    """Ends a peer's socket by RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def settled(peer):
    """Until the program's side has acknowledged all that the peer has sent."""
    def acknowledged():
        answer = fcntl.ioctl(peer, SIOCOUTQ, struct.pack("i", 0))
        return struct.unpack("i", answer)[0] == 0
    wait_for(acknowledged, LIMIT, "the acknowledgement of what the peer sent")


def tell(peer, data, flags=0):
    """Sends and waits until the program's side has it."""
    check(peer.send(data, flags) == len(data), "the peer's kernel did not take all")
    settled(peer)


def peer_events(peer, wanted=select.POLLIN | select.POLLPRI, wait_ms=0):
    poll = select.poll()
    poll.register(peer, wanted)
    return [bits for _, bits in poll.poll(wait_ms)]


def connect_as_server(bed, agent, options):
    agent.ask(f"(l := create_server(('0.0.0.0', {PORT}))) and None")
    for option in options:
        agent.ask(f"l.setsockopt({option})")
    peer = bed.connect(PORT, SERVER)
    agent.ask("(c := l.accept()[0]) and None")
    agent.ask("l.close()")
    return peer


def connect_as_client(bed, agent, options):
    listener = bed.listen(PORT, CLIENT)
    agent.ask("(c := socket()) and None")
    for option in options:
        agent.ask(f"c.setsockopt({option})")
    agent.ask(f"c.connect(('{CLIENT}', {PORT}))")
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.close()
    return peer


ROLES = {"server": connect_as_server, "client": connect_as_client}


def _run(bed, play, role, offload, options):
    agent = Agent(bed, offload)
    peer = ROLES[role](bed, agent, options)
    peer.settimeout(None)
    play(agent, peer)
    peer.close()
    agent.stop()
    return agent.transcript


def compare(bed, play, roles=("server", "client"), options=(), counted=True):
    """Every answer of the program is the same with the kernel's TCP and with the engine's.

    `options`: arguments of setsockopt on the listener, or on the socket before connect().
    `counted`: the play opens no other connections; else --strict alone says whose they are.
    """
    need_engine()
    for role in roles:
        kernel = _run(bed, play, role, False, options)
        with bed.engine_opens() if counted else contextlib.nullcontext():
            ours = _run(bed, play, role, True, options)
        wrong = [f"  Linux   {a}\n  FlexTOE {b}" for a, b in zip(kernel, ours) if a != b]
        check(not wrong and len(kernel) == len(ours) > 0,
              f"{play.__name__} as {role}:\n" + "\n".join(wrong))


def pause(seconds):
    """For what must not happen, and for clocks of the protocol."""
    time.sleep(seconds)
