#!/usr/bin/env python3
"""What the engine may do, and who may use it."""
import os
import resource
import signal
import stat
import struct

import harness
import strangers
from harness import FLEXTOE, SERVER, case, check, need_engine

PORT = 7001
# include/uapi/linux/capability.h
NET_ADMIN, NET_RAW, IPC_LOCK, PERFMON, BPF = 12, 13, 14, 38, 39


def serve_as(bed, uid, gid=strangers.NOBODY, port=PORT):
    strangers.install(bed, "echo_server")
    argv = strangers.under_engine(
        bed, ["echo_server", "--mode", "level", "--listen", f"0.0.0.0:{port}"], uid, gid)
    process = bed.server.start(argv)
    bed.wait_listening(process, port)
    return process


def load(bed, port=PORT):
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:{port}", "-c", "20", "-n", "2000")


@case
def least_privileges(bed):
    """Threads keep what they need and can get no more; each has a list of system calls."""
    need_engine()
    guardian = bed.engine.ask("status")["guardian_pid"]
    everyone = strangers.threads(bed.engine.pid) + strangers.threads(guardian)
    check([t["Name"] for t in everyone] == ["flextoe", "flextoe-rtc", "flextoe-guard"],
          f"other threads than this case knows: {[t['Name'] for t in everyone]}")
    for thread in everyone:
        name = thread["Name"]
        check(thread["NoNewPrivs"] == "1", f"{name} can gain privileges")
        check(thread["Seccomp"] == "2", f"{name} may make any system call")
        check(int(thread["CapInh"], 16) == int(thread["CapAmb"], 16) == 0, f"{name} hands on")
        allowed = {NET_ADMIN, NET_RAW, IPC_LOCK, PERFMON, BPF} if name == "flextoe" else set()
        check(strangers.capabilities(thread) == allowed, f"{name} has {thread['CapEff']}")
    check("NOT restricted" not in bed.engine.process.output(), "it says that it is unrestricted")
    serve_as(bed, strangers.NOBODY)
    load(bed)


@case
@harness.bed_options(run_arguments=["--seccomp=false"])
def unrestricted_for_debuggers(bed):
    """The way out says so, loudly, and takes only the lists of system calls away."""
    need_engine()
    said = bed.engine.process.output()
    check(said.count("system calls are NOT restricted") == 1, f"not one loud line: {said}")
    for thread in strangers.threads(bed.engine.pid):
        check(thread["Seccomp"] == "0" and thread["NoNewPrivs"] == "1", f"{thread['Name']}")
    serve_as(bed, strangers.NOBODY)
    load(bed)


@case
def programs_of_any_user(bed):
    """A program without privileges is served and may ask nothing about others."""
    need_engine()
    path = os.path.join(bed.lab.directory, "run", "default.sock")
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o666, "the socket is not open to all")
    check(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o755, "the directory is not")
    server = serve_as(bed, strangers.NOBODY)
    [status] = strangers.threads(server.pid)
    check(strangers.capabilities(status) == set(), "the program has privileges")
    load(bed)
    [process] = bed.engine.ask("status")["processes"]
    check((process["uid"], process["pid"]) == (strangers.NOBODY, server.pid), f"{process}")
    flextoe = os.path.join(strangers.install(bed), "flextoe")
    for verb in ("status", "conns", "stats", "config"):
        done = bed.server.run(strangers.as_user([flextoe, verb, "--json"]), check=False)
        check((done.returncode, done.stdout) == (1, "") and "only root" in done.stderr,
              f"{verb}: {done}")


@case
@harness.bed_options(run_arguments=["--socket-mode", "660", "--socket-group", "daemon"])
def a_group_only(bed):
    """--socket-mode and --socket-group: the group's programs are served, others stay with the
    kernel, and say so with --strict."""
    need_engine()
    path = os.path.join(bed.lab.directory, "run", "default.sock")
    found = os.stat(path)
    daemon = bed.server.run(["getent", "group", "daemon"]).stdout.split(":")[2]
    check((stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, int(daemon)), f"{found}")
    refused = bed.server.run(
        strangers.under_engine(bed, ["/bin/true"]), check=False)
    check(refused.returncode == 1 and refused.stderr.count("\n") == 1
          and "Permission denied" in refused.stderr,
          f"strict exec of a stranger: {refused}")
    serve_as(bed, strangers.NOBODY, daemon)
    load(bed)


@case
def a_group_that_does_not_exist(bed):
    need_engine()
    check(bed.engine.stop() == 0, "not a clean exit")
    done = bed.server.run([FLEXTOE, "run", "--dev", harness.SERVER_DEV, "--socket-group",
                           "no-such-group"], check=False)
    check(done.returncode == 1 and done.stderr.count("\n") == 1 and "no-such-group" in done.stderr,
          f"{done}")


def undumped(pid, names):
    """That the mappings of these memory files stay out of core dumps; how many there are."""
    with open(f"/proc/{pid}/smaps") as file:
        lines = file.read().splitlines()
    count = 0
    name = ""
    for line in lines:
        words = line.split()
        if "-" in words[0] and len(words) >= 5:
            name = words[5] if len(words) > 5 else ""
        elif words[0] == "VmFlags:" and name in names:
            count += 1
            check("dd" in words, f"{name} of {pid} would be dumped: {line}")
    return count


def memory_of(core):
    """The memory in a core file, without its notes: what the last copy left in vector registers is
    there (ELF64: e_phoff at 32, e_phnum at 56; PT_LOAD is 1)."""
    [headers], [count] = struct.unpack_from("<Q", core, 32), struct.unpack_from("<H", core, 56)
    parts = []
    for number in range(count):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", core, headers + 56 * number)
        if kind == 1:
            parts.append(core[offset:offset + size])
    return b"".join(parts)


def dump_core(bed):
    """The engine dies by an abort; the memory in its core file."""
    bed.engine.process.send_signal(signal.SIGABRT)
    bed.engine.process.wait(30)
    [core] = [name for name in os.listdir(bed.lab.directory) if name.startswith("core")]
    with open(os.path.join(bed.lab.directory, core), "rb") as file:
        return memory_of(file.read())


@case
def core_dumps_without_payload(bed):
    """What programs send and receive is in no core file of the engine's, and what they share with
    it in none of theirs."""
    need_engine()
    check(bed.engine.stop() == 0, "not a clean exit")
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    bed.engine = harness.Engine(
        bed.lab, cwd=bed.lab.directory,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, unlimited))
    server = serve_as(bed, strangers.NOBODY)
    secret = os.urandom(64)
    with bed.connect(PORT) as connection:
        for _ in range(50):
            harness.echo_once(connection, secret * 256)
        segment, frames = "/memfd:flextoe-segment", "/memfd:flextoe-umem"
        check(undumped(server.pid, {segment}) == 1, "no segment in the program")
        check(undumped(bed.engine.pid, {segment, frames}) == 2, "no segment or no frames there")
        with open("/proc/sys/kernel/core_pattern") as file:
            if file.read().startswith(("|", "/")):
                return  # core files go where only this machine knows
        core = dump_core(bed)
    check(harness.SERVER_DEV.encode() in core, "this is no core file of the engine")
    check(core.find(secret) < 0, "payload is in the core file")


harness.main()
