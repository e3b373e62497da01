"""Programs and clients that end at random while their peers say nothing.

Each program has some connections in drawn states (crash.enter). Some programs live on with
connections whose client has died or vanished, and end some rounds later. What the engine then has
must be what it had at the start.
"""
import random
import time

import crash
import volume
from agent import PORT, Agent, reset
from harness import CLIENT, check, wait_for

ADDRESSES = 120  # of clients that may vanish
PORTS = 4  # used in turn, while connections of earlier programs are still there
WARM_UP = 8  # kills in front of a short run; in front of a long one all are made once
LINGERING = 6  # programs at most that have survived their clients
SOON, AT_LAST = 45, 600  # seconds; AT_LAST: an orphan before a closed window lives for 325 s


class Kills:
    def __init__(self, bed):
        self.bed = bed
        self.random = random.Random()
        self.levels = volume.Levels(bed)
        self.unused = [f"10.77.1.{number + 1}" for number in range(ADDRESSES)]
        self.vanished = []
        self.peers = []  # silent, until the test ends
        self.survivors = []  # programs
        self.counts = {}

    def read(self):
        with open(f"/proc/{self.bed.engine.pid}/maps") as maps:
            return {**self.levels.read(), "mappings": len(maps.readlines())}

    def one(self, number):
        """A program, its connections, and the end of either."""
        agent = Agent(self.bed, True)
        port = PORT + number % PORTS
        event = self.random.choice((self.exit, self.kill, self.client_killed, self.client_vanishes))
        address = self.unused.pop() if event == self.client_vanishes else CLIENT
        agent.ask(f"(l := create_server(('0.0.0.0', {port}))) and None")
        agent.ask("(kept := []) and None")
        peers = []
        for _ in range(self.random.randint(1, 3)):
            peers.append(crash.connect(self.bed, address, port))
            agent.ask("(c := l.accept()[0]) and kept.append(c)")
            state = self.random.choice(crash.STATES)
            crash.enter(agent, peers[-1], state)
            self.count(state)
        agent.ask("l.close()")
        self.count(event.__name__)
        event(agent, peers, address)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- Events

    def exit(self, agent, peers, _):
        self.peers += peers
        agent.start(crash.EXIT)
        agent.hang_up()

    def kill(self, agent, peers, _):
        self.peers += peers
        agent.process.kill()
        agent.hang_up()

    def client_killed(self, agent, peers, _):
        crash.kill_owner(peers)
        self.survive(agent)

    def client_vanishes(self, agent, peers, address):
        self.peers += peers
        crash.take_away(self.bed, address)
        self.vanished.append(address)
        self.survive(agent)

    def survive(self, agent):
        """The program lives for a while; or one that has for long ends."""
        self.survivors.append(agent)
        while len(self.survivors) > LINGERING:
            self.end_survivor()

    def end_survivor(self):
        agent = self.survivors.pop(self.random.randrange(len(self.survivors)))
        self.random.choice((self.exit, self.kill))(agent, [], None)

    # --- Ends

    def end_programs(self):
        while self.survivors:
            self.end_survivor()

    def end_silence(self):
        """The vanished come back, and all peers reset their connections."""
        for address in self.vanished:
            crash.bring_back(self.bed, address)
        self.unused += self.vanished
        for peer in self.peers:
            reset(peer)
        self.vanished, self.peers = [], []

    def wait_level(self, wanted, seconds):
        """Until all is as `wanted`: how long each took that was not."""
        began, took, now = time.monotonic(), {}, {}

        def back():
            now.update(self.read())
            for name, value in now.items():
                if value != wanted[name]:
                    took[name] = time.monotonic() - began
            return now == wanted
        wait_for(back, seconds, lambda: f"{wanted}; now it is {now}")
        return {name: round(value, 1) for name, value in took.items()}


def run(bed, count, silent, seed):
    """`silent`: the peers stay silent until the engine has given all of them up."""
    print(f"{count} kills, SEED={seed}", flush=True)
    kills = Kills(bed)
    start, resident = kills.read(), [kills.levels.resident()]
    for total, to_the_end in ((count if silent else WARM_UP, False), (count, silent)):
        kills.random = random.Random(seed)
        with bed.engine_opens():
            for number in range(total):
                kills.one(number)
            kills.end_programs()
        most = kills.read()
        if not to_the_end:
            kills.end_silence()
        took = kills.wait_level(start, AT_LAST if to_the_end else SOON)
        resident.append(kills.levels.resident())
        print(f"{total} kills: {most}\nback to {start}\nafter seconds: {took}", flush=True)
    kills.end_silence()
    print(f"{kills.counts}\nresident memory at the start and after each round:"
          f" {[f'{value / 1e6:.2f} MB' for value in resident]}", flush=True)
    check(resident[2] <= resident[1] + volume.GROWTH_BYTES, "the engine's resident memory grew")
