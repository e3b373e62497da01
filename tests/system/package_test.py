#!/usr/bin/env python3
"""The Debian package in a root made from Debian packages: minutes and the network (TOE_FULL)."""
import contextlib
import glob
import os
import shutil
import subprocess

import harness
from harness import SERVER_DEV, Skipped, case, check, need_engine, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(*argv, seconds=900):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds)
    check(done.returncode == 0,
          f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def needed_by(package):
    """The packages that it depends on: with them in the root, dpkg alone can install it."""
    depends = run("dpkg-deb", "--field", package, "Depends").strip()
    real = {}  # debootstrap knows no names that other packages provide
    for line in run("dpkg-query", "-W", "-f", "${Package}|${Provides}\n").splitlines():
        name, provided = line.split("|", 1)
        for word in filter(str.strip, provided.split(",")):
            real.setdefault(word.split()[0], name)
    names = [word.split()[0] for word in depends.split(",")]
    return [real.get(name, name) for name in names]


@contextlib.contextmanager
def fresh_root(folder, packages):
    """A minimal Debian in `folder`, with the file systems that programs expect."""
    run("debootstrap", "--variant=minbase", "--include=" + ",".join(packages), "bookworm", folder)
    mounted = []
    try:
        for kind, place in (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "run")):
            run("mount", "-t", kind, kind, os.path.join(folder, place))
            mounted.insert(0, place)
        yield
    finally:
        for place in mounted:
            subprocess.run(["umount", "-l", os.path.join(folder, place)], check=False)


@case
def installed_in_a_fresh_root(bed):
    """dpkg installs it, engine and memcached run from it, dpkg removes it."""
    need_engine()
    if os.environ.get("TOE_FULL") != "1":
        raise Skipped("NOT RUN: the package is installed into a fresh Debian root by "
                      "`make test-all` only (minutes, network)")
    if shutil.which("debootstrap") is None:
        raise Skipped("needs debootstrap")
    check(bed.engine.stop() == 0, "the bed's engine")
    root = os.path.join(bed.lab.directory, "root")
    run(os.path.join(ROOT, "tools/deb"), bed.lab.directory)
    package = glob.glob(bed.lab.directory + "/*.deb")[0]
    with fresh_root(root, [*needed_by(package), "memcached"]):
        shutil.copy(package, root)
        run("chroot", root, "dpkg", "--install", "/" + os.path.basename(package))
        installed = ["chroot", root, "env", "FLEXTOE_RUNDIR=/run/flextoe", "/usr/bin/flextoe"]
        engine = bed.server.start([*installed, "run", "--dev", SERVER_DEV])
        wait_for(lambda: "ready" in engine.output() or not engine.running(), 20, engine.output)
        check(engine.running(), engine.output())
        bed.server.start([*installed, "exec", "--strict", "--", "/usr/bin/memcached", "-u",
                          "memcache", "-l", "0.0.0.0", "-p", "11211"])

        def conns():
            return subprocess.run([*installed, "conns"], capture_output=True, text=True).stdout
        wait_for(lambda: ":11211" in conns(), 20, conns)
        connection = bed.connect(11211)
        connection.sendall(b"set a 0 0 5\r\nhello\r\nget a\r\n")
        wanted = b"STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n"
        check(harness.receive_exactly(connection, len(wanted)) == wanted, "memcached")
        check("ESTAB" in conns() and '"memcached"' in conns(), conns())
        connection.close()
        check(engine.stop() == 0, engine.output())
        for process in bed.lab.processes:
            process.stop()
        run("chroot", root, "dpkg", "--purge", "flextoe")
        for left in ("usr/bin/flextoe", "usr/lib/libtoe.so", "etc/flextoe"):
            check(not os.path.exists(os.path.join(root, left)), f"{left} is left behind")


harness.main()
