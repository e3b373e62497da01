"""The workloads of `make bench`. Each returns the figures of one run as a dict:

rate (per second or Gbit/s), median and p99 (us), slow (answers above 1 ms per million), requests
(what the CPU time is divided by: millions of them, or Gbit), cpu (seconds by whom), stalls.
"""
import csv
import io
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import ADDRESS, BOTH, FLOOR, PORT, Void, netns  # noqa: E402


class Workload:
    def __init__(self, title, run, unit="req/s", same_cpu=False, others=(), mtu=1500):
        self.title = title
        self.run = run
        self.unit = unit
        self.same_cpu = same_cpu
        self.mtu = mtu
        self.others = others  # stacks beside Linux and FlexTOE: the reflector, both ends


def from_client(found, cpu):
    """Figures of a result of tests/clients."""
    if found["failed"]:
        raise Void(found["reason"])
    requests = found["operations"]
    latency = found["latency_us"]
    return {"rate": found["per_s"],
            "median": latency["median"], "p99": latency["p99"],
            "slow": latency["above_1ms"] / max(latency["count"], 1) * 1e6,
            "requests": requests / 1e6, "cpu": cpu, "stalls": found["stalls"]}


def server_program(name, *arguments):
    return [netns.client_program(name), *arguments]


def echo(connections):
    def run(rig):
        rig.serve(server_program("echo_server", "--listen", f"0.0.0.0:{PORT}"))
        return from_client(*rig.load("echoload", "--server", ADDRESS, "-c", str(connections),
                                     "--size", "64", "--warmup", "0.5",
                                     "--seconds", str(rig.settings.seconds)))
    return run


def memcached_get(rig):
    rig.serve(["memcached", "-u", "nobody", "-t", "1", "-m", "256", "-c", "1024",
               "-l", netns.SERVER, "-p", str(PORT)])
    operations = int(100_000 * rig.settings.seconds)
    return from_client(*rig.load("memcheck", "--server", ADDRESS, "-c", "50", "--keys", "4",
                                 "--min-size", "64", "--max-size", "64", "--get-ratio", "1",
                                 "-n", str(operations)))


def redis(command, pipeline):
    def run(rig):
        rig.serve(["redis-server", "--save", "", "--appendonly", "no", "--bind", netns.SERVER,
                   "--protected-mode", "no", "--port", str(PORT), "--dir", rig.lab.directory])
        count = int((50_000 if pipeline == 1 else 500_000) * rig.settings.seconds)
        said, cpu = rig.measure(["redis-benchmark", "-h", netns.SERVER, "-p", str(PORT), "-t",
                                 command, "-c", "50", "-n", str(count), "-P", str(pipeline),
                                 "-d", "64", "--csv"])
        row = list(csv.DictReader(io.StringIO(said)))[0]
        return {"rate": float(row["rps"]), "median": float(row["p50_latency_ms"]) * 1e3,
                "p99": float(row["p99_latency_ms"]) * 1e3, "slow": None, "requests": count / 1e6,
                "cpu": cpu, "stalls": 0}
    return run


def bulk(direction, times=1):
    def run(rig):
        rig.serve(server_program("bulk", "--serve", f"0.0.0.0:{PORT}"))
        size = int(400e6 * times * rig.settings.seconds)
        found, cpu = rig.load("bulk", "--connect", ADDRESS, "--no-check", direction, str(size))
        if found["failed"]:
            raise Void(found["reason"])
        return {"rate": found["gbit_per_s"], "median": None, "p99": None, "slow": None,
                "requests": size * 8 / 1e9, "cpu": cpu, "stalls": found["stalls"]}
    return run


def connects(server_closes):
    def run(rig):
        extra = ["--close-after", "64"] if server_closes else []
        rig.serve(server_program("echo_server", "--listen", f"0.0.0.0:{PORT}", *extra))
        return from_client(*rig.load(
            "echoload", "--server", ADDRESS, "--connects", "-c", "16", "--size", "64",
            "--sources", "10.77.1.1-10.77.1.32", "--warmup", "0.3",
            *(["--server-closes"] if server_closes else []),
            "--seconds", str(rig.settings.seconds)))
    return run


WORKLOADS = {
    "echo1": Workload("echo 64 B, 1 connection, two CPUs", echo(1), others=(FLOOR,)),
    "echo1-same": Workload("echo 64 B, 1 connection, one CPU", echo(1), same_cpu=True),
    "echo64": Workload("echo 64 B, 64 connections", echo(64), others=(BOTH, FLOOR)),
    "memcached": Workload("memcached get 64 B, 50 connections", memcached_get, others=(BOTH,)),
    "redis-set-p1": Workload("redis SET, 50 connections, P1", redis("set", 1)),
    "redis-get-p1": Workload("redis GET, 50 connections, P1", redis("get", 1)),
    "redis-set-p16": Workload("redis SET, 50 connections, P16", redis("set", 16)),
    "redis-get-p16": Workload("redis GET, 50 connections, P16", redis("get", 16)),
    "bulk-receive": Workload("bulk, server receives, 1 connection", bulk("--up"), "Gbit/s"),
    "bulk-send": Workload("bulk, server sends, 1 connection", bulk("--down"), "Gbit/s"),
    "bulk-receive-9000": Workload("bulk, server receives, MTU 9000", bulk("--up", 4), "Gbit/s",
                                  mtu=9000),
    "bulk-send-9000": Workload("bulk, server sends, MTU 9000", bulk("--down", 4), "Gbit/s",
                               mtu=9000),
    "connects": Workload("connect, request, close; client closes first", connects(False),
                         "conn/s"),
    "connects-server": Workload("connect, request, close; server closes first", connects(True),
                                "conn/s"),
}
