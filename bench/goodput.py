"""Goodput over bad networks: flows between the server side (the engine, or Linux) and a Linux
client through the wire of docs/netlab.md, paired with Linux at both ends: same wire, same seed,
by turns. CUBIC and SACK everywhere. A run lasts seconds, or until each flow has delivered 100 MB.
"""
import json
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import incast  # noqa: E402
from rig import FLEXTOE, LINUX, Void, netns  # noqa: E402

OURS, KERNELS = 7001, 7002  # ports of the two servers
SENDS, RECEIVES = "sends", "receives"  # as the server side sees it
BYTES = 100_000_000
RATE_MBIT = 200  # the wire's program manages two to three times as much
HARM = {"0.01 % loss": "loss=0.01%", "0.1 % loss": "loss=0.1%", "1 % loss": "loss=1%",
        "3 % loss": "loss=3%", "5 % reordered": "reorder=5%"}
ROUND_TRIPS = (20, 100)  # ms
FLOWS = {1: (2.5, 4.0), 64: (1.5, 2.5)}  # seconds of a run, by round trip
FAIR_MBIT, FAIR_WARMUP, FAIR_SECONDS = 100, 8.0, 10.0
FAIR = {"2 flows": (2, 0), "8 flows": (8, 0), "64 flows": (64, 0), "4 and 4 of Linux": (4, 4)}


def wire_of(harm, rtt_ms, mbit):
    """Data segments are harmed, acknowledgements are not; the queue is one bandwidth-delay
    product. What is held back comes within a quarter of the round trip."""
    queue = mbit * 1000 * rtt_ms // 8
    text = f"select=data,delay={rtt_ms / 2}ms,rate={mbit}Mbit,queue={queue // 1514}"
    if harm.startswith("reorder"):
        harm += f",reorder-by={rtt_ms // 4}ms"
    return text + ("," + harm if harm else "")


class Pair:
    """A wired lab with a server of each stack on the server side."""

    def __init__(self, settings):
        self.lab = netns.Lab("toe-goodput", wired=True)
        try:
            for side in (self.lab.server, self.lab.client):
                # What one connection learned must not help the next.
                side.run(["sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1",
                          "net.ipv4.tcp_congestion_control=reno"])
            self.engine = netns.Engine(self.lab, settings.run_args.split())
            self._serve(OURS, [netns.FLEXTOE, "exec", "--strict", "--"])
            self._serve(KERNELS, [])
        except BaseException:
            self.lab.close()
            raise

    def _serve(self, port, before):
        argv = [*before, netns.client_program("bulk"), "--serve", f"{netns.SERVER}:{port}",
                "--congestion", "cubic"]
        self.lab.server.wait_listening(self.lab.server.start(argv), port)

    def run(self, spec, seed, ports, *arguments):
        """One run of the client through a wire of its own."""
        wire = netns.Wire(self.lab, spec, spec, seed)
        opened = self.engine.counter("passive_opens")
        try:
            targets = [word for port in ports for word in ("--connect", f"{netns.SERVER}:{port}")]
            done = self.lab.client.run([netns.client_program("goodput"), *targets, "--congestion",
                                        "cubic", *arguments], seconds=90)
        finally:
            lost = netns.own_losses(wire.stop())
        found = json.loads(done.stdout)
        wanted = len(found["bytes"]) // len(ports) if OURS in ports else 0
        if self.engine.counter("passive_opens") - opened != wanted:
            raise Void("connections of the engine: not as many as were opened")
        if lost:
            raise Void(f"the wire lost {lost} frames of its own")
        return found

    def close(self):
        self.lab.close()


def points():
    return [(harm, rtt, flows) for flows in FLOWS for rtt in ROUND_TRIPS for harm in HARM]


def measure_points(pair, settings, found):
    for seed in range(1, settings.runs + 1):
        for harm, rtt, flows in points():
            seconds = FLOWS[flows][ROUND_TRIPS.index(rtt)]
            enough = ["--bytes", BYTES] if flows == 1 else []
            for direction in (SENDS, RECEIVES):
                for stack, port in ((LINUX, KERNELS), (FLEXTOE, OURS)):
                    arguments = ["--flows", flows, "--seconds", seconds, *enough,
                                 *(["--up"] if direction == RECEIVES else [])]
                    key = (harm, rtt, flows, direction, stack)
                    run = guarded(pair, wire_of(HARM[harm], rtt, RATE_MBIT), seed, [port],
                                  *arguments)
                    if run is not None:
                        found.setdefault(key, []).append(run["mbit_per_s"])
                print(f"  {harm}, {rtt} ms, {flows} flows, {direction}, seed {seed}: "
                      + " against ".join(text(found.get((harm, rtt, flows, direction, stack)))
                                         for stack in (FLEXTOE, LINUX)), flush=True)


