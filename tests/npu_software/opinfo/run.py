"""Compares operators in processes of their own: one that ends its process is found by name, and the others go on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .found import ENDED, Difference, Found

CHUNK = 80
"""Operators to a process: what one of them does to the process concerns few others."""

BOUND = 20
"""Samples of each operator and dtype."""

PATIENCE = 300
"""Seconds for the calls of one operator."""

Python = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs Python with the software NPU: takes arguments and `check`."""


def names(python: Python) -> list[str]:
    """Return the names of all operators that PyTorch has samples of."""
    done = python("-m", "opinfo.inside", "--names")
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def examined(python: Python, wanted: Sequence[str], bound: int, scratch: Path) -> Iterator[Found]:
    """Yield what becomes of operators.

    Args:
        python: runs Python with the software NPU.
        wanted: their names.
        bound: samples of each dtype.
        scratch: a folder for files.
    """
    for number, start in enumerate(range(0, len(wanted), CHUNK)):
        left = list(wanted[start : start + CHUNK])
        for attempt in range(len(left)):
            log = scratch / f"operators-{number}-{attempt}.jsonl"
            done = python("-m", "opinfo.inside", str(log), str(bound), str(PATIENCE), *left, check=False)
            for found in _read(log, done):
                yield found
                left.remove(found.name)
            if not left:
                break
        assert not left, f"never seen: {left}"


def _read(log: Path, done: subprocess.CompletedProcess[str]) -> Iterator[Found]:
    begun = None
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        row = json.loads(line)
        if begun := row.get("begun"):
            continue
        yield Found.from_json(row)
    if begun is not None:
        yield Found(begun, differences=[Difference(ENDED, f"status {done.returncode}", done.stderr[-1500:])])
    elif done.returncode:
        raise RuntimeError(f"the process ended with status {done.returncode} between operators:\n{done.stderr[-3000:]}")
