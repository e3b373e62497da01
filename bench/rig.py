"""One measured run: fresh namespaces, MTU-sized frames, pinned programs, CPU time beside the rate.

The server side (program and engine) has CPU 1, the client CPU 0, all SCHED_RR where permitted, so
that the other programs of the machine disturb less. `same_cpu` puts everything on CPU 1.
"""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import netns  # noqa: E402

SERVER_CPU, CLIENT_CPU = 1, 0
LINUX, FLEXTOE, BOTH, FLOOR = "linux", "flextoe", "both", "floor"
STACKS = {LINUX: "Linux", FLEXTOE: "FlexTOE", BOTH: "FlexTOE, both ends", FLOOR: "floor"}
FLOOR_PROGRAM = os.path.join(netns.BUILD, "bin", "floor")
PORT = 7001
ADDRESS = f"{netns.SERVER}:{PORT}"


class Void(Exception):
    """The run says nothing about what it claims; the text is the reason."""


def realtime_permitted():
    return subprocess.run(["chrt", "-r", "10", "true"], capture_output=True).returncode == 0


def machine_seconds():
    """CPU seconds of the whole machine: (busy, stolen by other virtual machines, all)."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = ticks[:8]
    hertz = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / hertz, steal / hertz, sum(ticks[:8]) / hertz


class Rig:
    """The namespaces of one run with the stack under test."""

    def __init__(self, stack, settings, same_cpu=False, mtu=1500):
        self.stack = stack
        self.settings = settings
        self.client_cpu = SERVER_CPU if same_cpu else CLIENT_CPU
        self.lab = netns.Lab("toe-bench", extra_clients=32, mtu=mtu)
        self.engine = None
        self.client_engine = None
        self.program = None
        try:
            self._prepare()
        except BaseException:
            self.lab.close()
            raise

    def _prepare(self):
        for namespace, device in ((self.lab.server, netns.SERVER_DEV),
                                  (self.lab.client, netns.CLIENT_DEV)):
            namespace.run(["ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off",
                           "gro", "off"])
            namespace.run(["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"])
        arguments, realtime = self.settings.run_args.split(), self.settings.realtime
        if self.stack in (FLEXTOE, BOTH):
            self.engine = netns.Engine(self.lab, arguments, cpu=SERVER_CPU, realtime=realtime)
        if self.stack == BOTH:
            self.client_engine = netns.Engine(self.lab, arguments, client_side=True,
                                              cpu=self.client_cpu, realtime=realtime)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lab.close()

    def serve(self, argv, port=PORT):
        """Starts the server program and waits until it listens."""
        if self.stack == FLOOR:
            argv = [FLOOR_PROGRAM, "--dev", netns.SERVER_DEV, "--address", netns.SERVER,
                    "--port", port]
        elif self.engine is not None:
            argv = [netns.FLEXTOE, "exec", "--strict", "--", *argv]
        self.program = self.lab.server.start(argv, cpu=SERVER_CPU,
                                             realtime=self.settings.realtime)
        if self.stack == FLOOR:
            netns.wait_for(lambda: "ready" in self.program.output(), 10,
                           lambda: f"{self.program}\n{self.program.output()}")
        else:
            self.lab.server.wait_listening(self.program, port)
        time.sleep(0.2)

    def measure(self, argv, seconds=60):
        """Runs the load to its end: (its stdout, CPU seconds spent by whom meanwhile)."""
        opened = self._opens()
        before = self._cpu()
        if self.client_engine is not None:
            argv = [netns.FLEXTOE, "exec", "--strict", "--", *argv]
        done = self.lab.client.run(argv, seconds=seconds, cpu=self.client_cpu,
                                   realtime=self.settings.realtime)
        spent = {name: value - before[name] for name, value in self._cpu().items()}
        if self.engine is not None:
            self._check_owner(opened)
        return done.stdout, spent

    def load(self, program, *arguments):
        """measure() of one of tests/clients: (its result, CPU seconds)."""
        stdout, spent = self.measure([netns.client_program(program), *arguments])
        return json.loads(stdout), spent

    def _cpu(self):
        machine, steal, total = machine_seconds()
        return {"program": self.program.cpu_seconds(), "machine": machine, "steal": steal,
                "total": total, "engine": self.engine.cpu_seconds() if self.engine else 0.0}

    def _opens(self):
        if self.engine is None:
            return None
        if self.client_engine is not None:
            opened = self.client_engine.counter("active_opens")
        else:
            client = self.lab.client.tcp_counters()
            opened = client["ActiveOpens"] - client["AttemptFails"]
        return (opened, self.engine.counter("passive_opens"),
                self.lab.server.tcp_counters()["PassiveOpens"])

    def _check_owner(self, before):
        time.sleep(0.1)
        client, engine, kernel = (now - then for now, then in zip(self._opens(), before))
        if kernel != 0 or engine != client or client == 0:
            raise Void(f"{client} connections opened, {engine} by the engine, "
                       f"{kernel} by the kernel")
