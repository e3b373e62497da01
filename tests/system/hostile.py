"""hostile.py ATTACK SOCKET SECONDS SEED [ARGUMENT...]: one attack on an engine and on the programs
that it serves, by a program of another user. Goes on until the time is over; prints one JSON object
of what it did.
"""
import contextlib
import json
import os
import random
import signal
import socket
import struct
import sys
import time

import raw_client
from raw_client import Client, Ended


class Attack:
    def __init__(self, path, seconds, seed, arguments):
        self.path = path
        self.end = time.monotonic() + seconds
        self.random = random.Random(seed)
        self.arguments = arguments
        self.counts = {}

    def going_on(self):
        return time.monotonic() < self.end

    def count(self, what, number=1):
        self.counts[what] = self.counts.get(what, 0) + number

    def attached(self):
        """A client with its first segment, or None if the engine has had enough."""
        try:
            client = Client(self.path)
            try:
                client.hello()
                self.count("attached")
                return client
            except BaseException:
                client.close()
                raise
        except (Ended, OSError, AssertionError):
            self.count("not_attached")
            time.sleep(0.02)
            return None


def odd_descriptors():
    """Descriptors of every kind but the one that is expected."""
    ends = os.pipe()
    pair = socket.socketpair()
    sockets = [socket.socket(family, kind) for family, kind in (
        (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM))]
    own = [os.memfd_create("own"), os.open("/dev/null", os.O_RDWR), os.open("/", os.O_RDONLY),
           os.pidfd_open(os.getpid())]
    held = [*pair, *sockets]
    return [*ends, *own, *(os.dup(s.fileno()) for s in held)]


def garbage(attack):
    """Packets of any length, type and content, with any descriptors, answers unread."""
    rnd = attack.random
    fds = odd_descriptors()
    while attack.going_on():
        client = attack.attached() if rnd.random() < 0.5 else Client(attack.path)
        if client is None:
            continue
        with contextlib.suppress(Ended, OSError):
            for _ in range(rnd.randrange(1, 200)):
                length = rnd.choice([0, 8, 15, 16, 24, 32, 56, 80, 96, 104, 4096, 5000])
                body = bytearray(rnd.randbytes(length))
                if length >= 16 and rnd.random() < 0.9:
                    struct.pack_into("<II", body, 0, rnd.randrange(0, 12), length)
                rights = rnd.sample(fds, rnd.choice([0, 0, 1, 1, 2, len(fds)]))
                socket.send_fds(client.socket, [bytes(body)], rights)
                attack.count("packets")
        client.close()


def scribble(attack):
    """Attached, with a listener: the whole shared memory is nonsense, again and again."""
    rnd = attack.random
    port = int(attack.arguments[0])
    while attack.going_on():
        client = attack.attached()
        if client is None:
            continue
        with contextlib.suppress(Ended, OSError), socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            listener.listen()
            segment = next(iter(client.segments))
            client.listen(listener)
            slots = [client.context(segment)[1] for _ in range(3)]
            memory = client.segments[segment]
            for _ in range(200):
                for _ in range(50):
                    line = rnd.choice([0, 1, 2, 3, 7, rnd.randrange(32768)])
                    at = raw_client.LINES + line * raw_client.LINE_BYTES + rnd.randrange(64) * 8
                    struct.pack_into("<Q", memory, at, rnd.choice(
                        [0, 1, rnd.getrandbits(16), rnd.getrandbits(64), (1 << 64) - 1]))
                client.post(segment, rnd.choice(slots) or 1, [
                    rnd.randrange(5) << 24 | rnd.choice([0, 1, 2, 3, rnd.getrandbits(24)])
                    for _ in range(rnd.randrange(1, 300))])
                if rnd.random() < 0.05:
                    at = rnd.choice([0, raw_client.CONTEXTS, raw_client.QUEUES])
                    memory[at + 64:at + 4096] = rnd.randbytes(4032)
                client.info(segment, rnd.randrange(8))
                attack.count("rounds")
        client.close()


def flood(attack):
    """Questions as fast as they can be asked."""
    while attack.going_on():
        client = attack.attached()
        if client is None:
            continue
        with contextlib.suppress(Ended, OSError):
            while attack.going_on():
                for _ in range(500):
                    client.send(raw_client.INFO, struct.pack("<II", 0, 1))
                for _ in range(500):
                    client.receive()
                attack.count("questions", 500)
        client.close()


def mute(attack):
    """As many connections as there are; those that are attached read nothing."""
    held = []
    while attack.going_on():
        try:
            client = Client(attack.path)
            client.socket.settimeout(0.5)
            if len(held) % 4 == 0:
                client.send(raw_client.HELLO, raw_client.hello_body())
            held.append(client)
            attack.count("connections")
        except (Ended, OSError):
            time.sleep(0.05)
        for client in held[-8:]:
            with contextlib.suppress(Ended, OSError):
                client.socket.setblocking(False)
                client.send(raw_client.SHOW, struct.pack("<II", 0, 0))


def dying(attack):
    """Processes that are killed in the middle of whatever they do."""
    while attack.going_on():
        child = os.fork()
        if child == 0:
            one = Attack(attack.path, 5, attack.random.getrandbits(32), attack.arguments)
            os.nice(5)
            scribble(one)
            os._exit(0)
        time.sleep(attack.random.random() * 0.2)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        attack.random.random()
        attack.count("deaths")


def connects(attack):
    """Connects to hosts that do not answer, from addresses that are not the device's."""
    address = attack.arguments[0]
    while attack.going_on():
        client = attack.attached()
        if client is None:
            continue
        with contextlib.suppress(Ended, OSError):
            for number in range(1000):
                with socket.socket() as sock:
                    if number % 2 == 0:
                        sock.bind((f"127.{attack.random.randrange(255)}.{number % 250}.1", 0))
                    body = bytes(10) + b"\xff\xff" + socket.inet_aton(
                        f"10.77.200.{number % 200 + 1}" if number % 3 else address)
                    body += struct.pack("<HHI", 9, 0, 0) + bytes(56)
                    client.send(raw_client.CONNECT, body, [sock.fileno()])
                attack.count("connects")
                if not attack.going_on():
                    break
        client.close()


def main():
    name, path, seconds, seed, *arguments = sys.argv[1:]
    attack = Attack(path, float(seconds), int(seed), arguments)
    {function.__name__: function for function in
     (garbage, scribble, flood, mute, dying, connects)}[name](attack)
    print(json.dumps(attack.counts))


main()
