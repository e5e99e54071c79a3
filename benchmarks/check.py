"""What it takes to hold all built-in overlays, and what they lean on, against releases of vLLM."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ascend_overlay.releases import Release, find
from benchmarks.measure import Cost, Result, clean_environment, run_process, summary

NAME = "check"
RANGE = ">=0.24,<0.34"
"""Twelve releases; those that are not kept yet are fetched before anything is timed."""
GOAL_ONE_S, GOAL_TWELVE_S, GOAL_MB = 3.0, 20.0, 1000.0


def run(*, quick: bool) -> Iterator[Result]:
    """Run `ascend-overlay check` on the installed vLLM, and on twelve releases."""
    releases = find([RANGE])
    yield from _measured("the installed vLLM", ["installed"], GOAL_ONE_S, 3 if quick else 9)
    twelve = [str(release.folder) for release in releases]
    yield from _measured(_named(releases), twelve, GOAL_TWELVE_S, 1 if quick else 5)


def _measured(what: str, wanted: list[str], goal: float, rounds: int) -> Iterator[Result]:
    words = [word for release in wanted for word in ("--vllm", release)]
    command = [sys.executable, "-m", "ascend_overlay", "check", "--json", *words]
    # Status 1 is an answer: an overlay breaks there, or is left out.
    costs: list[Cost] = [run_process(command, clean_environment(), statuses=(0, 1)) for _ in range(rounds)]
    for name, values in (
        ("wall time", [cost.wall for cost in costs]),
        ("processor time", [cost.cpu for cost in costs]),
    ):
        yield Result(NAME, f"check on {what}, {name}", *summary(values), "s", goal, rounds)
    yield Result(NAME, f"check on {what}, memory", *summary([cost.memory for cost in costs]), "MB", GOAL_MB, rounds)


def _named(releases: list[Release]) -> str:
    return f"{len(releases)} releases, {releases[0].version} to {releases[-1].version}"
