#!/usr/bin/env python3
"""What the program says when it cannot start, and its exit statuses."""
import json
import shutil
import subprocess
import time

import harness
from harness import (FLEXTOE, SERVER, SERVER_DEV, Skipped, case, check, echo_server,
                     need_engine)


def one_sentence(done, status, *words):
    """Exit `status`, nothing on stdout, one line on stderr that holds `words`."""
    check(done.returncode == status, f"exit {done.returncode} instead of {status}: {done.stderr}")
    lines = done.stderr.strip().splitlines()
    check(len(lines) == 1, f"not one line: {done.stderr!r}")
    for word in words:
        check(word in lines[0], f"{word!r} is not in: {lines[0]}")
    check(done.stdout == "", f"stdout: {done.stdout!r}")


def attempt(bed, *argv):
    return bed.server.run([FLEXTOE, *argv], check=False, seconds=20)


@case
def second_engine(bed):
    """The same name, and another name on the same device."""
    need_engine()
    one_sentence(attempt(bed, "run", "--dev", SERVER_DEV), 1, str(bed.engine.pid))
    started = time.monotonic()
    done = attempt(bed, "run", "--dev", SERVER_DEV, "--name", "other")
    one_sentence(done, 1, SERVER_DEV, str(bed.engine.pid))
    check(time.monotonic() - started < 2, "the refusal took its time")
    check(bed.engine.ask("status")["dev"] == SERVER_DEV, "the first engine is gone")


@case
def stale_socket(bed):
    """A killed engine's socket is in nobody's way."""
    need_engine()
    bed.engine.process.kill()
    one_sentence(attempt(bed, "status"), 1)
    bed.engine = harness.Engine(bed.lab)
    check(bed.engine.ask("status")["pid"] == bed.engine.pid, "not the new engine's status")


@case
def generic_mode(bed):
    """A device whose driver has no XDP is served, with one line that says what is lost."""
    need_engine()
    bed.server.ip("link", "add", "plain0", "type", "bridge")
    bed.server.ip("addr", "add", "10.78.0.1/24", "dev", "plain0")
    bed.server.ip("link", "set", "plain0", "up")
    other = bed.server.start([FLEXTOE, "run", "--dev", "plain0", "--name", "plain"])
    harness.wait_for(lambda: "ready" in other.output() or not other.running(), 15,
                     lambda: "the engine's ready line\n" + other.output())
    check(other.running(), other.output())
    warnings = [line for line in other.output().splitlines() if "warn" in line]
    check(len(warnings) == 1 and "plain0" in warnings[0] and "generic" in warnings[0],
          f"not one warning: {warnings}")
    check(bed.engine.ask("status", "--name", "plain")["xdp"] == "generic", "status hides it")
    check(bed.engine.ask("status")["xdp"] == "driver", "the other engine's mode is wrong")
    check(other.stop() == 0, other.output())


@case
def missing_privilege(bed):
    need_engine()
    done = bed.server.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
                           FLEXTOE, "run", "--dev", SERVER_DEV, "--name", "other"], check=False)
    one_sentence(done, 1)


@case
def missing_interface(bed):
    need_engine()
    one_sentence(attempt(bed, "run", "--dev", "nosuch0", "--name", "other"), 1, "nosuch0")


@case
def no_engine(bed):
    need_engine()
    check(bed.engine.stop() == 0, "not a clean exit")
    for verb in ("status", "conns", "stats"):
        one_sentence(attempt(bed, verb, "--json"), 1)
    one_sentence(attempt(bed, "exec", "--strict", "--", "/bin/true"), 1)
    check(attempt(bed, "exec", "--", "/bin/true").returncode == 0, "exec needs no engine")


@case
def usage(bed):
    need_engine()
    for words in (["run", "--no-such-flag"], ["nosuchverb"], ["conns", "--no-such-flag"],
                  ["run", "--dev"], ["exec", "--no-such-flag", "--", "/bin/true"]):
        done = attempt(bed, *words)
        check(done.returncode == 2, f"{words}: exit {done.returncode}")
        check(done.stderr.strip() and not done.stdout, f"{words}: nothing said on stderr")


