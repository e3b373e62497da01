#!/usr/bin/env python3
"""Engine and libtoe of different versions: kernel sockets and one line."""
import contextlib
import os
import socket
import struct
import threading

import harness
import raw_client
from harness import FLEXTOE, SERVER, case, check, echo_server, need_engine, wait_for

PORT = 7001
VERSION = 2  # KernelReason::kVersion


def welcome(abi=raw_client.ABI, features=raw_client.FEATURES, extra=b""):
    return raw_client.WELCOME, struct.pack("<HHIQQQQ", abi, 0, 1, features, 0, 0, 0) + extra


REFUSED = (raw_client.REFUSED, struct.pack("<Ii", VERSION, 0))
# What an engine of another version may answer to our Hello.
ANSWERS = {"refused": REFUSED, "newer": welcome(abi=2), "longer": welcome(extra=bytes(16)),
           "shorter": (raw_client.WELCOME, bytes(16)),
           "without_features": welcome(features=1 << 40), "unknown": (200, bytes(40))}


@contextlib.contextmanager
def foreign_engine(bed, answer):
    """Something that is no engine of ours listens where libtoe looks. Counts its Hellos."""
    path = os.path.join(bed.lab.directory, "run", "default.sock")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(16)
    hellos = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                hello = connection.recv(4096)
                if len(hello) >= raw_client.HEADER.size:
                    _, _, tag = raw_client.HEADER.unpack_from(hello)
                    hellos.append(hello)
                    connection.send(raw_client.message(answer[0], tag, answer[1]))
                connection.close()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield hellos
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        os.unlink(path)


@case
def engine_of_another_version(bed):
    """The program runs on the kernel's sockets and has said so once."""
    need_engine()
    check(bed.engine.stop() == 0, "not a clean exit")
    bed.engine = None
    for number, (name, answer) in enumerate(ANSWERS.items()):
        port = PORT + number
        with foreign_engine(bed, answer) as hellos:
            server = bed.server.start([FLEXTOE, "exec", "--",
                                       *echo_server("level", f"0.0.0.0:{port}")])
            bed.server.wait_listening(server, port)
            for size in (1, 100000):
                connection = bed.connect(port)
                harness.echo_once(connection, os.urandom(size))
                connection.close()
            check(hellos, f"{name}: nobody asked the engine")
            said = [line for line in server.output().splitlines() if "libtoe:" in line]
            check(len(said) == 1 and "another version" in said[0] and "kernel" in said[0],
                  f"{name}: {said}")
            server.stop()


@case
def program_of_another_version(bed):
    """The engine refuses it with the reason, whatever the rest of its Hello looks like."""
    need_engine()
    path = os.path.join(bed.lab.directory, "run", "default.sock")
    foreign = {"newer": raw_client.hello_body(abi=2), "older": raw_client.hello_body(abi=0),
               "longer": raw_client.hello_body(abi=2, extra=bytes(200)),
               "shortest": raw_client.hello_body(abi=2)[:8],
               "without_features": raw_client.hello_body(features=0)}
    for name, hello in foreign.items():
        client = raw_client.Client(path)
        kind, body, _ = client.ask(raw_client.HELLO, hello)
        check(kind == raw_client.REFUSED and raw_client.refusal(body) == (VERSION, 0),
              f"{name}: {kind} {body}")
        try:
            client.receive()
            check(False, f"{name}: the connection is still there")
        except raw_client.Ended:
            client.close()
    wait_for(lambda: "another version" in bed.engine.process.output(), 5, "a line in the log")
    bed.serve(echo_server("level", f"0.0.0.0:{PORT}"), PORT)
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:{PORT}", "-n", "100")


harness.main()
