#!/usr/bin/env python3
"""Programs of another user that lie, flood and die: the engine and the programs of others lose
nothing, and nothing of theirs can be had."""
import contextlib
import json
import os
import shutil

import harness
import raw_client
import strangers
from harness import PYTHON, SERVER, case, check, need_engine, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
VICTIM = 65533
PORT = 11211
SECONDS = 2  # of each attack


def socket_path(bed):
    return os.path.join(bed.lab.directory, "run", "default.sock")


def serve_victim(bed):
    """memcached of a user of its own."""
    argv = ["memcached", "-t", "1", "-m", "64", "-c", "1024", "-l", SERVER, "-p", str(PORT)]
    server = bed.server.start(strangers.under_engine(bed, [shutil.which("memcached"), *argv[1:]],
                                                     VICTIM, VICTIM))
    bed.wait_listening(server, PORT)
    return server


def start_as_nobody(bed, script, *arguments, environment=()):
    """A script of this directory, with less right to the CPU than those who are measured."""
    place = strangers.install(bed)
    for file in (script, "raw_client.py"):
        if not os.path.exists(os.path.join(place, file)):  # another may be reading it
            shutil.copy(os.path.join(HERE, file), place)
    argv = [PYTHON, os.path.join(place, script), *map(str, arguments)]
    return bed.server.start(["nice", "-n", "10", *strangers.as_user(argv)],
                            env={**bed.lab.environment(), **dict(environment)})


def listening_as(bed, uid, port, served=True):
    argv = ["echo_server", "--mode", "level", "--listen", f"0.0.0.0:{port}"]
    process = bed.server.start(strangers.under_engine(bed, argv, uid, uid))
    if served:
        bed.wait_listening(process, port)
    return process


def load(bed, operations=4000, connections=10):
    bed.load("memcheck", "--server", f"{SERVER}:{PORT}", "-c", connections, "-n", operations)


def held(bed):
    """What the engine has of programs."""
    status = bed.engine.ask("status")
    return {"segments": status["segments"], "flows": status["flows"],
            "descriptors": len(os.listdir(f"/proc/{bed.engine.pid}/fd")),
            "users": {u["uid"]: (u["programs"], u["segments"]) for u in status["users"]
                      if u["uid"] != 0},
            "frames": bed.engine.ask("stats")["levels"]["frames_held"]}


def nothing_is_left(before, now):
    """Of the attackers, whose hundreds of programs had descriptors, segments and flows. A few
    descriptors come and go with whoever asks."""
    users = {**before["users"], strangers.NOBODY: (0, 0)}
    return (now["descriptors"] <= before["descriptors"] + 3
            and {**now, "descriptors": 0} == {**before, "users": users, "descriptors": 0})


def others_lose_nothing(bed, *attacks):
    """The attacks, one after the other, while another user's memcached serves checked load."""
    need_engine()
    seed = int(os.environ.get("SEED") or 1)
    print(f"SEED={seed}")
    server = serve_victim(bed)
    load(bed)
    before = held(bed)
    with bed.engine_opens():
        for number, (name, *arguments) in enumerate(attacks):
            attacker = start_as_nobody(bed, "hostile.py", name, socket_path(bed), SECONDS,
                                       seed + number, *arguments)
            while attacker.running():
                load(bed)
            status = attacker.wait(30)
            said = attacker.output().strip()
            check(status == 0, f"{name} ended with {status}: {said[-2000:]}")
            print(f"{name}: {said}")
            check(sum(json.loads(said).values()) > 0, f"{name} did nothing")
            check(server.running(), "the victim has gone: " + server.output())
    wait_for(lambda: nothing_is_left(before, held(bed)), 20,
             lambda: f"what was there before: {before}, but there is {held(bed)}")
    load(bed)
    return bed.engine.ask("stats")["counters"]


@case
def lies(bed):
    """Packets and shared memory of any content."""
    counters = others_lose_nothing(bed, ("garbage",), ("scribble", 7001), ("dying", 7002))
    check(counters["misbehaved"] > 0, "nobody was found to misbehave")


@case
@harness.bed_options(run_arguments=["--max-programs-per-user", "100", "--max-requests-per-user",
                                    "2000"])
