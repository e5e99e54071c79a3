"""Processes that end in every way; prints their ids by the way in which they end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CALLS = 5


class Early:
    """Has torch imported where it is unpickled: before its process begins."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return torch.ones, (1,)


def work(report: str, how: str, early: Any = None) -> None:
    """Call an operator, and end."""
    if how == "forked":
        torch.npu.set_device(0)
    one = torch.ones(2, device="npu")
    for _ in range(CALLS):
        one + 1
    path = Path(report) / f"{os.getpid()}.json"
    if how in ("killed", "left"):
        deadline = time.monotonic() + 120
        # Whoever kills it does so when it has been at rest for a while.
        while not (path.exists() and _calls(path) == CALLS) and time.monotonic() < deadline:
            time.sleep(0.1)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    if how == "terminated":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.kill(os.getpid(), signal.SIGTERM)


def _calls(path: Path) -> int:
    rows = json.loads(path.read_text())["operators"]
    return int(sum(row["calls"] for row in rows if row["operator"] == "aten::add.Tensor"))


def main(report: str) -> None:
    """Start them one after the other."""
    found = {}
    for how in ("spawned", "killed", "left", "terminated", "forked"):
        context = multiprocessing.get_context("fork" if how == "forked" else "spawn")
        process = context.Process(target=work, args=(report, how, Early()))
        process.start()
        process.join()
        found[how] = process.pid
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
