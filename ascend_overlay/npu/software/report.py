"""What was called in a process: with ``--npu-report DIR`` each process leaves a file in the folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from multiprocessing import util
from pathlib import Path
from typing import Any

from ascend_overlay.npu.software.native_calls import Native

_COPY = "copy to the "
_READS = "aten::_local_scalar_dense"
"""The operator behind item(), tolist() of one number, bool() and int()."""


def at_exit(native: Native, folder: str) -> None:
    """Count from now on, and write the report of this process when it ends."""
    native.count()
    # multiprocessing ends its processes without atexit, but runs this; so does the main process.
    util.Finalize(None, write, args=(native, folder), exitpriority=10)


def write(native: Native, folder: str) -> None:
    """Write the report of this process, if it called anything."""
    content = summary(native.counts(), native.waits())
    if not content["operators"]:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".report-", delete=False) as file:
        json.dump(content, file, indent=1)
    os.replace(file.name, Path(folder) / f"{os.getpid()}.json")


def summary(counts: Iterable[tuple[str, str, int]], waits: dict[str, int]) -> dict[str, Any]:
    """Return the report: operators with dtypes and counts, and what the host waited for."""
    rows = sorted(counts, key=lambda row: (-row[2], row))
    copies = [row for row in rows if row[0].startswith(_COPY)]
    return {
        "process": os.getpid(),
        "command": sys.argv[:2],
        "operators": [
            {"operator": name, "dtypes": dtypes.split(",") if dtypes else [], "calls": calls}
            for name, dtypes, calls in rows
            if not name.startswith(_COPY)
        ],
        "copies": {f"{way.removeprefix('copy ')}, {how}": number for way, how, number in copies},
        "host waits": {
            **{f"synchronize {what}": number for what, number in waits.items()},
            "copy to the host": sum(number for way, how, number in copies if "host" in way and how == "waited for"),
            "item": sum(calls for name, _, calls in rows if name == _READS),
        },
    }