def floods(bed):
    """More questions, programs and connects than a user may have."""
    counters = others_lose_nothing(bed, ("flood",), ("mute",), ("connects", SERVER))
    check(counters["user_requests_delayed"] > 0, "nobody had to wait")
    check(counters["user_shares_refused"] > 0, "nobody had enough")


@case
def nothing_can_be_stolen(bed):
    """No segment, line, socket or process of another user by any name, nor its addresses, nor the
    cookies that its next sockets will have."""
    need_engine()
    victim = serve_victim(bed)
    idle = bed.connect(PORT)
    count = 64
    thief = start_as_nobody(bed, "thief.py", socket_path(bed), 7001, count, PORT, bed.engine.pid,
                            victim.pid, environment={"SERVER": SERVER})
    wait_for(lambda: "listening" in thief.output() or not thief.running(), 10, thief.output)
    check(thief.running(), thief.output())
    bed.wait_listening(thief, 7001)
    peers = [bed.connect(7001) for _ in range(count)]
    wait_for(lambda: "leaks" in thief.output() or not thief.running(), 30, thief.output)
    check(thief.running(), thief.output())
    found = json.loads(thief.output().splitlines()[-1])
    print(f"{found['tried']} tries")
    check(not found["leaks"], f"got at {found['leaks']}")
    check(found["tried"] > 1000 and len(set(found["lines"])) == count, f"{found}")
    # The bytes went where the connection is, not where its line says.
    check(harness.receive_exactly(peers[0], 6) == b"stolen", "other bytes")
    idle.sendall(b"version\r\n")
    check(idle.recv(100).startswith(b"VERSION"), "foreign bytes on the victim's connection")
    # The victim's next sockets have the cookies that the thief has claimed.
    dropped = bed.engine.ask("stats")["counters"]["misbehaved"]
    with bed.engine_opens():
        load(bed, connections=2 * count)
    check(bed.engine.ask("stats")["counters"]["misbehaved"] == dropped, "the victim was blamed")
    check([p["uid"] for p in bed.engine.ask("status")["processes"] if p["pid"] == victim.pid]
          == [VICTIM], "the victim was disconnected")
    for connection in [idle, *peers]:
        connection.close()


@case
@harness.bed_options(run_arguments=["--max-programs-per-user", "3", "--max-listeners-per-user",
                                    "2", "--max-flows-per-user", "5"])
def limits_of_a_user(bed):
    """Each user has its own limits; status and stats tell who met them."""
    need_engine()
    strangers.install(bed, "echo_server")
    mine = [listening_as(bed, strangers.NOBODY, 7001 + number) for number in range(2)]
    third = listening_as(bed, strangers.NOBODY, 7003, served=False)
    check(third.wait(10) != 0, "a third listener of one user")
    other = listening_as(bed, VICTIM, 7004)
    held_open = [bed.connect(7001) for _ in range(5)]
    for connection in held_open:
        harness.echo_once(connection, b"x")
    with contextlib.closing(bed.connect(7004)) as connection:
        harness.echo_once(connection, b"another user's")
    kernel = bed.connect(7002)  # the SYN-ACK comes, room for the connection does not
    kernel.settimeout(1)
    kernel.sendall(b"one too many")
    with contextlib.suppress(TimeoutError):
        check(not kernel.recv(100), "a sixth connection of one user")
    held_open[0].close()
    kernel.settimeout(10)
    check(harness.receive_exactly(kernel, 12) == b"one too many", "what is given back is lost")
    clients = []
    with contextlib.suppress(raw_client.Ended, OSError):
        for _ in range(10):
            clients.append(start_as_nobody(bed, "holder.py", socket_path(bed)))
    wait_for(lambda: sum("no" in c.output() for c in clients) == 9
             and sum("attached" in c.output() for c in clients) == 1, 20,
             lambda: f"{[c.output() for c in clients]}")
    users = {u["uid"]: u for u in bed.engine.ask("status")["users"]}
    check(users[strangers.NOBODY]["programs"] == 3, f"{users}")
    check(users[strangers.NOBODY]["refused"] >= 9 and users[VICTIM]["refused"] == 0, f"{users}")
    counters = bed.engine.ask("stats")["counters"]
    check(counters["user_limits"] > 0 and counters["user_shares_refused"] >= 9, f"{counters}")
    check(all(p.running() for p in [*mine, other]), "a program ended")
    for connection in [kernel, *held_open]:
        connection.close()


if __name__ == "__main__":
    harness.main()
