#!/usr/bin/env python3
"""Who dies how, in which state of the connection, and what the others see: docs/crash-table.md."""
import os
import select
import signal
import threading
import time

import crash
import harness
import kills
from agent import LIMIT, Agent
from crash import ADDRESS
from harness import case, check, need_engine, wait_for
from raw_peer import mac_of

LATE_PORT = 7002
STOP = 2.0
FULL = os.environ.get("TOE_FULL") == "1"
with_address = harness.bed_options(extra_clients=1)


def peers_learn(places, ends, note):
    begun = time.monotonic()
    for place in places:
        seen = place.peer_says(ends)
        note(place, time.monotonic() - begun, seen)


def play_death(bed, event, kill):
    def scene(places, ends, _, note):
        for place in places:
            kill(place.agent)
        peers_learn(places, ends, note)
    crash.play(bed, event, scene)


@case
@with_address
def program_exits(bed):
    """By C's exit(), with its sockets open."""
    play_death(bed, "program exits", lambda agent: agent.start(crash.EXIT))


@case
@with_address
def program_killed(bed):
    play_death(bed, "program SIGKILL", lambda agent: agent.process.kill())


def play_end_of_engine(bed, event, number):
    """Beside it: the end of the programs on Linux. Then also the programs learn."""
    def scene(places, ends, offload, note):
        if not offload:
            for place in places:
                place.agent.process.kill()
            return peers_learn(places, ends, note)
        bed.engine.process.send_signal(number)
        begun = time.monotonic()
        for place in places:
            seen = place.peer_says(ends) + "; " + place.program_says()
            note(place, time.monotonic() - begun, seen)
        bed.engine.process.wait(harness.LIVENESS)
    crash.play(bed, event, scene)


@case
@with_address
def engine_killed(bed):
    play_end_of_engine(bed, "engine SIGKILL", signal.SIGKILL)


@case
@with_address
def engine_terminated(bed):
    play_end_of_engine(bed, "engine SIGTERM", signal.SIGTERM)


def stop(process):
    """SIGSTOP; until all threads have stopped, which takes a while on a busy machine."""
    def states():
        for task in os.listdir(f"/proc/{process.pid}/task"):
            with open(f"/proc/{process.pid}/task/{task}/stat") as file:
                yield file.read().rsplit(")", 1)[1].split()[0]
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: set(states()) == {"T"}, LIMIT, "the stop of all threads")


class Opening:
    """Connections that both sides begin to open at one time."""

    def __init__(self, bed, offload):
        self._agent = Agent(bed, offload)
        self._listener = bed.listen(LATE_PORT)
        self._thread = threading.Thread(
            target=lambda: bed.connect(LATE_PORT, seconds=LIMIT).close())

    def begin(self):
        self._agent.start(f"(c := socket()) and c.connect(('{harness.CLIENT}', {LATE_PORT}))")
        self._thread.start()

    def under_way(self):
        """Neither is open."""
        return self._thread.is_alive() and not select.select([self._listener], [], [], 0)[0]

    def finish(self):
        self._thread.join(LIMIT)
        check(not self._thread.is_alive(), "the peer's connect has not gone on")
        self._agent.finish("connect")
        check(self._agent.transcript == ["connect -> None"], f"{self._agent.transcript}")
        self._listener.accept()[0].close()
        self._listener.close()
        self._agent.stop()


@case
@with_address
def engine_stopped(bed):
    """Everything waits, then goes on; connects too. Beside it: the same without the stop."""
    def scene(places, _, offload, note):
        stopped = offload and bed.engine.process
        opening = Opening(bed, offload)
        if stopped:
            stop(stopped)
        sent = [place.exchange() for place in places]
        time.sleep(STOP * 3 / 4)
        opening.begin()  # a program waits 5 s for an answer at most
        time.sleep(STOP / 4)
        if stopped:
            check(opening.under_way(), "a handshake with a stopped engine")
            stopped.send_signal(signal.SIGCONT)
        begun = time.monotonic()
        opening.finish()
        for place, streams in zip(places, sent):
            seen = place.everything_comes(*streams)
            note(place, time.monotonic() - begun, seen)
    bed.serve(harness.echo_server("level", f"0.0.0.0:{LATE_PORT}"), LATE_PORT)
    crash.play(bed, "engine SIGSTOP for 2 s", scene)


@case
@with_address
def client_killed(bed):
    def scene(places, _, __, note):
        for place in places:
            crash.kill_owner([place.peer])
        begun = time.monotonic()
        for place in places:
            seen = place.program_says()
            note(place, time.monotonic() - begun, seen)
    crash.play(bed, "client SIGKILL", scene)


def vanish(bed):
    """The peers are mute and deaf, but not their link: its neighbour is still known."""
    bed.server.ip("neigh", "replace", ADDRESS, "lladdr",
                  mac_of(bed.client, harness.CLIENT_DEV).hex(":"), "dev", harness.SERVER_DEV,
                  "nud", "permanent")
    crash.take_away(bed, ADDRESS)


@case
@with_address
def client_vanishes(bed):
    """With keep-alive of a second and TCP_USER_TIMEOUT of two."""
    def scene(places, ends, _, note):
        for place in places:
            # The switch last: a probe that is due already waits as long as is set then.
            for option in ("IPPROTO_TCP, TCP_KEEPIDLE, 1", "IPPROTO_TCP, TCP_KEEPINTVL, 1",
                           "IPPROTO_TCP, TCP_KEEPCNT, 2", "IPPROTO_TCP, TCP_USER_TIMEOUT, 2000",
                           "SOL_SOCKET, SO_KEEPALIVE, 1"):
                check(place.agent.ask(f"c.setsockopt({option})") == "None", option)
        vanish(bed)
        begun = time.monotonic()
        for place in places:
            seen = place.program_times_out()
            note(place, time.monotonic() - begun, f"{ends.take(place.port) or 'nothing'}; {seen}")
        crash.bring_back(bed, ADDRESS)
    crash.play(bed, "client vanishes", scene)


@case
@with_address
def client_vanishes_for_a_while(bed):
    """Without timers nobody learns of it; when the peers are back all goes on."""
    def scene(places, _, __, note):
        vanish(bed)
        sent = [place.exchange() for place in places]
        time.sleep(STOP)
        crash.bring_back(bed, ADDRESS)
        begun = time.monotonic()
        for place, streams in zip(places, sent):
            seen = place.everything_comes(*streams)
            note(place, time.monotonic() - begun, seen)
    crash.play(bed, "client away for 2 s", scene)


@case
@harness.bed_options(extra_clients=kills.ADDRESSES)
def random_kills(bed):
    """After many ends with silent peers the engine holds what it held at the start."""
    need_engine()
    kills.run(bed, 200 if FULL else 40, FULL, int(os.environ.get("SEED") or 1))


harness.main()
