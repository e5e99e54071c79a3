"""`from vllm import LLM` with all overlays that fit, over the same without."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ascend_overlay.engine.propagation import startup_folder
from benchmarks.measure import Cost, Result, clean_environment, in_turns, ratios, run_process, summary

NAME = "import"
GOAL = 1.01
PROGRAM = "from vllm import LLM"


def run(*, quick: bool) -> Iterator[Result]:
    """Compare the time of the import, and the processor time, which other processes of the machine disturb less."""
    environments = {
        "without": clean_environment(),
        "with": clean_environment(ASCEND_OVERLAY="1", PYTHONPATH=startup_folder()),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in environments}

    def measure(name: str) -> float:
        cost = run_process([sys.executable, "-c", PROGRAM], environments[name])
        costs[name].append(cost)
        return cost.wall

    rounds = 3 if quick else 9
    samples = in_turns({name: lambda name=name: measure(name) for name in environments}, rounds)  # type: ignore[misc]
    processor = {name: [cost.cpu for cost in found[1:]] for name, found in costs.items()}
    for what, found in (("wall time", samples), ("processor time", processor)):
        values = summary(ratios(found["with"], found["without"]))
        details = {"with, s": summary(found["with"])[0], "without, s": summary(found["without"])[0]}
        yield Result(NAME, f"`{PROGRAM}`, {what}, with over without", *values, "ratio", GOAL, rounds, details)
