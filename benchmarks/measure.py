"""Samples, what to make of them, and how to take them fairly: in turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """One comparison.

    Attributes:
        benchmark: name of the benchmark.
        what: what was compared with what.
        value: the median.
        low: the lower quartile.
        high: the upper quartile.
        unit: of these three: "ratio", "ms", "s", "MB", "modules", "launches", "waits".
        goal: the value that should not be exceeded; None where there is no goal.
        runs: number of samples behind it.
        details: further figures and lists, for the JSON file.
    """

    benchmark: str
    what: str
    value: float
    low: float
    high: float
    unit: str
    goal: float | None = None
    runs: int = 1
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """ "met": the median is not above the goal; "within the spread": only the lower quartile is not; "missed"."""
        if self.goal is None:
            return ""
        if round(self.value, 2) <= self.goal:
            return "met"
        return "within the spread" if round(self.low, 2) <= self.goal else "missed"


def summary(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def in_turns(candidates: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Let the candidates measure themselves in turns, in alternating order; return their samples."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(warm_up + rounds):
        for name in names if number % 2 else reversed(names):
            value = candidates[name]()
            if number >= warm_up:
                samples[name].append(value)
    return samples


def ratios(samples: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Return sample by sample how much larger `samples` are; both are from the same rounds."""
    return [one / other for one, other in zip(samples, baseline, strict=True)]


def differences(samples: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Return sample by sample how much is added; both are from the same rounds."""
    return [one - other for one, other in zip(samples, baseline, strict=True)]


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds, and megabytes of memory at most."""

    wall: float
    cpu: float
    memory: float = 0.0


def run_process(command: Sequence[str], environment: Mapping[str, str], *, statuses: Sequence[int] = (0,)) -> Cost:
    """Run a command to its end; wall time and processor time (user and system, children that it waited for included).

    Raises:
        RuntimeError: it left with another status than `statuses`.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    process.stderr.close()
    if process.returncode not in statuses:
        raise RuntimeError(f"{' '.join(command)} failed:\n{errors.decode(errors='replace')[-4000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def clean_environment(**variables: str) -> dict[str, str]:
    """Return the environment without any setting of ascend_overlay, with what keeps vLLM to itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASCEND_OVERLAY")}
    # Whoever installs it has the bytecode beside it, as of everything else; a checkout gets it in the first round.
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    return {**environment, **quiet, **variables}
