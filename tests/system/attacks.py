"""Frames of attackers: each kind with the counters of the engine that tell of it.

A kind is (name, frames, {counter: how much each round of its frames adds}); the counters are names
of `flextoe stats`, counters or drops.
"""
import json
import os
import random
import socket
import struct

import harness
from harness import CLIENT_DEV, SERVER, SERVER6, SERVER_DEV, check, client_program
from raw_peer import ACK, FIN, PSH, RST, SYN, checksum, mac_of

URG = 32
STRANGER, STRANGER6 = "198.18.7.7", "fd99::7"


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def tcp(ends, fields, payload=b"", options=b"", **lies):
    """`ends`: (source, destination) addresses; `fields`: (source port, destination port, sequence
    number, acknowledgement, flags). `lies`: offset (in words), add (to the checksum), urgent."""
    source, target, seq, ack, flags = fields
    words = lies.get("offset", 5 + len(options) // 4)
    header = struct.pack("!HHIIBBHHH", source, target, seq & 0xffffffff, ack & 0xffffffff,
                         words << 4, flags, lies.get("window", 500), 0, lies.get("urgent", 0))
    header += options
    length = len(header) + len(payload)
    pseudo = b"".join(map(packed, ends)) + struct.pack("!II", length, socket.IPPROTO_TCP)
    total = (checksum(pseudo + header + payload) + lies.get("add", 0)) & 0xffff
    return header[:16] + struct.pack("!H", total) + header[18:] + payload


def ipv4(ends, data, protocol=socket.IPPROTO_TCP, **lies):
    """`lies`: total (length), fragment (the field), options, add (to the checksum)."""
    options = lies.get("options", b"")
    size = 20 + len(options)
    header = struct.pack("!BBHHHBBH", 0x40 + size // 4, 0, lies.get("total", size + len(data)), 1,
                         lies.get("fragment", 0x4000), 64, protocol, 0)
    header += b"".join(map(packed, ends)) + options
    total = (checksum(header) + lies.get("add", 0)) & 0xffff
    return header[:10] + struct.pack("!H", total) + header[12:] + data


def ipv6(ends, data, following=socket.IPPROTO_TCP, length=None):
    return struct.pack("!IHBB", 6 << 28, len(data) if length is None else length, following,
                       64) + b"".join(map(packed, ends)) + data


class Attacker:
    """Sends from the client's device, in anybody's name."""

    def __init__(self, bed, port):
        self.bed, self.port = bed, port
        self.mac, self.target = mac_of(bed.client, CLIENT_DEV), mac_of(bed.server, SERVER_DEV)
        self._files = 0

    def frame(self, packet, kind=None, tags=b"", source=None):
        kind = kind or (0x0800 if packet[0] >> 4 == 4 else 0x86dd)
        frame = self.target + (source or self.mac) + tags + struct.pack("!H", kind) + packet
        return frame + b"\0" * (60 - len(frame))

    def start(self, frames, *arguments):
        """The flood, running: frames round and round."""
        self._files += 1
        path = os.path.join(self.bed.lab.directory, f"frames-{self._files}")
        with open(path, "wb") as file:
            for frame in frames:
                file.write(struct.pack("<H", len(frame)) + frame)
        return self.bed.client.start([client_program("flood"), "--dev", CLIENT_DEV,
                                      "--frames", path, *map(str, arguments)])

    @staticmethod
    def sent(flood, seconds=30):
        """What a flood has sent, when it ends."""
        check(flood.wait(seconds) == 0, flood.output())
        return json.loads(flood.output())["sent"]

    # --- Kinds

    def segment(self, flags, ends=(STRANGER, SERVER), source_port=1234, payload=b"", **lies):
        """A segment of no connection to the offloaded port, alone in its packet."""
        fields = (source_port, lies.pop("port", self.port), 7, 99, flags)
        data = tcp(ends, fields, payload, **lies)
        return ipv4(ends, data) if ":" not in ends[0] else ipv6(ends, data)

    def strangers(self):
        """Whole segments that belong to nothing."""
        six = (STRANGER6, SERVER6)
        whole = [("acks", ACK), ("fins", ACK | FIN), ("resets", RST), ("SYN-ACKs", SYN | ACK),
                 ("data", ACK | PSH), ("urgent data", ACK | URG)]
        kinds = []
        for ends in ((STRANGER, SERVER), six):
            for name, flags in whole:
                payload = b"x" * 100 if "data" in name else b""
                kinds.append((name, [self.frame(self.segment(flags, ends, payload=payload))],
                              {"stray_segments": 1}))
            kinds.append(("from its destination", [self.frame(self.segment(SYN, (ends[1],) * 2))],
                          {"own_source": 1}))
        return kinds

    def broken_tcp(self):
        segment = self.segment
        cases = [("checksum", segment(ACK, add=1), "bad_tcp_checksum"),
                 ("short header", segment(ACK, offset=4), "bad_data_offset"),
                 ("header beyond the segment", segment(ACK, offset=15), "bad_data_offset"),
                 ("option of no length", segment(ACK, options=b"\x08\0\0\0"), "bad_option"),
                 ("option beyond the header", segment(ACK, options=b"\x08\x0a\1\1"), "bad_option"),
                 ("no flag", segment(0), "bad_flags"),
                 ("all flags", segment(0xff), "bad_flags"),
                 ("SYN and FIN", segment(SYN | FIN), "bad_flags"),
                 ("from port 0", segment(ACK, source_port=0), "bad_port")]
        return [(name, [self.frame(packet)], {counter: 1}) for name, packet, counter in cases]

    def broken_ip(self):
        ends = (STRANGER, SERVER)
        data = tcp(ends, (1234, self.port, 7, 99, ACK), b"payload")
        cases = [("checksum", ipv4(ends, data, add=1), "bad_ip_checksum"),
                 ("length beyond the frame", ipv4(ends, data, total=9000), "bad_ip_total_length"),
                 ("length within TCP's header", ipv4(ends, data, total=30), "too_short"),
                 ("loose source route", ipv4(ends, data, options=b"\x83\x07\x04\x0a\0\0\1\0"),
                  "source_route"),
                 ("option of no length", ipv4(ends, data, options=b"\x44\0\0\0"), "bad_ip_option"),
                 ("first fragment", ipv4(ends, data, fragment=0x2000), "steering_fragments"),
                 ("later fragment", ipv4(ends, data, fragment=0x2003), "fragments_passed")]
        for source in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"):
            cases.append((f"from {source}", self.segment(ACK, (source, SERVER)), "bad_address"))
        ends = (STRANGER6, SERVER6)
        data = tcp(ends, (1234, self.port, 7, 99, ACK), b"payload")
        options = bytes([6, 0, 0x80 | 62, 4, 0, 0, 0, 0])
        chain = b"".join([bytes([60, 0, 1, 4, 0, 0, 0, 0])] * 8)
        cases += [("option to be dropped for", ipv6(ends, options + data, 60), "unknown_ip_option"),
                  ("endless headers", ipv6(ends, chain + data, 60), "steering_headers"),
                  ("length beyond the frame", ipv6(ends, data, length=9000), "bad_ip_total_length")]
        for source in ("::1", "::", "ff02::1"):
            cases.append((f"from {source}", self.segment(ACK, (source, SERVER6)), "bad_address"))
        return [(name, [self.frame(packet)], {counter: 1}) for name, packet, counter in cases]

    def odd_frames(self):
        packet = self.segment(SYN)
        tag = struct.pack("!HH", 0x8100, 5)
        three = struct.pack("!HH", 0x88a8, 0) + struct.pack("!HH", 0x8100, 0) * 2
        return [("tag of a VLAN", [self.frame(packet, tags=tag)], {"vlan_passed": 1}),
                ("three tags", [self.frame(packet, tags=three)], {"vlan_passed": 1}),
                ("odd type", [self.frame(packet, kind=0x88b5)], {}),
                ("cut off", [self.frame(packet)[:n] for n in (15, 20, 33, 34, 40, 53)], {}),
                ("from a group", [self.frame(packet, source=b"\x01\0\x5e\0\0\1")],
                 {"bad_address": 1})]

    def forged(self, live):
        """In the name of a connection: `live` is its Injector."""
        ends = (harness.CLIENT, SERVER)
        seq, ack = live.sequence, live.acknowledged()
        stamp = live.header[20:32]
        stale = stamp[:4] + struct.pack(
            "!I", (struct.unpack("!I", stamp[4:8])[0] - 100000) & 0xffffffff) + stamp[8:]
        never = stamp + b"\1\1\5\x12" + struct.pack("!IIII", *((ack + n) & 0xffffffff
                                                            for n in (5000, 6000, 7000, 8000)))

        def one(position, flags, payload=b"", acknowledged=ack, options=stamp):
            fields = (live.port, self.port, position, acknowledged, flags)
            return [self.frame(ipv4(ends, tcp(ends, fields, payload, options)))]
        far = seq + (1 << 30)
        return [("resets far off", one(far, RST), {"out_of_window": 1}),
                ("resets nearby", one(seq + 5, RST), {"bad_rst": 1}),
                ("SYNs", one(seq, SYN), {"bad_syn": 1}),
                ("data far off", one(far, ACK | PSH, b"evil" * 20), {"out_of_window": 1}),
                ("FINs far off", one(far, ACK | FIN), {"out_of_window": 1}),
                ("FINs without ACK", one(seq, FIN), {"no_ack_flag": 1}),
                ("ACKs of the future", one(seq, ACK, b"evil", ack + 10**6), {"bad_ack": 1}),
                ("old timestamps", one(seq, ACK, b"evil", options=stale), {"paws": 1}),
                ("SACKs of what was never sent", one(seq, ACK, options=never), {"bad_sacks": 2})]

    def syns(self, count=1000, seed=1):
        """From as many forged sources."""
        draw = random.Random(seed)
        frames = []
        for _ in range(count):
            source = f"198.18.{draw.randrange(256)}.{draw.randrange(1, 255)}"
            frames.append(self.frame(self.segment(SYN, (source, SERVER),
                                                  draw.randrange(1024, 65535))))
        return frames

    def icmp(self, live, ack):
        """Unreachables and smaller MTUs about a live connection, quoting what was never sent, and
        about nothing of ours; redirects."""
        ends = (SERVER, harness.CLIENT)
        quotes = [tcp(ends, (self.port, live.port, ack + 10**6, 0, ACK))[:8],
                  tcp(ends, (self.port, 9, 1, 0, ACK))[:8]]
        frames = []
        for quote in quotes:
            inner = ipv4(ends, quote, total=1500)
            for kind, code, rest in ((3, 1, 0), (3, 3, 0), (3, 4, 576), (5, 1, 0x0a4d0063)):
                message = struct.pack("!BBHI", kind, code, 0, rest) + inner
                message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
                frames.append(self.frame(ipv4(ends[::-1], message, socket.IPPROTO_ICMP)))
        return frames

    def arps(self):
        """Announcements of addresses that nobody has, and questions for all."""
        frames = []
        for host in range(100, 200):
            for operation in (1, 2):
                claimed = socket.inet_aton(f"10.77.0.{host}")
                body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + self.mac + claimed
                body += b"\0" * 6 + (claimed if operation == 2 else socket.inet_aton(SERVER))
                frames.append(self.frame(body, kind=0x0806))
        return frames
