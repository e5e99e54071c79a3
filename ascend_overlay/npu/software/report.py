"""What was called in a process: with ``--npu-report DIR`` each process leaves a file in the folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

from ascend_overlay.npu.software.launches import launches
from ascend_overlay.npu.software.native_calls import Native
from ascend_overlay.npu.software.sites import Sites
from ascend_overlay.npu.software.steps import Steps

_COPY = "copy to the "

_steps: Steps | None = None


def at_exit(native: Native, folder: str) -> None:
    """Count from now on, and write the report of this process when it ends."""
    global _steps
    native.count()
    sites = Sites()
    native.listen(sites.note)
    _steps = Steps(native)
    # multiprocessing ends its processes without atexit, but runs this; so does the main process.
    util.Finalize(None, write, args=(native, folder, sites, _steps), exitpriority=10)


def step_begins(kind: str) -> None:
    """Note that a step of a model begins, where a report is to be written; elsewhere it does nothing.

    Args:
        kind: what is compared with its like, such as "decode".
    """
    if _steps is not None:
        _steps.begins(kind)


def write(native: Native, folder: str, sites: Sites, steps: Steps) -> None:
    """Write the report of this process, if it called anything."""
    native.listen(None)
    content = summary(native.counts(), native.waits(), sites.rows(), steps.summary())
    if not content["operators"]:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".report-", delete=False) as file:
        json.dump(content, file, indent=1)
    os.replace(file.name, Path(folder) / f"{os.getpid()}.json")


def summary(
    counts: Iterable[tuple[str, str, int]],
    waits: Mapping[str, int],
    sites: Sequence[Mapping[str, Any]] = (),
    steps: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report: operators with dtypes and counts, copies, what the host waited for and where, launches."""
    rows = sorted(counts, key=lambda row: (-row[2], row))
    return {
        "process": os.getpid(),
        "command": sys.argv[:2],
        "operators": [
            {"operator": name, "dtypes": dtypes.split(",") if dtypes else [], "calls": calls}
            for name, dtypes, calls in rows
            if not name.startswith(_COPY)
        ],
        "copies": {f"{name.removeprefix('copy ')}, {how}": n for name, how, n in rows if name.startswith(_COPY)},
        "host waits": dict(waits),
        "host waits by line": list(sites),
        "launches": sum(launches(rows).values()),
        "model steps": dict(steps or {}),
    }