def text(values):
    return f"{values[-1]:.2f}" if values else "void"


def measure_fairness(pair, settings, found):
    for seed in range(1, settings.runs + 1):
        for name, (ours, theirs) in FAIR.items():
            ports = [OURS, KERNELS] if theirs else [OURS]
            run = guarded(pair, wire_of("", 20, FAIR_MBIT), seed, ports, "--flows", ours,
                          "--warmup", FAIR_WARMUP, "--seconds", FAIR_SECONDS)
            if run is None:
                continue
            share = sum(run["bytes"][:ours]) / sum(run["bytes"])
            found.setdefault(name, []).append((run["fairness"], share))
            print(f"  {name}, seed {seed}: fairness {run['fairness']:.3f}, ours {share:.2f}",
                  flush=True)


def guarded(pair, *arguments):
    try:
        return pair.run(*arguments)
    except (Void, netns.LabError) as reason:
        print(f"  void: {str(reason).strip()[-300:]}", flush=True)
        return None


def measured(settings):
    """{"points": {(harm, rtt, flows, direction, stack): [Mbit/s]}, "fair": {name: [(...)]}}"""
    pair = Pair(settings)
    try:
        print("goodput", flush=True)
        found = {"points": {}, "fair": {}}
        measure_points(pair, settings, found["points"])
        measure_fairness(pair, settings, found["fair"])
    finally:
        pair.close()
    found["incast"] = incast.measured(settings)
    return found


def ratio(found, key):
    ours, theirs = (found["points"].get((*key, stack)) for stack in (FLEXTOE, LINUX))
    return statistics.median(ours) / statistics.median(theirs) if ours and theirs else None


def figures(found):
    """As the goals name them: the least ratio over all points, by flows and direction; Jain's
    index of flows that are all ours."""
    result = {}
    for flows in FLOWS:
        for direction in (SENDS, RECEIVES):
            ratios = [ratio(found, (harm, rtt, flows, direction)) for harm in HARM
                      for rtt in ROUND_TRIPS]
            result[f"{direction}_{flows}"] = min(ratios) if None not in ratios else None
    for name, runs in found["fair"].items():
        if FAIR[name][1] == 0:
            result[f"fairness_{FAIR[name][0]}"] = statistics.median(run[0] for run in runs)
    return result


def table(found):
    lines = [f"Goodput in Mbit/s, FlexTOE / Linux = ratio (medians of runs paired by seed; wire of "
             f"{RATE_MBIT} Mbit/s, queue of one bandwidth-delay product, data segments harmed; "
             "CUBIC, SACK; the other end is Linux):", "",
             "| network | flows | engine sends | engine receives |", "|---|---|---|---|"]
    for harm, rtt, flows in points():
        cells = []
        for direction in (SENDS, RECEIVES):
            values = [found["points"].get((harm, rtt, flows, direction, stack))
                      for stack in (FLEXTOE, LINUX)]
            shown = " / ".join(f"{statistics.median(v):.2f}" if v else "void" for v in values)
            of = ratio(found, (harm, rtt, flows, direction))
            cells.append(f"{shown} = {of:.2f}" if of is not None else shown)
        lines.append(f"| {harm}, {rtt} ms | {flows} | {cells[0]} | {cells[1]} |")
    lines += ["", f"Jain's index of flows that the engine sends through one bottleneck "
              f"({FAIR_MBIT} Mbit/s, 20 ms):", ""]
    for name, runs in found["fair"].items():
        jain, share = (statistics.median(column) for column in zip(*runs))
        lines.append(f"- {name}: {jain:.3f}" + (f"; ours have {share * 100:.0f} % of the bytes"
                                                if FAIR[name][1] else ""))
    return "\n".join([*lines, "", *incast.lines(found["incast"])])
