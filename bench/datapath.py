"""The data path alone: nanoseconds of its walks by the clock, instructions of its stages by
callgrind."""
import collections
import json
import os
import re
import shutil
import subprocess
import tempfile

from rig import SERVER_CPU, netns

PROGRAM = os.path.join(netns.BUILD, "bin", "datapath_bench")
FLOWS = 64                  # requests of one round
FEW, MANY = 50, 550         # rounds of the two counted runs; their difference has no set-up in it
# Source files by stage, the first pattern that matches. The stages are inlined into the walks, so
# files are what can be told apart; `walks` is the rest: order points, scheduler, standard library.
STAGES = [("pre", r"/stage_pre\.|/wire/(parse|segment)|/flow/(table|key)|/base/addr"),
          ("post", r"/stage_post\.|/wire/build"),
          ("dma", r"/stage_dma\.|/shm/ring_copy|/wire/checksum|mmintrin|mem(move|cpy)"),
          ("ctxq", r"/stage_ctxq\.|/shm/"),
          ("protocol", r"/datapath/(protocol|prr|rack|scoreboard|sack)|/flow/(reassembly|slices)")]


def timed():
    """{"rx_ns", "hc_ns", "tx_ns", "op_ns", "rate"}: medians of the program's own repetitions."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as out:
        subprocess.run(["taskset", "-c", str(SERVER_CPU), PROGRAM, "--benchmark_filter=-Counted",
                        "--benchmark_repetitions=5", f"--benchmark_out={out.name}",
                        "--benchmark_out_format=json"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        found = json.load(out)["benchmarks"]
    median = next(entry for entry in found if entry.get("aggregate_name") == "median")
    figures = {name: median[name] for name in ("rx_ns", "hc_ns", "tx_ns", "op_ns")}
    figures["rate"] = 1e9 / figures["op_ns"]
    return figures


def counted():
    """{stage: instructions per request and response}; None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    few, many = _profile(FEW), _profile(MANY)
    return {stage: (many[stage] - few[stage]) / (MANY - FEW) / FLOWS for stage in many}


def _profile(rounds):
    with tempfile.NamedTemporaryFile("r", suffix=".callgrind") as out:
        subprocess.run(["valgrind", "--tool=callgrind", "--compress-strings=no",
                        "--compress-pos=no", f"--callgrind-out-file={out.name}",
                        *(f"--toggle-collect=toe::datapath::Pipeline::{walk}(*"
                          for walk in ("rx", "hc", "tx")),
                        PROGRAM, f"--benchmark_filter=Counted/iterations:{rounds}/"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return sums_by_stage(out)


def sums_by_stage(lines):
    """Instructions by stage from callgrind's file: each line's own cost goes to its source file."""
    sums = collections.Counter()
    stage, called = "walks", False
    for line in lines:
        if re.match(r"f[ile]=", line):
            stage = stage_of(line[3:])
        elif line.startswith("calls="):
            called = True  # the next line is what the callee spent
        elif re.match(r"[\d+*-]", line):
            if not called:
                sums[stage] += int(line.split()[1])
            called = False
    return sums


def stage_of(path):
    return next((stage for stage, pattern in STAGES if re.search(pattern, path)), "walks")


def text(figures, instructions):
    """Both as Markdown."""
    said = (f"Data path alone (`datapath_bench`: 64 flows, 64 B, memory wire, one core): "
            f"{figures['op_ns']:.0f} ns per request and response (RX {figures['rx_ns']:.0f}, HC "
            f"{figures['hc_ns']:.0f}, TX {figures['tx_ns']:.0f}), {figures['rate'] / 1e6:.2f} "
            "million a second.")
    if instructions is None:
        return said + " Instructions not counted: no valgrind."
    parts = ", ".join(f"{stage} {count:.0f}" for stage, count in sorted(instructions.items()))
    return (said + f" Instructions by callgrind: {sum(instructions.values()):.0f} ({parts}; "
            "`walks` is order points, scheduler and what no stage owns).")
