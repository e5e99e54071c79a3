"""One run of the demo's worker script: stock, overlaid, or on an NPU."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ascend_overlay.commands.demo.compare import LIKELIEST
from ascend_overlay.commands.demo.watching import Progress, Run, follow
from ascend_overlay.engine.propagation import startup_folder
from ascend_overlay.ledgers import read_folder
from ascend_overlay.settings import PREFIX

_WORKER = Path(__file__).with_name("worker.py")
_COMMAND = "import sys; from ascend_overlay.commands.cli import main; sys.argv[0] = 'ascend-overlay'; main()"
RUN = (sys.executable, "-c", _COMMAND, "run")
"""`ascend-overlay run`, of this very library."""

_TARGET = "VLLM_TARGET_DEVICE"

Npu = Literal["card", "software"]
"""An NPU of this machine, or one that its CPU computes for."""


def execute(
    name: str,
    spec: Mapping[str, Any],
    folder: Path,
    *,
    timeout: float,
    progress: Progress,
    cache: Path | None = None,
    npu: Npu | None = None,
) -> Run:
    """Run the worker script as `name` ("stock", "overlaid" or "npu") in `folder` and wait for its end.

    Args:
        name: which of the three it is: vLLM as it is, with the overlays, or on the NPU, also with the overlays.
        spec: model, prompts, tokens and compiled, as the worker script takes them.
        folder: an empty folder of its own; made if needed.
        timeout: seconds after which it is ended.
        progress: told about each phase.
        cache: folder of vLLM's caches; default: one of its own, so that a run neither profits from another nor from an
            earlier demo.
        npu: the NPU that the run "npu" is on, and that the others have beside them, and leave alone; None: whatever
            vLLM chooses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    specification = folder / "spec.json"
    specification.write_text(json.dumps({**spec, "likeliest": LIKELIEST, "folder": str(folder)}), encoding="utf-8")
    env = environment(cache or folder / "cache", overlaid=name != "stock", compiled=bool(spec["compiled"]))
    if name == "npu":
        # A space for the cache of keys and values is the CPU's; and this run asks for another device.
        for variable in ("VLLM_CPU_KVCACHE_SPACE", _TARGET):
            env.pop(variable, None)
    elif npu is not None:
        # A vLLM that was built for no device finds none otherwise.
        env[_TARGET] = "cpu"
    if spec.get("alone"):
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    run = Run(name, folder)
    follow(
        run, command(name, folder, str(_WORKER), str(specification), npu=npu), env, timeout=timeout, progress=progress
    )
    run.ledgers = read_folder(folder / "ledger")
    run.reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "report").glob("*.json"))]
    return run


def command(name: str, folder: Path, *python: str, npu: Npu | None) -> list[str]:
    """Return the command that runs Python with the arguments `python` as the run `name`, which writes to `folder`."""
    options: list[str] = []
    if name != "stock":
        options += ["--trace", "--ledger", str(folder / "ledger")]
    elif npu == "software":
        options += ["--no-overlays"]
    if name == "overlaid" and npu is not None:
        options += ["--exclude", "platform"]
    if npu == "software":
        # Beside a torch_npu without CANN, not even torch can be imported.
        options += ["--npu", "software"]
        if name == "npu":
            options += ["--npu-report", str(folder / "report")]
    started = [sys.executable, *python]
    return [*RUN, *options, *started] if options else started


def environment(cache: Path, *, overlaid: bool, compiled: bool) -> dict[str, str]:
    """Return the environment of a run: the user's without what bears on overlays, and small, quiet and offline."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    parts = [part for part in env.pop("PYTHONPATH", "").split(os.pathsep) if part and part != startup_folder()]
    if parts:
        env["PYTHONPATH"] = os.pathsep.join(parts)
    if not overlaid:
        env[PREFIX] = "0"
    if not compiled:
        # Helper functions of vLLM are compiled even with enforce_eager; that takes longer than the rest of the run.
        env["TORCHDYNAMO_DISABLE"] = "1"
    return env | {
        "VLLM_CACHE_ROOT": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", "1"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
