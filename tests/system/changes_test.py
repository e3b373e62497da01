#!/usr/bin/env python3
"""Neighbours, routes, addresses and the device change while connections live."""
import contextlib
import os
import socket
import struct
import time

import harness
from harness import (CLIENT, CLIENT6, CLIENT_DEV, SERVER, SERVER6, SERVER_DEV, case, check,
                     client_program, echo_once, echo_server, need_engine, side_behind, wait_for)
from raw_peer import checksum, mac_of

PORT = 7007
BYTES = os.urandom(100_000)


def serve(bed, port=PORT):
    bed.serve(echo_server("level", f"[::]:{port}"), port)


def both(bed, port=PORT, seconds=30):
    """A connection of each family; their bytes may be slow while something changes."""
    return [bed.connect(port, address, seconds) for address in (SERVER, SERVER6)]


def all_echo(connections, data=BYTES):
    for connection in connections:
        echo_once(connection, data)


def send_meanwhile(connections):
    """Bytes that arrive only when go_on() is called, if then."""
    for connection in connections:
        connection.sendall(BYTES[:1000])


def go_on(connections):
    for connection in connections:
        check(harness.receive_exactly(connection, 1000) == BYTES[:1000], "the echo differs")
    all_echo(connections)


def set_mac(namespace, device, mac):
    namespace.ip("link", "set", "dev", device, "address", mac)


@contextlib.contextmanager
def streams(bed):
    """Checked bytes both ways from the client side while the block runs, and after it."""
    bed.serve([client_program("bulk"), "--serve", f"[::]:{PORT + 1}"], PORT + 1)
    running = [bed.client.start([client_program("bulk"), "--connect", f"{host}:{PORT + 1}",
                                 "--down", 60_000_000, "--up", 60_000_000])
               for host in (SERVER, f"[{SERVER6}]")]
    yield
    for process in running:
        check(process.wait(40) == 0, process.output()[-2000:])


# --- Neighbours

def connect_from(namespace, address, port=PORT):
    with namespace.inside():
        connection = socket.create_connection((address, port), 10)
    connection.settimeout(30)
    return connection


@case
def mac_address_changes(bed):
    """The peer's under streams, then the device's own."""
    serve(bed)
    connections = both(bed)
    with bed.engine_opens(), streams(bed):
        time.sleep(0.2)
        set_mac(bed.client, CLIENT_DEV, "02:00:00:00:00:52")
    all_echo(connections)
    set_mac(bed.server, SERVER_DEV, "02:00:00:00:00:53")
    # The client's kernel has to find the new address by itself, as for any host.
    bed.client.ip("neigh", "flush", "dev", CLIENT_DEV)
    all_echo(connections)
    all_echo(both(bed))


def gratuitous_arp(source, mac):
    ip = socket.inet_aton(source)
    return (b"\xff" * 6 + mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
            + mac + ip + bytes(6) + ip + bytes(18))


