#!/usr/bin/env python3
"""preload_test engine|slow|kernel|death|odd [PROGRAM...]: programs with libtoe preloaded.

engine: under a fake engine, both ends offloaded; its counters must show every connection.
slow: the same with an engine that moves bytes rarely, so that rings are full and grow.
kernel: plain, and with libtoe.so and no engine: libtoe must be transparent.
death: the engine is killed under a running program and comes back.
odd: the programs of odd_calls print what each call answers: the same lines on the kernel and on a
fake engine.
The others are those of preload_programs.py.
"""
import difflib
import functools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("TOE_BUILD", os.path.join(HERE, "../../build"))
LIBRARY = os.path.join(BUILD, "lib/libtoe.so")
ODD = os.path.join(BUILD, "bin/odd_calls")
ENGINE = os.path.join(BUILD, "bin/fake_engine")
LIMIT = 60
sys.path.insert(0, HERE)
import preload_programs  # noqa: E402


def command_of(name, port, address):
    """In a network namespace of its own: nothing but the loopback and the engine answers."""
    program = [sys.executable, os.path.join(HERE, "preload_programs.py"), name, address, str(port)]
    if name in odd_names():
        program = [ODD, name, address, str(port)]
    return ["unshare", "-n", "sh", "-c", "ip link set lo up && exec env $LIBTOE " +
            shlex.join(program)]


@functools.lru_cache
def odd_names():
    return subprocess.run([ODD, "list"], capture_output=True, text=True, check=True).stdout.split()


def preload(folder):
    return dict(os.environ, LIBTOE=f"LD_PRELOAD={LIBRARY} FLEXTOE_RUNDIR={folder}")


def run(name, port, address, env):
    started = time.monotonic()
    command = command_of(name, port, address)
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
        output, code = done.stdout + done.stderr, done.returncode
        if code < 0:
            output += f"\nkilled by {signal.Signals(-code).name}"
    except subprocess.TimeoutExpired as e:
        output, code = str(e.stdout) + str(e.stderr) + "\ntimed out", 1
    return code == 0 and "ok " + name in output, output, time.monotonic() - started


class Engine:
    def __init__(self, folder, slowness=1):
        self.process = subprocess.Popen([ENGINE, folder + "/default.sock", str(slowness)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def counters(self):
        self.process.stdin.close()
        text = self.process.stdout.read()
        self.process.wait()
        return text

    def died(self):
        """What to report of an engine that did not end well; "" for one that did."""
        code = self.process.returncode
        return f"\nthe fake engine ended with {code}" if code != 0 else ""

    def kill(self):
        self.process.kill()
        self.process.wait()


def with_engine(name, port, slowness=1):
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(folder, slowness)
        good, output, seconds = run(name, port, "10.9.9.9", preload(folder))
        counters = engine.counters()
        if good and engine.died():
            good, output = False, output + engine.died()
        if good and name != "refused" and "accepts=0 " in counters:
            good, output = False, output + "\nnot offloaded: " + counters
        if good and slowness > 1 and ("rx_switches=0" in counters or "tx_switches=0" in counters):
            good, output = False, output + "\nno ring grew: " + counters
        return good, output + counters, seconds


def with_slow_engine(name, port):
    return with_engine(name, port, slowness=7)


def with_kernel(name, port):
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for env in (dict(os.environ, LIBTOE=""), preload(folder)):
            results.append(run(name, port, "127.0.0.1", env))
    good = all(r[0] for r in results)
    return good, "".join(r[1] for r in results if not r[0]), sum(r[2] for r in results)


def with_death(name, port):
    """preload_programs.NAME runs as two steps; a line on its standard input starts the second."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(folder)
        env = preload(folder)
        started = time.monotonic()
        program = subprocess.Popen(command_of(name, port, "10.9.9.9"), env=env, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        output = ""
        for line in program.stdout:
            output += line
            if line == "kill engine\n":
                engine.kill()
            elif line == "start engine\n":
                engine = Engine(folder)
            else:
                continue
            program.stdin.write("done\n")
            program.stdin.flush()
        code = program.wait()
        engine.kill()
        return code == 0 and "ok " + name in output, output, time.monotonic() - started


def with_both(name, port):
    started = time.monotonic()
    plain_good, plain, _ = run(name, port, "127.0.0.1", dict(os.environ, LIBTOE=""))
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(folder)
        good, ours, _ = run(name, port, "10.9.9.9", preload(folder))
        counters = engine.counters()
    difference = list(difflib.unified_diff(plain.splitlines(), ours.splitlines(), "kernel",
                                           "libtoe", lineterm=""))
    offloaded = "accepts=0 " not in counters
    output = "\n".join(difference) + ("" if offloaded else "\nnot offloaded") + engine.died()
    good = good and not engine.died()
    if not (plain_good and good):
        output += f"\nended: kernel {plain_good}, libtoe {good}\n" + ours[-2000:]
    return (plain_good and good and offloaded and not difference, output,
            time.monotonic() - started)


def main():
    if os.geteuid() != 0:
        print("needs root for network namespaces")
        return 77
    mode, programs = {"engine": (with_engine, preload_programs.ALL),
                      "slow": (with_slow_engine, preload_programs.BULKY),
                      "kernel": (with_kernel, preload_programs.ALL),
                      "death": (with_death, preload_programs.DEATH),
                      "odd": (with_both, [])}[sys.argv[1]]
    names = sys.argv[2:] or [program.__name__ for program in programs] or odd_names()
    bad = 0
    for i, name in enumerate(names):
        good, output, seconds = mode(name, 20000 + os.getpid() % 10000 + 10 * i)
        print(f"{'ok' if good else 'FAILED'} {name} {seconds:.1f} s", flush=True)
        if not good:
            print(output)
            bad += 1
    return 1 if bad else 0


sys.exit(main())
