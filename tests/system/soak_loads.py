"""The services of a soak and the load on them. Every byte of every answer is compared."""
import contextlib
import json
import os
import random
import socket
import threading
import time

import harness
import soak
import transfers
from harness import CLIENT, CLIENT6, PYTHON, SERVER, SERVER6, check, client_program, echo_server
from netns import LabError

FILE_SIZES = [1, 1460, 20_000, 100_000, 2_000_000]
SLOW_FILE = len(FILE_SIZES) - 1
MEMCACHED, REDIS, HTTP, BULK, KERNEL = 11211, 6379, 8000, 7004, 7009
LEVEL, EDGE, THREADS = 7001, 7002, 7003
PEER_ECHO, PEER_HTTP, PEER_BULK = 9001, 8000, 9002  # of the client side's kernel
VALUE_BYTES, ECHO_BYTES = 8000, 30_000


class Service:
    """A server program that ends and comes back on its port."""

    def __init__(self, soak_, name, port, argv, offload=True, client_side=False):
        self.soak, self.name, self.port, self.argv = soak_, name, port, argv
        self.offload, self.client_side = offload, client_side
        self.process = None

    def start(self):
        bed = self.soak.bed
        if self.client_side:
            self.process = bed.client.serve(self.argv, self.port)
        else:
            self.process = bed.serve(self.argv, self.port, self.offload)

    def stop(self):
        if self.process is not None:
            self.process.stop()

    def kill(self):
        self.process.kill()

    def runs(self):
        return self.process is not None and self.process.running()

    def describe_end(self):
        return f"status {self.process.returncode()}, {self.process.output()[-500:]}"


def services(soak_):
    bed = soak_.bed
    paths = transfers.make_files(bed, FILE_SIZES)
    soak_.files = []
    for path in paths:
        with open(path, "rb") as file:
            soak_.files.append(file.read())
    directory = os.path.dirname(paths[0])
    bulk = client_program("bulk")

    def service(name, port, argv, **more):
        return Service(soak_, name, port, argv, **more)
    return [
        service("memcached", MEMCACHED, ["memcached", "-u", "nobody", "-t", "4", "-m", "128", "-l",
                                         f"{SERVER},{SERVER6}", "-p", MEMCACHED]),
        service("redis", REDIS, transfers.redis_server(bed, "--bind", SERVER, SERVER6)),
        service("echo level", LEVEL, echo_server("level", f"[::]:{LEVEL}")),
        service("echo edge", EDGE, echo_server("edge", f"[::]:{EDGE}")),
        service("echo threads", THREADS, echo_server("threads", f"[::]:{THREADS}")),
        service("http.server", HTTP, transfers.http_server(directory, "--bind", "::")),
        service("bulk", BULK, [bulk, "--serve", f"[::]:{BULK}"]),
        service("kernel's echo", KERNEL, echo_server("level", f"[::]:{KERNEL}"), offload=False),
        service("peer's echo", PEER_ECHO, echo_server("level", f"[::]:{PEER_ECHO}"),
                offload=False, client_side=True),
        service("peer's http", PEER_HTTP, transfers.http_server(directory, "--bind", "::"),
                offload=False, client_side=True),
        service("peer's bulk", PEER_BULK, [bulk, "--serve", f"[::]:{PEER_BULK}"], offload=False,
                client_side=True)]


# --- One connection and what is said on it: round() is one request and its answer.

