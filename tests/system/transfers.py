"""Transfers by curl, http.server, nc and redis-cli whose every byte is compared."""
import contextlib
import filecmp
import json
import os
import random
import threading

import harness
from harness import PYTHON, check, receive_exactly, wait_for

ASYNCIO_ECHO = """
import asyncio
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 8001)
    await server.serve_forever()
asyncio.run(main())
"""


def http_server(directory, *arguments):
    return [PYTHON, "-m", "http.server", "8000", "--directory", directory, *arguments]


def redis_server(bed, *arguments):
    return ["redis-server", "--save", "", "--appendonly", "no", "--bind", harness.SERVER,
            "--protected-mode", "no", "--dir", bed.lab.directory, *arguments]


def make_files(bed, sizes):
    """Random files in a directory of their own; their paths."""
    directory = os.path.join(bed.lab.directory, "files")
    os.makedirs(directory, exist_ok=True)
    paths = []
    for number, size in enumerate(sizes):
        paths.append(os.path.join(directory, f"{number}.bin"))
        with open(paths[-1], "wb") as file:
            file.write(os.urandom(size))
    return paths


def fetch(run, base, files, count):
    """`count` files fetched by one curl from the server at `base`, eight at a time; compared.

    `run` runs a program to its end: on the client side or, offloaded, on the server side.
    """
    lines = []
    target = os.path.join(os.path.dirname(files[0]), "fetched-")
    for number in range(count):
        source = files[number % len(files)]
        lines += [f'url = "{base}/{os.path.basename(source)}"', f'output = "{target}{number}"']
    run(["curl", "-sS", "--fail", "-m", "30", "-Z", "--parallel-max", "8", "-K", "-"],
        input="\n".join(lines))
    for number in range(count):
        check(filecmp.cmp(f"{target}{number}", files[number % len(files)], shallow=False),
              f"file {number} differs")
        os.unlink(f"{target}{number}")


def netcat(bed, address, size=1_000_000, count=1):
    """An offloaded nc, `count` times: it sends half of `size`, ends its direction, receives the
    other half."""
    up, down = os.urandom(size // 4).hex(), os.urandom(size // 4).hex()
    got = []

    def serve(listener):
        for _ in range(count):
            connection, _ = listener.accept()
            connection.settimeout(10)
            got.append(receive_exactly(connection, len(up)).decode() == up
                       and connection.recv(1) == b"")
            connection.sendall(down.encode())
            connection.close()
    with contextlib.closing(bed.listen(9000, address)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        for _ in range(count):
            done = bed.run_server_side(["nc", "-N", address, "9000"], input=up)
            check(done.stdout == down, "nc got something else")
        thread.join(10)
    check(got == [True] * count, "the server got something else")


def redis_commands(bed, count):
    """`count` commands through one redis-cli, each answer compared."""
    values, commands, answers = {}, [], []
    chosen = random.Random(count)
    for number in range(count):
        key = f"key{chosen.randrange(100)}"
        if key in values and number % 2:
            commands.append(f"GET {key}")
            answers.append(values[key])
        else:
            values[key] = chosen.randbytes(chosen.randrange(1, 200)).hex()
            commands.append(f"SET {key} {values[key]}")
            answers.append("OK")
    said = bed.client.run(["redis-cli", "-h", harness.SERVER], input="\n".join(commands) + "\n",
                          seconds=60).stdout.splitlines()
    check(len(said) == count, f"{len(said)} answers to {count} commands")
    wrong = [number for number in range(count) if said[number] != answers[number]]
    check(not wrong, f"{len(wrong)} answers differ, first to {commands[wrong[0]] if wrong else ''}")


def iperf(serve, run, address, seconds, *arguments):
    """One test of iperf3: the bytes received. `run(argv)` gives what a client said.

    Each has a server of its own: between two tests a server closes its listener for a moment.
    """
    server = serve(["iperf3", "-s", "-1"], 5201)
    report = json.loads(run(["iperf3", "-c", address, "-t", seconds, "-J", *arguments]))
    check("error" not in report, report.get("error"))
    wait_for(lambda: not server.running(), 20, "the end of iperf3 -s -1")
    return report["end"]["sum_received"]["bytes"]