def unsolicited_advertisement(source, mac):
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "ff02::1")
    body = (struct.pack("!BBHI", 136, 0, 0, 0x20000000) + ends[:16] + b"\x02\x01" + mac)
    total = checksum(ends + struct.pack("!II", len(body), 58) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return (b"\x33\x33\x00\x00\x00\x01" + mac
            + struct.pack("!HIHBB", 0x86dd, 6 << 28, len(body), 58, 255) + ends + body)


def client_frames(bed):
    """A socket that sends frames on the client's device and receives all of it."""
    with bed.client.inside():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    raw.bind((CLIENT_DEV, 0))
    return raw


def announce_client(bed):
    """As a router does when it takes over."""
    with contextlib.closing(client_frames(bed)) as raw:
        mac = mac_of(bed.client, CLIENT_DEV)
        raw.send(gratuitous_arp(CLIENT, mac))
        raw.send(unsolicited_advertisement(CLIENT6, mac))


@case
def behind_a_gateway(bed):
    """Peers behind a router that gets another MAC address under way."""
    far = side_behind(bed, bed.client, "10.78.0", "fd78")
    bed.server.ip("route", "add", "10.78.0.0/24", "via", CLIENT)
    bed.server.ip("-6", "route", "add", "fd78::/64", "via", CLIENT6)
    serve(bed)
    connections = [connect_from(far, address) for address in (SERVER, SERVER6)]
    all_echo(connections)
    set_mac(bed.client, CLIENT_DEV, "02:00:00:00:00:51")
    announce_client(bed)
    all_echo(connections)
    if bed.engine is not None:
        check(len(bed.engine.connections()) == 2, "not the engine's connections")


@case
def announced_neighbours(bed):
    """A gratuitous ARP and an unsolicited neighbour advertisement move connections at once."""
    serve(bed)
    connections = both(bed)
    all_echo(connections, b"hello")
    raw = client_frames(bed)
    mine, other = mac_of(bed.client, CLIENT_DEV), b"\x02\x00\x00\x00\x00\x63"
    for connection, announce, address in zip(connections, (gratuitous_arp,
                                                           unsolicited_advertisement),
                                             (CLIENT, CLIENT6)):
        raw.send(announce(address, other))
        for attempt in range(100):  # what is echoed goes to the other station
            connection.sendall(b"x")
            if sent_to(raw, other, 0.1):
                break
        else:
            raise AssertionError(f"nothing was sent to the new station of {address}")
        raw.send(announce(address, mine))
        echo = harness.receive_exactly(connection, attempt + 1)
        check(echo == b"x" * (attempt + 1), "the echo differs")
        echo_once(connection, BYTES)


def sent_to(raw, mac, seconds):
    """Whether a frame to this MAC address comes within the time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        raw.settimeout(left)
        with contextlib.suppress(TimeoutError):
            if raw.recv(2000)[:6] == mac:
                return True
    return False


# --- The link

def keep_addresses(namespace):
    """IPv6 addresses outlive a time in which the device is down, as those of IPv4 do."""
    namespace.run(["sh", "-c", "for c in all default; do"
                   " echo 1 >/proc/sys/net/ipv6/conf/$c/keep_addr_on_down; done"])


@case
def carrier_lost_and_back(bed):
    keep_addresses(bed.client)
    serve(bed)
    connections = both(bed)
    all_echo(connections)
    bed.client.ip("link", "set", CLIENT_DEV, "down")
    send_meanwhile(connections)
    time.sleep(1)
    bed.client.ip("link", "set", CLIENT_DEV, "up")
    go_on(connections)
    all_echo(both(bed))


@case
def device_down_and_up(bed):
    """The device takes its routes along, and its IPv6 address too."""
    serve(bed)
    connections = both(bed)
    all_echo(connections)
    bed.server.ip("link", "set", SERVER_DEV, "down")
    time.sleep(0.5)
    send_meanwhile(connections)
    bed.server.ip("link", "set", SERVER_DEV, "up")
    bed.server.ip("addr", "add", SERVER6 + "/64", "dev", SERVER_DEV, "nodad")
    go_on(connections)
    with bed.engine_opens():
        all_echo(both(bed))


@case
def device_renamed(bed):
    need_engine()
    serve(bed)
    connections = both(bed)
    bed.server.ip("link", "set", SERVER_DEV, "down")
    bed.server.ip("link", "set", SERVER_DEV, "name", "other0")
    bed.server.ip("addr", "add", SERVER6 + "/64", "dev", "other0", "nodad")
    bed.server.ip("link", "set", "other0", "up")
    all_echo(connections)
    wait_for(lambda: bed.engine.ask("status")["dev"] == "other0", 5, "the new name")
    check("srv0 is now called other0" in bed.engine.process.output(), "nothing was said")
    with bed.engine_opens():
        all_echo(both(bed))


@case
def device_deleted(bed):
    """One sentence, exit status 1; the program learns that its connections are gone."""
    need_engine()
    script = harness.write_script(bed, "waits.py", f"""
import errno, socket
s = socket.create_server(("{SERVER}", {PORT}))
c, _ = s.accept()
try:
    print("read", c.recv(1), flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
""")
    program = bed.serve([harness.PYTHON, script], PORT)
    connection = bed.connect(PORT)
    wait_for(lambda: bed.engine.connections(), 5, "the connection")
    bed.server.ip("link", "del", SERVER_DEV)
    check(bed.engine.process.wait(10) == 1, "not exit status 1")
    errors = [line for line in bed.engine.process.output().splitlines() if "error" in line]
    check(len(errors) == 1 and SERVER_DEV in errors[0], f"not one sentence: {errors}")
    program.wait(10)
    check("ECONNRESET" in program.output(), program.output())
    connection.close()


# --- Addresses

def frames_from(raw, address, seconds):
    """How many frames with this IPv4 source come within the time."""
    end, count = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        raw.settimeout(left)
        with contextlib.suppress(TimeoutError):
            frame, (_, _, kind, *_) = raw.recvfrom(2000)
            count += (kind != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00"
                      and frame[26:30] == socket.inet_aton(address))
    return count


TICKER = """
import socket, sys, time
c, _ = socket.create_server((sys.argv[1], int(sys.argv[2]))).accept()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for tick in range(600):
    c.sendall(b"%06d" % tick)
    time.sleep(0.05)
"""


class Ticker:
    """A connection on which a program of the server side sends numbers, twenty in a second."""

    def __init__(self, bed):
        script = harness.write_script(bed, "ticker.py", TICKER)
        self.bed = bed
        self.program = bed.serve([harness.PYTHON, script, SERVER, str(PORT + 4)], PORT + 4)
        self.connection = bed.connect(PORT + 4, SERVER, 30)
        self.raw, self.seen = client_frames(bed), 0
        self.listen()

    def listen(self, ticks=10):
        """The next numbers come, without a gap."""
        for _ in range(ticks):
            number = harness.receive_exactly(self.connection, 6)
            check(number == b"%06d" % self.seen, f"{number} instead of {self.seen}")
            self.seen += 1

    def falls_silent(self):
        """Although the program sends on, no frame leaves any more."""
        wait_for(lambda: frames_from(self.raw, SERVER, 1) == 0, 10, "silence")
        if self.bed.engine is not None:
            check(self.bed.engine.ask("stats")["drops"]["mute"] > 0, "nothing was held back")

    def end(self):
        self.connection.close()
        self.program.stop()


@case
def address_removed_and_back(bed):
    """Connections outlive their address; without it nothing of theirs is sent."""
    serve(bed)
    ticker = Ticker(bed)
    connections = both(bed)
    all_echo(connections)
    for address, length in ((SERVER, "/16"), (SERVER6, "/64")):
        bed.server.ip("addr", "del", address + length, "dev", SERVER_DEV)
    send_meanwhile(connections)
    ticker.falls_silent()
    bed.server.ip("addr", "add", SERVER + "/16", "dev", SERVER_DEV)
    bed.server.ip("addr", "add", SERVER6 + "/64", "dev", SERVER_DEV, "nodad")
    go_on(connections)
    ticker.listen(30)
    ticker.end()
    with bed.engine_opens():
        all_echo(both(bed))


@case
def several_addresses(bed):
    """One added while the program listens on all, and a listener on one of them alone."""
    serve(bed)
    bed.server.ip("addr", "add", "10.77.9.1/16", "dev", SERVER_DEV)
    bed.server.ip("addr", "add", "fd77::9:1/64", "dev", SERVER_DEV, "nodad")
    bed.serve(echo_server("level", f"10.77.9.1:{PORT + 2}"), PORT + 2)
    if bed.engine is not None:
        wait_for(lambda: owned_connects(bed, "10.77.9.1") and owned_connects(bed, "fd77::9:1"), 5,
                 "the new addresses to be served")
    with bed.engine_opens():
        connections = [bed.connect(PORT, address)
                       for address in (SERVER, SERVER6, "10.77.9.1", "fd77::9:1")]
        connections.append(bed.connect(PORT + 2, "10.77.9.1"))
        all_echo(connections)
    refused = False
    try:
        bed.connect(PORT + 2)
    except ConnectionRefusedError:
        refused = True
    check(refused, "the listener of one address answers for another")


def owned_connects(bed, address):
    before = bed.engine.counter("passive_opens")
    bed.connect(PORT, address).close()
    return bed.engine.counter("passive_opens") > before


# --- Routes and rules

def mss_by_local(bed):
    """{(local address, port): MSS} of the engine's connections."""
    return {tuple(row["local"].rsplit(":", 1)): row["mss"]
            for row in bed.engine.ask("conns")["conns"] if row["state"] == "ESTAB"}


@case
def rules(bed):
    """`ip rule` by source, port and user: each connection takes the route that Linux would."""
    need_engine()
    bed.server.ip("addr", "add", "10.77.9.1/16", "dev", SERVER_DEV)
    for table, mtu in ((101, 1300), (102, 1200), (103, 1100)):
        bed.server.ip("route", "add", CLIENT, "dev", SERVER_DEV, "mtu", str(mtu), "table",
                      str(table))
    bed.server.ip("rule", "add", "from", "10.77.9.1", "lookup", "101")
    bed.server.ip("rule", "add", "ipproto", "tcp", "sport", str(PORT + 1), "lookup", "102")
    bed.server.ip("rule", "add", "ipproto", "tcp", "dport", str(PORT + 2), "lookup", "103")
    serve(bed)
    serve(bed, PORT + 1)
    connections = [bed.connect(PORT), bed.connect(PORT, "10.77.9.1"), bed.connect(PORT + 1)]
    all_echo(connections)
    with contextlib.closing(bed.listen(PORT + 2)) as listener:
        program = bed.server.start(bed.under_engine(["nc", CLIENT, str(PORT + 2)]),
                                   stdin=harness.subprocess.PIPE)
        accepted, _ = listener.accept()
    expected = {(SERVER, str(PORT)): 1448, ("10.77.9.1", str(PORT)): 1248,
                (SERVER, str(PORT + 1)): 1148}

    def as_expected():
        found = mss_by_local(bed)
        return (all(found.get(end) == mss for end, mss in expected.items())
                and sorted(found.values())[0] == 1048)
    wait_for(as_expected, 5, lambda: f"the MSS of each: {mss_by_local(bed)}")
    # A rule that goes changes what lives.
    bed.server.ip("rule", "del", "from", "10.77.9.1")
    expected["10.77.9.1", str(PORT)] = 1448
    wait_for(as_expected, 5, lambda: f"the MSS without the rule: {mss_by_local(bed)}")
    all_echo(connections)
    accepted.close()
    program.stop()


@case
def route_to_another_device(bed):
    """What lives goes on over the device; new connections are the kernel's until the route is
    back."""
    need_engine()
    bed.server.ip("link", "add", "srv1", "type", "veth", "peer", "name", "cli1", "netns",
                  bed.client.name)
    for namespace, device, host in ((bed.server, "srv1", 1), (bed.client, "cli1", 2)):
        namespace.ip("addr", "add", f"10.78.0.{host}/24", "dev", device)
        namespace.ip("link", "set", device, "up")
    serve(bed)
    connection = bed.connect(PORT)
    echo_once(connection, BYTES)
    script = harness.write_script(bed, "connect.py", f"""
import socket
socket.create_connection(("{CLIENT}", {PORT + 3}), 10).recv(1)
""")

    def connects():
        before = bed.engine.counter("active_opens")
        with contextlib.closing(bed.listen(PORT + 3)) as listener:
            program = bed.server.start([harness.FLEXTOE, "exec", "--", harness.PYTHON, script])
            listener.accept()[0].close()
        check(program.wait(10) == 0, program.output())
        return bed.engine.counter("active_opens") - before
    check(connects() == 1, "the first connection was the kernel's")
    bed.server.ip("route", "add", CLIENT + "/32", "via", "10.78.0.2", "dev", "srv1")
    wait_for(lambda: connects() == 0, 10, "new connections to be the kernel's")
    echo_once(connection, BYTES)
    bed.server.ip("route", "del", CLIENT + "/32")
    wait_for(lambda: connects() == 1, 10, "new connections to be the engine's again")
    echo_once(connection, BYTES)


@case
def route_withdrawn(bed):
    """Without a route nothing leaves; with it connections go on."""
    ticker = Ticker(bed)
    bed.server.ip("route", "add", "unreachable", CLIENT + "/32")
    ticker.falls_silent()
    bed.server.ip("route", "del", "unreachable", CLIENT + "/32")
    ticker.listen(30)
    ticker.end()


# --- The device as part of something larger

@contextlib.contextmanager
def untouched(bed, namespace, address, port=PORT):
    """Traffic between the client and a service of a kernel elsewhere, on a port that the engine
    owns for its own address, goes on while the block runs."""
    namespace.serve(echo_server("level", f"{address}:{port}"), port)
    with bed.client.inside():
        connection = socket.create_connection((address, port), 10)
    connection.settimeout(10)
    echo_once(connection, BYTES)
    yield
    echo_once(connection, BYTES)
    connection.close()


@case
def forwarded_traffic(bed):
    """The server side is a router; the engine's ports are its own address's only."""
    far = side_behind(bed, bed.server, "10.79.0", "fd79")
    bed.client.ip("route", "add", "10.79.0.0/24", "via", SERVER)
    serve(bed)
    with untouched(bed, far, "10.79.0.2"), bed.engine_opens():
        all_echo(both(bed))
        bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-c", "16", "-n", "5000")


@case
def macvlan_on_the_device(bed):
    """The macvlan's own MAC address, and so its frames, are none of the engine's."""
    guest = bed.lab.add_namespace("guest")
    serve(bed)
    bed.server.ip("link", "add", "mv0", "link", SERVER_DEV, "type", "macvlan", "mode", "bridge")
    bed.server.ip("link", "set", "mv0", "netns", guest.name)
    guest.ip("addr", "add", "10.77.0.50/16", "dev", "mv0")
    guest.ip("link", "set", "mv0", "up")
    with untouched(bed, guest, "10.77.0.50"), bed.engine_opens():
        all_echo(both(bed))
        bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-c", "16", "-n", "5000")


@case
def enslaved_to_a_bridge(bed):
    """Bridged traffic passes, and connections that live go on."""
    guest = bed.lab.add_namespace("guest")
    serve(bed)
    connections = both(bed)
    all_echo(connections)
    bed.server.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0")
    bed.server.ip("link", "add", "port0", "type", "veth", "peer", "name", "guest0", "netns",
                  guest.name)
    guest.ip("addr", "add", "10.77.0.60/16", "dev", "guest0")
    guest.ip("link", "set", "guest0", "up")
    for device in ("port0", SERVER_DEV):
        bed.server.ip("link", "set", device, "master", "br0", "up")
    bed.server.ip("link", "set", "br0", "up")
    with untouched(bed, guest, "10.77.0.60"):
        all_echo(connections)
        bed.server.ip("link", "set", SERVER_DEV, "nomaster")
        all_echo(connections)
        bed.server.ip("link", "set", SERVER_DEV, "master", "br0")


if __name__ == "__main__":
    harness.main()