class Conversation:
    served = False  # a round has been answered

    def __init__(self, address, port, chosen):
        self.random = chosen
        self.socket = socket.create_connection((address, port), soak.HOPELESS_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = time.monotonic()  # when it was last known to live

    def whole_until(self):
        """Since when an event may have cut it."""
        return self.since

    def close(self):
        self.socket.close()

    def expect(self, data):
        """The next bytes are these; compared as they come."""
        seen = 0
        while seen < len(data):
            more = self.socket.recv(len(data) - seen)
            if not more:
                raise ConnectionError(f"end after {seen} of {len(data)} bytes")
            if more != data[seen:seen + len(more)]:
                raise soak.WrongBytes(f"behind byte {seen} of {len(data)}: {more[:60]!r}, not"
                                      f" {data[seen:seen + 60]!r}")
            seen += len(more)


class Echo(Conversation):
    def round(self):
        data = self.random.randbytes(self.random.randrange(1, ECHO_BYTES))
        self.socket.sendall(data)
        self.expect(data)


class Idle(Conversation):
    """Many connections of which one says something now and then."""
    COUNT = 50

    def __init__(self, address, port, chosen):
        self.all = []
        self.random = chosen
        try:
            for _ in range(self.COUNT):
                self.all.append(Echo(address, port, chosen))
        except BaseException:
            self.close()
            raise

    @property
    def since(self):
        return min(one.since for one in self.all)

    @since.setter
    def since(self, when):
        self.last.since = when

    def round(self):
        self.last = self.random.choice(self.all)
        self.last.round()

    def close(self):
        for one in self.all:
            one.close()


class KeyValue(Conversation):
    """Sets and gets, each answer known before it is asked for."""

    def __init__(self, address, port, chosen):
        super().__init__(address, port, chosen)
        self.name = f"k{chosen.getrandbits(48):x}"
        self.values = {}

    def round(self):
        key = f"{self.name}-{self.random.randrange(10)}"
        if key in self.values and self.random.random() < 0.7:
            self.get(key.encode(), self.values[key])
        else:
            value = self.random.randbytes(self.random.randrange(1, VALUE_BYTES))
            self.set(key.encode(), value)
            self.values[key] = value


class Memcached(KeyValue):
    def set(self, key, value):
        self.socket.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        self.expect(b"STORED\r\n")

    def get(self, key, value):
        self.socket.sendall(b"get %s\r\n" % key)
        self.expect(b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key, len(value), value))


class Redis(KeyValue):
    def ask(self, *words):
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    def set(self, key, value):
        self.ask(b"SET", key, value)
        self.expect(b"+OK\r\n")

    def get(self, key, value):
        self.ask(b"GET", key)
        self.expect(b"$%d\r\n%s\r\n" % (len(value), value))


class Slow(Conversation):
    """Reads a large file in small pieces, each a round."""
    PIECE = 16_000

    def __init__(self, address, port, chosen, files):
        super().__init__(address, port, chosen)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_000)
        self.socket.sendall(b"GET /%d.bin HTTP/1.0\r\n\r\n" % SLOW_FILE)
        self.data, self.seen = files[SLOW_FILE], None
        self.opened = self.since

    def whole_until(self):
        """Rounds go on when the server has ended, with what it had sent before."""
        return self.opened

    def round(self):
        if self.seen is None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                more = self.socket.recv(1)
                if not more:
                    raise ConnectionError("end within the header")
                head += more
            if b" 200 " not in head[:20]:
                raise soak.WrongBytes(f"{head!r}")
            self.seen = 0
        self.expect(self.data[self.seen:self.seen + self.PIECE])
        self.seen += self.PIECE
        if self.seen >= len(self.data):
            raise Done


class Done(Exception):
    """The conversation has said all."""


# --- Threads that converse, and threads that run programs.

class Load(threading.Thread):
    offloaded_client = False

    def __init__(self, soak_, name, target):
        super().__init__(daemon=True, name=name)
        self.soak, self.target = soak_, target
        self.random = random.Random(f"{name} {soak_.random.random()}")
        self.parked = False

    def run(self):
        with self.place():
            while not self.soak.over:
                if self.soak.hold.is_set():
                    self.leave()
                    self.parked = True
                    time.sleep(0.02)
                    continue
                self.parked = False
                try:
                    self.attempt()
                except Exception as failure:  # of any kind: a load that ends shows nothing any more
                    self.soak.broken(self.name, failure)
            self.leave()

    def place(self):
        return contextlib.nullcontext()

    def leave(self):
        """Before a rest."""

    def end(self):
        """The soak is over: cuts short what is under way."""


