"""Medians, the table in Markdown and the goals of `make bench`."""
import os
import statistics
import sys
import tomllib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import FLEXTOE, LINUX, STACKS  # noqa: E402
from workloads import WORKLOADS  # noqa: E402


STOLEN_MARK = 0.02  # of the machine's time during a run: more, and the run is marked


def figures(run):
    """One run's figures as the goals name them."""
    cpu, requests = run["cpu"], run["requests"]
    return {"rate": run["rate"], "median": run["median"], "p99": run["p99"], "slow": run["slow"],
            "cpu": (cpu["program"] + cpu["engine"]) / requests,
            "program_cpu": cpu["program"] / requests, "machine_cpu": cpu["machine"] / requests,
            "stolen": cpu["steal"] / max(cpu["total"], 0.01), "stalls": run["stalls"]}


def medians(runs):
    """The median of each figure over the runs that are not void; None if there is none."""
    good = [figures(run) for run in runs if "void" not in run]
    if not good:
        return None
    result = {}
    for name in good[0]:
        values = [run[name] for run in good if run[name] is not None]
        result[name] = statistics.median(values) if values else None
    result["runs"] = len(good)
    result["marked"] = sum(run["stolen"] > STOLEN_MARK for run in good)
    return result


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if ours is not None and theirs else "-"


def table(results):
    """results: {workload: {stack: medians or None}}."""
    lines = ["| workload | stack | rate | ratio | median us | ratio | p99 us | > 1 ms per M "
             "| CPU s per M: program + engine | ratio | program alone | machine | stolen | runs |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for key, stacks in results.items():
        linux = stacks.get(LINUX) or {}
        for stack, m in stacks.items():
            if m is None:
                lines.append(f"| {WORKLOADS[key].title} | {STACKS[stack]} | void "
                             + "| " * 11 + "|")
                continue
            versus = {n: "" if stack == LINUX else ratio(m[n], linux.get(n))
                      for n in ("rate", "median", "cpu")}
            lines.append(
                f"| {WORKLOADS[key].title} | {STACKS[stack]} | {number(m['rate'])} "
                f"{WORKLOADS[key].unit} | {versus['rate']} | {number(m['median'])} "
                f"| {versus['median']} | {number(m['p99'])} | {number(m['slow'])} "
                f"| {number(m['cpu'])} | {versus['cpu']} | {number(m['program_cpu'])} "
                f"| {number(m['machine_cpu'])} | {m['stolen'] * 100:.1f} % | {m['runs']}"
                f"{', ' + str(m['marked']) + ' marked' if m['marked'] else ''} |")
    return "\n".join(lines)


def goals(results, wanted_of=lambda workload: True):
    """One line per goal of these workloads: met, missed or not measured."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "goals.toml")
    with open(path, "rb") as file:
        wanted = tomllib.load(file)["goal"]
    lines = []
    for goal in filter(lambda goal: wanted_of(goal["workload"]), wanted):
        stacks = results.get(goal["workload"], {})
        name = f"{goal['workload']} {goal['figure']}{' with both ends' if 'of' in goal else ''}"
        if "against" in goal:
            name += f" vs {STACKS[goal['against']]}"
        lines.append(f"- {verdict(goal, stacks)}: {name} (stage {goal['stage']})")
    return "\n".join(lines)


def verdict(goal, stacks):
    bound = (f"at least {number(goal['at_least'])}" if "at_least" in goal
             else f"at most {number(goal['at_most'])}")
    value = (stacks.get(goal.get("of", FLEXTOE)) or {}).get(goal["figure"])
    if "against" in goal:
        theirs = (stacks.get(goal["against"]) or {}).get(goal["figure"])
        value = value / theirs if value is not None and theirs else None
    if value is None:
        return f"not measured, wanted {bound}"
    met = value >= goal["at_least"] if "at_least" in goal else value <= goal["at_most"]
    return f"{'met' if met else 'missed'}, {number(value)}, wanted {bound}"
