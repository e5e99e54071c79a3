"""Runs the scripts in tests/models in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ascend_overlay

MODELS = Path(__file__).parent.parent / "models"
_COMMAND = "import sys; from ascend_overlay.commands.cli import main; main(prog_name='ascend-overlay')"


@dataclass(frozen=True)
class Run:
    """What a script printed after RESULT, and everything that its processes wrote."""

    result: dict[str, Any]
    output: str


def start(script: str, *arguments: str, folder: Path, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a script; with `options`, under `ascend-overlay run OPTIONS`."""
    package = Path(ascend_overlay.__file__).parent.parent
    search = [str(folder), str(MODELS), *([str(package)] if str(package) in sys.path else [])]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ASCEND_OVERLAY", "PYTHON"))
    } | {
        "PYTHONPATH": os.pathsep.join(search),
        "VLLM_CACHE_ROOT": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, str(MODELS / script), *arguments]
    if options:
        command = [sys.executable, "-c", _COMMAND, "run", *options, *command]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], *, timeout: float = 300) -> Run:
    """Wait for a script and return its result; fails with its output where it failed."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, output[-5000:]
    found = [line for line in output.splitlines() if line.startswith("RESULT ")]
    assert found, output[-5000:]
    return Run(json.loads(found[-1].removeprefix("RESULT ")), output)


def run(script: str, *arguments: str, folder: Path, options: Sequence[str] = (), timeout: float = 300) -> Run:
    """Run a script to its end."""
    return finish(start(script, *arguments, folder=folder, options=options), timeout=timeout)
