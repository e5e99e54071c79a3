"""What the end-to-end tests share besides fixtures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.ledgers import Ledger

TIMEOUT = 400.0
"""Seconds after which any one run counts as hanging."""

COMMAND = (sys.executable, "-c", "from ascend_overlay.commands.cli import main; main(prog_name='ascend-overlay')")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a run that keeps its caches in `folder` and asks for no overlays."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("ASCEND_OVERLAY", "PYTHON", "VLLM_"))
    }
    return inherited | {
        "VLLM_CACHE_ROOT": str(folder / "cache"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        **more,
    }


class Demo(NamedTuple):
    """A finished run of `ascend-overlay demo --json`: the document, what it said beside it, and what it kept."""

    status: int
    figures: dict[str, Any]
    beside: str
    folder: Path


def again(name: str, demo: Demo) -> Run:
    """Return a run of `demo`, as it was."""
    then = demo.figures[name]
    return Run(
        name,
        demo.folder / name,
        status=then["status"],
        seconds=then["seconds"],
        phases=then["phases"],
        result=then["result"],
        peak=then["peak_memory_bytes"],
        ledgers=[Ledger.from_dict(ledger) for ledger in then["ledgers"]],
    )
