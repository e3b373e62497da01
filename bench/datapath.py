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
WALKS = "toe::datapath::Pipeline::Impl::"
# What the walks call, by stage; the first pattern that matches. The rest belongs to the walks.
STAGES = [("pre", r"::StagePre::"), ("post", r"::StagePost::"), ("ctxq", r"::StageCtxq::"),
          ("dma", r"::datapath::(receive|transmit)_payload\("),
          ("protocol", r"::datapath::on_\w+\(")]


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
                        "--compress-pos=no", f"--callgrind-out-file={out.name}", PROGRAM,
                        f"--benchmark_filter=Counted/iterations:{rounds}/"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return sums_by_stage(out)


def sums_by_stage(lines):
    """Instructions by stage from callgrind's file: what the walks spend themselves, and what each
    function they call spends with all below it."""
    sums = collections.Counter()
    inside, callee = False, None
    for line in lines:
        if line.startswith("fn="):
            inside, callee = line[3:].startswith(WALKS), None
        elif line.startswith("cfn="):
            callee = line[4:]
        elif inside and re.match(r"[\d+*-]", line):
            cost = int(line.split()[1])
            if callee is None:
                sums["walks"] += cost
            elif not callee.startswith(WALKS):  # else counted where it is the function itself
                sums[stage_of(callee)] += cost
            callee = None
    return sums


def stage_of(function):
    return next((stage for stage, pattern in STAGES if re.search(pattern, function)), "walks")


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
            "`walks` is the order points, the scheduler and what no stage owns).")
