"""A TCP peer whose frames are made by hand: with tags, options and headers as a case wants them.

It has an address of nobody's on the client's network, and the server's kernel is told its MAC
address. So no kernel answers in its name, and what comes back is seen as it is.
"""
import json
import os
import random
import socket
import struct
import time

from harness import CLIENT_DEV, SERVER, SERVER6, SERVER_DEV, check

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ADDRESS, ADDRESS6 = "10.77.0.99", "fd77::99"
_OUTGOING = 4  # packet type of what this side sends
_AUXDATA = 8
_VLAN_VALID = 1 << 4


def words_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def checksum(data):
    return 0xffff - words_sum(data)


def mac_of(namespace, device):
    link = json.loads(namespace.ip("-j", "link", "show", "dev", device))[0]
    return bytes.fromhex(link["address"].replace(":", ""))


class Answer:
    """A frame from the server: its tags [(TPID, TCI)] and what its TCP header says."""

    def __init__(self, tags, tcp):
        self.tags = tags
        (_, self.port, self.seq, self.ack, offset, self.flags) = struct.unpack("!HHIIBB", tcp[:14])
        self.payload = tcp[(offset >> 4) * 4:]


class RawPeer:
    """`tags`: [(TPID, TCI)], outermost first. `between`: IPv4 options, or IPv6 extension headers
    [(number, bytes behind the next-header byte)]."""

    def __init__(self, bed, port, six=False, tags=(), between=b"", address=None):
        self.six, self.tags, self.between = six, list(tags), between
        self.server = SERVER6 if six else SERVER
        self.address = address or (ADDRESS6 if six else ADDRESS)
        self.port, self.own_port = port, random.randrange(20000, 60000)
        self.family = socket.AF_INET6 if six else socket.AF_INET
        with bed.client.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((CLIENT_DEV, 0))
        self.socket.setsockopt(263, _AUXDATA, 1)
        client = mac_of(bed.client, CLIENT_DEV)
        self.link = mac_of(bed.server, SERVER_DEV) + client
        bed.server.ip("neigh", "replace", self.address, "lladdr", client.hex(":"), "dev",
                      SERVER_DEV, "nud", "permanent")
        self.seq, self.ack = random.randrange(1 << 31), 0

    # --- Out

    def _tcp(self, flags, payload, options=b""):
        header = struct.pack("!HHIIBBHHH", self.own_port, self.port, self.seq & 0xffffffff,
                             self.ack, (5 + len(options) // 4) << 4, flags, 60000, 0, 0) + options
        ends = (socket.inet_pton(self.family, self.address)
                + socket.inet_pton(self.family, self.server))
        pseudo = ends + struct.pack("!II", len(header) + len(payload), socket.IPPROTO_TCP)
        total = checksum(pseudo + header + payload)
        return header[:16] + struct.pack("!H", total) + header[18:] + payload

    def _packet(self, segment):
        ends = (socket.inet_pton(self.family, self.address)
                + socket.inet_pton(self.family, self.server))
        if self.six:
            chain, following = segment, socket.IPPROTO_TCP
            for number, rest in reversed(self.between or []):
                chain, following = bytes([following]) + rest + chain, number
            return struct.pack("!IHBB", 6 << 28, len(chain), following, 64) + ends + chain
        words = 5 + len(self.between) // 4
        header = struct.pack("!BBHHHBBH", 0x40 + words, 0, 4 * words + len(segment), 1, 0x4000, 64,
                             socket.IPPROTO_TCP, 0) + ends + self.between
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + segment

    def send(self, flags, payload=b"", options=b""):
        kinds = [tpid for tpid, _ in self.tags] + [0x86dd if self.six else 0x0800]
        frame = self.link + struct.pack("!H", kinds[0])
        for (_, tci), kind in zip(self.tags, kinds[1:]):
            frame += struct.pack("!HH", tci, kind)
        frame += self._packet(self._tcp(flags, payload, options))
        self.socket.send(frame + b"\0" * (60 - len(frame)))

    # --- In

    @staticmethod
    def _whole(frame, ancillary):
        """The frame with the outermost tag, which the kernel keeps beside it."""
        for level, kind, data in ancillary:
            if (level, kind) != (263, _AUXDATA):
                continue
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
            if status & _VLAN_VALID:
                return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
        return frame

    def _parse(self, frame):
        tags, at = [], 12
        while struct.unpack("!H", frame[at:at + 2])[0] in (0x8100, 0x88a8):
            tags.append(struct.unpack("!HH", frame[at:at + 4]))
            at += 4
        kind = struct.unpack("!H", frame[at:at + 2])[0]
        packet = frame[at + 2:]
        if kind == 0x0800 and not self.six and packet[9] == socket.IPPROTO_TCP:
            source, length = packet[12:16], struct.unpack("!H", packet[2:4])[0]
            tcp = packet[(packet[0] & 15) * 4:length]
        elif kind == 0x86dd and self.six and packet[6] == socket.IPPROTO_TCP:
            source, tcp = packet[8:24], packet[40:40 + struct.unpack("!H", packet[4:6])[0]]
        else:
            return None
        mine = Answer(tags, tcp)
        from_server = source == socket.inet_pton(self.family, self.server)
        return mine if from_server and mine.port == self.own_port else None

    def receive(self, seconds=5):
        """The server's next frame to this peer; None if none comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, ancillary, _, where = self.socket.recvmsg(65535, 200)
            except TimeoutError:
                break
            if where[2] == _OUTGOING:
                continue
            found = self._parse(self._whole(frame, ancillary))
            if found is not None:
                return found
        return None

    # --- A conversation

    def connect(self, seconds=5):
        """True: the server has answered the SYN. Every frame from it must carry our tags."""
        for _ in range(seconds):
            self.send(SYN, options=struct.pack("!BBH", 2, 4, 1000))
            answer = self.receive(1)
            if answer is not None:
                break
        else:
            return False
        check(answer.flags == SYN | ACK, f"flags {answer.flags:#x} in answer to the SYN")
        self._check_tags(answer)
        self.seq, self.ack = self.seq + 1, (answer.seq + 1) & 0xffffffff
        self.send(ACK)
        return True

    def echo(self, size=500):
        """Sends bytes, which must come back, and acknowledges them."""
        data = os.urandom(size)
        self.send(ACK | PSH, data)
        self.seq += size
        got = b""
        while len(got) < size:
            answer = self.receive()
            check(answer is not None, f"{len(got)} of {size} bytes came back")
            self._check_tags(answer)
            if answer.payload and answer.seq == self.ack:
                got += answer.payload
                self.ack = (answer.seq + len(answer.payload)) & 0xffffffff
                self.send(ACK)
        check(got == data, "the echo differs")

    def close(self):
        self.send(RST | ACK)
        self.socket.close()

    def _check_tags(self, answer):
        check(answer.tags == self.tags, f"tags {answer.tags} in answer to {self.tags}")
