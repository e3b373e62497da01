"""The control socket's messages, by hand (docs/formats/control-socket.md): a program that says what
it likes. Used by hostile programs and by tests of version skew; needs nothing but Python.
"""
import array
import mmap
import os
import socket
import struct

MAGIC = 0x31656F74
ABI = 1
FEATURES = 7
HEADER = struct.Struct("<IIQ")
SEGMENT_BYTES = 1 << 30

HELLO, LISTEN, CONNECT, CONTEXT, SHOW, INFO, OPTION, REPORT, ADMIN = range(1, 10)
(WELCOME, SEGMENT, LISTENING, CONNECTING, CONTEXT_READY, SHOWN, INFO_REPLY, OPTION_REPLY, REFUSED,
 ADMIN_REPLY) = range(64, 74)

# Words of segments (docs/formats/segment.md).
CONTEXTS, LINES, QUEUES = 4096, 1 << 20, 32 << 20
LINE_BYTES, CONTEXT_BYTES, QUEUE_ENTRIES = 512, 128, 131072
POSTED = 64
LINE_STATE, LINE_GENERATION = 16, 28
LINE_TX_TAIL, LINE_RX_HEAD = 128, 136
LINE_CLAIM, LINE_COOKIE = 192 + 32, 256
CONTEXT_ENGINE_TAIL = 68
LOOK, CLOSE, CLOSE_RESET, ACCEPT = range(4)


def message(kind, tag, body):
    return HEADER.pack(kind, HEADER.size + len(body), tag) + body


def hello_body(abi=ABI, features=FEATURES, extra=b""):
    return struct.pack("<IHHQiI16s", MAGIC, abi, 0, features, os.getpid(), 0, b"raw") + extra


class Ended(Exception):
    """The engine ended the connection."""


class Client:
    """One connection to the engine. `hello()` attaches."""

    def __init__(self, path, seconds=5):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(seconds)
        self.socket.connect(path)
        self.segments = {}  # id: mapping
        self.doorbell = -1
        self._tag = 0

    def send(self, kind, body, fds=()):
        self._tag += 1
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([message(kind, self._tag, body)], rights)
        except (BrokenPipeError, ConnectionResetError):
            raise Ended() from None
        return self._tag

    def receive(self):
        """(type, tag, body, fds); what comes with a segment is mapped."""
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 4096, 64)
        except ConnectionResetError:
            raise Ended() from None
        if not data:
            raise Ended()
        kind, length, tag = HEADER.unpack_from(data)
        if length != len(data):
            raise AssertionError(f"the engine sent {len(data)} bytes and says {length}")
        body = data[HEADER.size:]
        if kind == SEGMENT:
            [number] = struct.unpack_from("<I", body)
            self.segments[number] = mmap.mmap(fds[0], SEGMENT_BYTES)
            os.close(fds[0])
        return kind, tag, body, fds

    def ask(self, kind, body, fds=()):
        """The answer's (type, body, fds)."""
        tag = self.send(kind, body, fds)
        while True:
            got, answered, answer, received = self.receive()
            if answered == tag:
                return got, answer, received

    def hello(self, **options):
        """Attaches: the first segment's number."""
        kind, _, fds = self.ask(HELLO, hello_body(**options))
        if kind != WELCOME:
            raise AssertionError(f"no Welcome but {kind}")
        os.close(fds[0])
        self.doorbell = fds[1]
        while not self.segments:
            self.receive()
        return next(iter(self.segments))

    def listen(self, listener, backlog=16):
        return self.ask(LISTEN, struct.pack("<II", backlog, 0) + bytes(56), [listener.fileno()])

    def connect(self, sock, address, port):
        remote = bytes(10) + b"\xff\xff" + socket.inet_aton(address)
        body = remote + struct.pack("<HHI", port, 0, 0) + bytes(56)
        return self.ask(CONNECT, body, [sock.fileno()])

    def context(self, segment, doorbell=0):
        kind, body, fds = self.ask(CONTEXT, struct.pack("<IIII", segment, doorbell, 0, 0))
        return kind, struct.unpack("<IIII", body)[2] if kind == CONTEXT_READY else None, fds

    def info(self, segment, line):
        return self.ask(INFO, struct.pack("<II", segment, line))

    def option(self, segment, line, level, name, value):
        body = struct.pack("<IIiiII", segment, line, level, name, len(value), 0)
        return self.ask(OPTION, body + value.ljust(64, b"\0"))

    def show(self, fds):
        """A list of (kind, segment, line)."""
        kind, body, _ = self.ask(SHOW, struct.pack("<II", len(fds), 0), fds)
        if kind != SHOWN:
            raise AssertionError(f"no Shown but {kind}")
        return [struct.unpack_from("<III", body, 8 + 16 * i) for i in range(len(fds))]

    def ring(self):
        try:
            os.write(self.doorbell, b"x")
        except BlockingIOError:
            pass

    def post(self, segment, slot, hints):
        """Hints (line | op << 24) into a context's queue to the engine."""
        memory = self.segments[segment]
        at = CONTEXTS + slot * CONTEXT_BYTES + CONTEXT_ENGINE_TAIL
        [tail] = struct.unpack_from("<I", memory, at)
        queue = QUEUES + (2 * slot + 1) * QUEUE_ENTRIES * 4
        for hint in hints:
            struct.pack_into("<I", memory, queue + tail % QUEUE_ENTRIES * 4, hint)
            tail = (tail + 1) & 0xFFFFFFFF
        struct.pack_into("<I", memory, at, tail)
        [posted] = struct.unpack_from("<Q", memory, POSTED)
        struct.pack_into("<Q", memory, POSTED, posted | 1 << slot)
        self.ring()

    def close(self):
        self.socket.close()
        if self.doorbell >= 0:
            os.close(self.doorbell)
            self.doorbell = -1
        for mapping in self.segments.values():
            mapping.close()
        self.segments = {}


def refusal(body):
    """(reason, errno) of a Refused."""
    return struct.unpack("<Ii", body[:8])
