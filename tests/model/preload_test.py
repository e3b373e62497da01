#!/usr/bin/env python3
"""preload_test engine|kernel [PROGRAM...]: each program of preload_programs.py, with libtoe.so.

engine: under a fake engine, both ends offloaded; its counters must show every connection.
kernel: plain, and with libtoe.so and no engine: libtoe must be transparent.
"""
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("TOE_BUILD", os.path.join(HERE, "../../build"))
LIBRARY = os.path.join(BUILD, "lib/libtoe.so")
ENGINE = os.path.join(BUILD, "bin/fake_engine")
LIMIT = 60
sys.path.insert(0, HERE)
import preload_programs  # noqa: E402


def run(name, port, address, env):
    started = time.monotonic()
    command = [sys.executable, os.path.join(HERE, "preload_programs.py"), name, address, str(port)]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
        output, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as e:
        output, code = str(e.stdout) + str(e.stderr) + "\ntimed out", 1
    return code == 0 and "ok " + name in output, output, time.monotonic() - started


def with_engine(name, port):
    with tempfile.TemporaryDirectory() as folder:
        engine = subprocess.Popen([ENGINE, folder + "/default.sock"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        assert engine.stdout.readline() == "ready\n"
        env = dict(os.environ, LD_PRELOAD=LIBRARY, FLEXTOE_RUNDIR=folder)
        good, output, seconds = run(name, port, "10.9.9.9", env)
        engine.stdin.close()
        counters = engine.stdout.read()
        engine.wait()
        if good and name != "refused" and "accepts=0 " in counters:
            good, output = False, output + "\nnot offloaded: " + counters
        return good, output + counters, seconds


def with_kernel(name, port):
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for env in (dict(os.environ), dict(os.environ, LD_PRELOAD=LIBRARY, FLEXTOE_RUNDIR=folder)):
            results.append(run(name, port, "127.0.0.1", env))
    good = all(r[0] for r in results)
    return good, "".join(r[1] for r in results if not r[0]), sum(r[2] for r in results)


def main():
    mode = {"engine": with_engine, "kernel": with_kernel}[sys.argv[1]]
    names = sys.argv[2:] or [program.__name__ for program in preload_programs.ALL]
    bad = 0
    for i, name in enumerate(names):
        good, output, seconds = mode(name, 20000 + os.getpid() % 10000 + 10 * i)
        print(f"{'ok' if good else 'FAILED'} {name} {seconds:.1f} s", flush=True)
        if not good:
            print(output)
            bad += 1
    return 1 if bad else 0


sys.exit(main())