@case
def packet_filter(bed):
    """With a chain on the way in the engine does not start, unless it is told to."""
    need_engine()
    if shutil.which("nft") is None:
        raise Skipped("nftables is not installed")
    check(bed.engine.stop() == 0, "not a clean exit")
    chains = {"out": "output", "in": "input"}
    for name, hook in chains.items():
        bed.server.run(["nft", f"add table inet {name}; add chain inet {name} {name} "
                        f"{{ type filter hook {hook} priority 0; }}"])
        if hook == "output":
            bed.engine = harness.Engine(bed.lab)
            check(bed.engine.stop() == 0, "not a clean exit")
    one_sentence(attempt(bed, "run", "--dev", SERVER_DEV), 1, "in/in", "--ignore-netfilter")
    bed.engine = harness.Engine(bed.lab, ["--ignore-netfilter"])
    bed.serve(echo_server("level", "0.0.0.0:7001"), 7001)
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:7001", "-n", "100")


@case
def packet_filter_comes_later(bed):
    """What is offloaded stays; new sockets are the kernel's until the chain is gone."""
    need_engine()
    if shutil.which("nft") is None:
        raise Skipped("nftables is not installed")
    bed.serve(echo_server("level", "0.0.0.0:7001"), 7001)
    bed.server.run(["nft", "add table inet late; add chain inet late in "
                    "{ type filter hook input priority 0; }"])
    harness.wait_for(lambda: "late/in" in bed.engine.process.output(), 10, "a line in the log")
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:7001", "-n", "100")
    second = bed.server.start([FLEXTOE, "exec", "--", *echo_server("level", "0.0.0.0:7002")])
    bed.server.wait_listening(second, 7002)
    check(not bed.owns(7002), "a port was taken past the filter")
    [reasons] = [p["reasons"] for p in bed.engine.ask("status")["processes"]
                 if p["pid"] == second.pid]
    check(reasons.get("netfilter", 0) > 0, f"status hides the reason: {reasons}")
    second.stop()
    bed.server.run(["nft", "delete table inet late"])
    harness.wait_for(lambda: "offloaded again" in bed.engine.process.output(), 10, "the other line")
    bed.serve(echo_server("level", "0.0.0.0:7002"), 7002)
    with bed.engine_opens():
        bed.load("echoload", "--server", f"{SERVER}:7002", "-n", "100")


@case
def exec_statuses(bed):
    """exec replaces itself: same pid, the program's own exit status."""
    need_engine()
    check(attempt(bed, "exec", "--", "/no/such/program").returncode == 127, "not found is 127")
    check(attempt(bed, "exec", "--", "/etc/passwd").returncode == 126, "not executable is 126")
    check(attempt(bed, "exec", "--", "sh", "-c", "exit 42").returncode == 42, "exit 42 was lost")
    process = bed.server.start(bed.under_engine(["sh", "-c", "echo $$; exec sleep 0.2"]))
    check(process.wait(5) == 0 and process.output().strip() == str(process.pid), "another pid")


@case
def json_of_the_verbs(bed):
    need_engine()
    bed.serve(echo_server("level", "0.0.0.0:7001"), 7001)
    connection = bed.connect(7001)
    harness.echo_once(connection, b"x" * 1000)
    status = bed.engine.ask("status")
    check(status["name"] == "default" and status["pid"] == bed.engine.pid, f"status: {status}")
    check([p["comm"] for p in status["processes"]] == ["echo_server"], f"status: {status}")
    check("0.0.0.0:7001" in json.dumps(bed.engine.ask("conns")["listeners"]), "no listener")
    stats = bed.engine.ask("stats")
    check(all(isinstance(v, int) for v in {**stats["counters"], **stats["drops"]}.values()),
          "a counter is no number")
    conns = bed.engine.ask("conns", "--all")["conns"]
    check([(c["state"], c["rx_bytes"], c["tx_bytes"]) for c in conns] == [("ESTAB", 1000, 1000)],
          f"conns: {conns}")
    for verb in ("status", "conns", "stats", "config"):
        check(bed.engine.ask(verb)["schema"] == 1, f"{verb}: no schema")
        text = subprocess.run([FLEXTOE, verb], env=bed.lab.environment(), capture_output=True,
                              text=True)
        check(text.returncode == 0 and text.stdout.strip(), f"{verb} says nothing")
    connection.close()


harness.main()