class Talk(Load):
    """A conversation of the client side's kernel, of `rounds` on average, that is opened again
    whenever it has ended."""

    def __init__(self, soak_, name, target, opens, pause, rounds):
        super().__init__(soak_, name, target)
        self.opens, self.pause, self.rounds = opens, pause, rounds
        self.conversation, self.left = None, 0

    def place(self):
        return self.soak.bed.client.inside()

    def leave(self):
        if self.conversation is not None:
            self.conversation.close()
            self.conversation = None

    def attempt(self):
        begin = known = time.monotonic()
        kind = soak.REFUSED
        try:
            if self.conversation is None:
                self.conversation = self.opens(self.random)
                self.left = self.random.randrange(1, 2 * self.rounds)
            # What ends before its first answer was never served: a refusal that came late.
            kind = soak.CUT if self.conversation.served else soak.REFUSED
            known = self.conversation.since
            self.conversation.round()
            self.conversation.served = True
            self.conversation.since = time.monotonic()
            self.soak.answered(self.name, self.target, begin, time.monotonic())
            self.left -= 1
            if self.left == 0:
                self.leave()
        except Done:
            self.leave()
        except soak.WrongBytes as failure:
            self.soak.wrong(self.name, failure)
            self.leave()
        except OSError as failure:
            place = "open" if self.conversation is None else f"served: {self.conversation.served}"
            if isinstance(failure, TimeoutError):
                kind = soak.HANG
                self.tell_of_hang()
            elif self.conversation is not None:
                known = self.conversation.whole_until()
            self.soak.happened(kind, self.name, self.target, known, f"{failure!r} ({place})")
            self.leave()
            self.soak.rest(0.1)
        self.soak.rest(self.random.random() * 2 * self.pause)


    def tell_of_hang(self):
        """What engine, kernels and neighbour tables know of a connection that says nothing."""
        if not hasattr(self.conversation, "socket"):
            return
        bed, port = self.soak.bed, self.conversation.socket.getsockname()[1]
        facts = [f"client port {port}"]
        with contextlib.suppress(Exception):  # the engine may be gone
            facts += [json.dumps(row) for row in bed.engine.ask("conns")["conns"]
                      if row["remote"].endswith(f":{port}")]
        for side in (bed.client, bed.server):
            for argv in (["ss", "-tanoiH", f"( sport = :{port} or dport = :{port} )"],
                         ["ip", "neigh"]):
                facts.append(side.run(argv, check=False).stdout)
        self.soak.record.say("hang of " + self.name + ": " + "\n".join(facts))


class Runs(Load):
    """A program that is run to its end again and again."""
    SECONDS = 40

    def __init__(self, soak_, name, target, argv, pause=0.3, server_side=False, judge=None):
        """`argv(random)`: the program, and what it is given; judge(said) looks at what it said."""
        super().__init__(soak_, name, target)
        self.argv, self.pause, self.judge = argv, pause, judge
        self.offloaded_client = server_side
        self.process, self.killed = None, False

    def attempt(self):
        begin, bed = time.monotonic(), self.soak.bed
        argv = self.argv(self.random)
        self.killed = False
        try:
            if self.offloaded_client:
                self.process = bed.server.start(bed.under_engine(argv, strict=False))
            else:
                self.process = bed.client.start(argv)
            status, said = self.process.wait(self.SECONDS), self.process.output()
            os.unlink(self.process.log)
            if status == 0 and self.judge is not None:
                self.judge(said)
            if status == 0:
                self.soak.record.operations[self.name] += 1
                self._look_at_stand(said, begin)
            elif not self.killed:
                # It opens connections under way; that none is cut is for the conversations to see.
                self.soak.happened(soak.REFUSED, self.name, self.target, begin,
                                   f"exit {status}: {said[-300:]}")
        except LabError as failure:
            self.process.kill()
            self.soak.happened(soak.HANG, self.name, self.target, begin, str(failure)[:300])
        except soak.WrongBytes as failure:
            self.soak.wrong(self.name, failure)
        self.soak.rest(self.pause)

    def _look_at_stand(self, said, begin):
        """Load generators measure how long a connection stood still."""
        last = said.strip().splitlines()[-1] if said.strip() else ""
        if not last.startswith("{"):
            return
        stood = json.loads(last).get("longest_stand_s", 0)
        if stood > self.soak.stall:
            self.soak.happened(soak.STALL, self.name, self.target, begin,
                               f"a connection stood still for {stood:.2f} s")

    def kill(self):
        self.killed = True
        self.process.kill()

    def end(self):
        if self.process is not None and self.process.running():
            self.kill()


def _ended_well(word):
    def judge(said):
        if word not in said:
            raise soak.WrongBytes(said[-300:])
    return judge


def _netcat(soak_, address):
    """A shell that compares what nc got with what it sent."""
    path = os.path.join(soak_.bed.lab.directory, "files", "2.bin")
    return lambda chosen: ["sh", "-c", f"nc -N {address} {PEER_ECHO} <{path} | cmp - {path}"
                           " && echo same"]


