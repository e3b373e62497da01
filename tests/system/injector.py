"""Packets in the name of a client's connection to the offloaded port."""
import contextlib
import socket
import struct

import harness
from harness import CLIENT, CLIENT6, CLIENT_DEV, SERVER, SERVER6
from raw_peer import checksum

ETHERNET = 14
MORE = 0x2000  # of the IPv4 header


class Injector:
    """Sends packets of its own on the client's device in the name of one connection."""

    def __init__(self, bed, address, port):
        self.six = ":" in address
        with bed.client.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((CLIENT_DEV, 0))
        self.socket.settimeout(0.2)
        self.connection = bed.connect(port, address)
        self.port = self.connection.getsockname()[1]
        harness.echo_once(self.connection, b"hello")
        self._learn()

    def _learn(self):
        """Ethernet header and TCP header of the client's next segment, from its last one."""
        with contextlib.suppress(TimeoutError):
            while True:
                frame, (_, _, kind, *_) = self.socket.recvfrom(65535)
                offset = ETHERNET + (40 if self.six else 20)
                tcp = frame[offset:]
                is_tcp = frame[20 if self.six else 23] == socket.IPPROTO_TCP
                if kind != socket.PACKET_OUTGOING or not is_tcp or len(tcp) < 20:
                    continue
                source, _, sequence, _ = struct.unpack("!HHII", tcp[:12])
                if source != self.port:
                    continue
                header = (tcp[12] >> 4) * 4
                self.link = frame[:ETHERNET]
                end = len(frame) if self.six else ETHERNET + struct.unpack("!H", frame[16:18])[0]
                self.sequence = sequence + end - offset - header
                self.header = tcp[:header]

    def segment(self, payload):
        """The connection's next segment, TCP header and payload, in order and with a right sum."""
        header = bytearray(self.header)
        header[4:8] = struct.pack("!I", self.sequence & 0xffffffff)
        header[13] = 0x18
        header[16:18] = b"\0\0"
        family = socket.AF_INET6 if self.six else socket.AF_INET
        ends = [socket.inet_pton(family, a) for a in
                ((CLIENT6, SERVER6) if self.six else (CLIENT, SERVER))]
        pseudo = b"".join(ends) + struct.pack("!II", len(header) + len(payload), 6)
        header[16:18] = struct.pack("!H", checksum(pseudo + bytes(header) + payload))
        return bytes(header) + payload

    def acknowledged(self):
        """What the next segment acknowledges: where the server's next byte is."""
        return struct.unpack("!I", self.header[8:12])[0]

    def send_fragment(self, data, offset, more, number):
        """`data` at `offset` of datagram `number`."""
        if self.six:
            data = struct.pack("!BBHI", socket.IPPROTO_TCP, 0, offset | more, number) + data
            packet = struct.pack("!IHBB", 6 << 28, len(data), 44, 64)
            packet += socket.inet_pton(socket.AF_INET6, CLIENT6)
            packet += socket.inet_pton(socket.AF_INET6, SERVER6)
        else:
            packet = bytearray(struct.pack(
                "!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), number & 0xffff,
                offset // 8 | (MORE if more else 0), 64, socket.IPPROTO_TCP, 0,
                socket.inet_aton(CLIENT), socket.inet_aton(SERVER)))
            packet[10:12] = struct.pack("!H", checksum(bytes(packet)))
        self.socket.send(self.link + bytes(packet) + data)

    def send_in_pieces(self, data, cuts, number, order=1):
        places = [0, *cuts, len(data)]
        pieces = list(zip(places, places[1:]))[::order]
        for start, end in pieces:
            self.send_fragment(data[start:end], start, end != len(data), number)


def reset(connection):
    """Ends a connection whose client does not know of the bytes sent in its name."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
