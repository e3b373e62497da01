"""Incast: sixteen flows that begin at once and meet in one short queue. DCTCP needs its own echo at
the receiver, so engines are at both ends; Linux, for comparison, has CUBIC at both ends and no
marks.
"""
import json
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import FLEXTOE, LINUX, Void, netns  # noqa: E402

PORT = 7001
FLOWS = 16
BYTES = 2_000_000  # of each flow
RATE_MBIT, QUEUE, MARK_ABOVE = 200, 100, 20  # frames
ARGUMENTS = {FLEXTOE: ["--cc", "dctcp", "--ecn", "request"], LINUX: None}


def wire_of(mark):
    text = f"delay=0.25ms,rate={RATE_MBIT}Mbit,queue={QUEUE}"
    return text + (f",mark-above={MARK_ABOVE}" if mark else "")


class Incast:
    """A wired lab with one stack at both ends, and the server that all flows come from."""

    def __init__(self, stack, settings):
        self.stack = stack
        self.lab = netns.Lab("toe-incast", wired=True)
        self.engines = []
        try:
            if stack == FLEXTOE:
                arguments = settings.run_args.split() + ARGUMENTS[stack]
                self.engines = [netns.Engine(self.lab, arguments, client_side=side)
                                for side in (False, True)]
            else:
                for side in (self.lab.server, self.lab.client):
                    side.run(["sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1",
                              "net.ipv4.tcp_congestion_control=reno"])
            server = [*self._before(), netns.client_program("bulk"), "--serve",
                      f"{netns.SERVER}:{PORT}",
                      *([] if self.engines else ["--congestion", "cubic"])]
            self.lab.server.wait_listening(self.lab.server.start(server), PORT)
        except BaseException:
            self.lab.close()
            raise

    def _before(self):
        return [netns.FLEXTOE, "exec", "--strict", "--"] if self.engines else []

    def run(self, seed):
        """What the client saw, and what queue and sender did meanwhile."""
        before = self._timeouts()
        wire = netns.Wire(self.lab, "delay=0.25ms", wire_of(self.stack == FLEXTOE), seed)
        try:
            argv = [*self._before(), netns.client_program("goodput"), "--connect",
                    f"{netns.SERVER}:{PORT}", "--flows", FLOWS, "--bytes", BYTES, "--seconds", 30]
            found = json.loads(self.lab.client.run(argv, seconds=60).stdout)
        finally:
            summary = wire.stop()
        if netns.own_losses(summary):
            raise Void("the wire lost frames of its own")
        way = summary["to_client"]
        if self.engines and way["marked"] == 0:
            raise Void("no frame was marked")
        return {"mbit_per_s": found["mbit_per_s"], "lost": sum(way["dropped"].values()),
                "marked": way["marked"], "timeouts": self._timeouts() - before}

    def _timeouts(self):
        """Retransmission timeouts of the senders."""
        if self.engines:
            return self.engines[0].counter("timeouts")
        return self.lab.server.tcp_ext_counters()["TCPTimeouts"]

    def close(self):
        self.lab.close()


def measured(settings):
    """{stack: [run]}"""
    found = {}
    for stack in (LINUX, FLEXTOE):
        incast = Incast(stack, settings)
        try:
            for seed in range(1, settings.runs + 1):
                try:
                    run = incast.run(seed)
                except (Void, netns.LabError) as reason:
                    print(f"  void: {str(reason).strip()[-300:]}", flush=True)
                    continue
                found.setdefault(stack, []).append(run)
                print(f"  incast, {stack}, seed {seed}: {run}", flush=True)
        finally:
            incast.close()
    return found


def lines(found):
    yield (f"Incast of {FLOWS} flows of {BYTES // 1_000_000} MB that begin at once ({RATE_MBIT} "
           f"Mbit/s, 0.5 ms, queue of {QUEUE} frames, marks above {MARK_ABOVE}; medians):")
    yield ""
    for stack, name in ((FLEXTOE, "FlexTOE at both ends, DCTCP"),
                        (LINUX, "Linux at both ends, CUBIC, no marks (it has no DCTCP here)")):
        runs = found.get(stack)
        if not runs:
            yield f"- {name}: void"
            continue
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        yield (f"- {name}: {median['mbit_per_s']:.0f} Mbit/s, {median['lost']:.0f} frames lost in "
               f"the queue, {median['marked']:.0f} marked, {median['timeouts']:.0f} timeouts")