def _curl(soak_, host):
    files = os.path.join(soak_.bed.lab.directory, "files")
    url = f"http://{host}:{PEER_HTTP}"
    names = [f"{number}.bin" for number in range(SLOW_FILE)]
    each = " && ".join(f"curl -gsS --fail -m 30 {url}/{name} | cmp - {files}/{name}"
                       for name in names)
    return lambda chosen: ["sh", "-c", f"{each} && echo same"]


def _bulk(host, port, size):
    return lambda chosen: [client_program("bulk"), "--connect", f"{host}:{port}", "--seed",
                           chosen.randrange(1 << 30), "--up", size, "--down", size]


def _generator(name, *arguments):
    return lambda chosen: [client_program(name), *arguments, "--seed", chosen.randrange(1 << 30)]


def loads(soak_):
    v6 = f"[{SERVER6}]"

    def talk(name, target, what, address, port, pause, rounds):
        return Talk(soak_, name, target, lambda chosen: what(address, port, chosen), pause, rounds)
    found = []
    for word, address in (("IPv4", SERVER), ("IPv6", SERVER6)):
        found += [
            talk(f"memcached {word}", "memcached", Memcached, address, MEMCACHED, 0.01,
                 500),
            talk(f"redis {word}", "redis", Redis, address, REDIS, 0.01, 2000),
            talk(f"echo level {word}", "echo level", Echo, address, LEVEL, 0.01, 1000),
            talk(f"echo edge {word}", "echo edge", Echo, address, EDGE, 0.01, 200),
            talk(f"echo threads {word}", "echo threads", Echo, address, THREADS, 0.01, 20),
            talk(f"short {word}", "echo level", Echo, address, LEVEL, 0.01, 1),
            talk(f"short redis {word}", "redis", Redis, address, REDIS, 0.02, 3),
            talk(f"idle {word}", "echo edge", Idle, address, EDGE, 0.5, 60),
            talk(f"kernel's echo {word}", "kernel's echo", Echo, address, KERNEL, 0.02,
                 10_000),
            Talk(soak_, f"slow reader {word}", "http.server",
                 lambda chosen, address=address: Slow(address, HTTP, chosen, soak_.files), 0.05,
                 10_000)]
    size = 500_000 if soak_.bed.lab.middle else 5_000_000
    found += [
        Runs(soak_, "bulk IPv4", "bulk", _bulk(SERVER, BULK, size), 1),
        Runs(soak_, "bulk IPv6", "bulk", _bulk(v6, BULK, size), 1),
        Runs(soak_, "memcheck", "memcached", _generator(
            "memcheck", "--server", f"{SERVER}:{MEMCACHED}", "-c", 20, "-n", 5000), 1),
        Runs(soak_, "echoload", "echo edge", _generator(
            "echoload", "--server", f"{v6}:{EDGE}", "-c", 30, "--seconds", 1), 1),
        Runs(soak_, "curl offloaded", "programs", _curl(soak_, CLIENT), 0.5, True,
             _ended_well("same")),
        Runs(soak_, "curl IPv6 offloaded", "programs", _curl(soak_, f"[{CLIENT6}]"), 0.5, True,
             _ended_well("same")),
        Runs(soak_, "nc offloaded", "programs", _netcat(soak_, CLIENT), 0.5, True,
             _ended_well("same")),
        Runs(soak_, "bulk offloaded", "programs", _bulk(CLIENT, PEER_BULK, size), 1, True),
        Iperf(soak_)]
    return found


class Iperf(Load):
    """iperf3, both ways in turn, its bytes only counted."""

    def __init__(self, soak_):
        super().__init__(soak_, "iperf3", "iperf3")
        self.server = None

    offloaded_client = True  # its server comes and goes with each test

    def attempt(self):
        begin, bed = time.monotonic(), self.soak.bed
        try:
            check(transfers.iperf(self._serve, self._run, SERVER, 1,
                                  *self.random.choice([[], ["-R"]])) > 0, "no byte")
            self.soak.record.operations[self.name] += 1
        except (AssertionError, LabError, ValueError) as failure:
            self.soak.happened(soak.REFUSED, self.name, self.target, begin, str(failure)[-300:])
        finally:
            self.end()
        self.soak.rest(3)

    def _serve(self, argv, port):
        self.server = self.soak.bed.server.start(self.soak.bed.under_engine(argv, strict=False))
        self.soak.bed.wait_listening(self.server, port)
        return self.server

    def _run(self, argv):
        return self.soak.bed.client.run(argv, seconds=soak.HOPELESS_SECONDS).stdout

    def end(self):
        if self.server is not None:
            self.server.stop()
