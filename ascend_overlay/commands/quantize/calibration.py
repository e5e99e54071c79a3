"""Observes the inputs of a model's linear layers, by running it in vLLM in a process of its own.

vLLM, and not transformers: it runs every model that will be served, those of plugins too, with the layers that the
ranges are for. Layers that it fuses have one input there, so their parts cannot disagree. The process ends before
anything is written, so the model is in memory once, and only then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay.commands import troubles
from ascend_overlay.commands.quantize.checkpoint import Checkpoint
from ascend_overlay.commands.quantize.linears import Linears, module_of
from ascend_overlay.errors import QuantizeError

_MODULE = "ascend_overlay.commands.quantize.observe"
_LOG_LINES = 12


@dataclass(frozen=True)
class Calibration:
    """What was observed.

    Attributes:
        observed: smallest and largest input of each layer, by the name of its weight.
        prompts: how many prompts were run.
        tokens: how many tokens they had.
        cut: how many prompts were longer than the model's limit, and cut.
    """

    observed: dict[str, tuple[float, float]]
    prompts: int
    tokens: int
    cut: int


def observe(
    checkpoint: Checkpoint,
    weights: Sequence[str],
    prompts: Sequence[str | list[int]],
    linears: Linears,
    load: Sequence[str] = (),
) -> Calibration:
    """Run `prompts` through the model and return the ranges of the inputs of `weights`.

    Overlays are on, those of plugins too, unless the environment says otherwise (ASCEND_OVERLAY=0).

    Raises:
        QuantizeError: vLLM is not installed or cannot run the model, has no linear layer for a weight, or a layer was
            never used or got NaN.
    """
    if sentence := troubles.missing():
        raise QuantizeError(sentence)
    with tempfile.TemporaryDirectory(prefix="ascend-overlay-calibration-") as name:
        folder = Path(name)
        spec = {
            "model": str(checkpoint.folder.resolve()),
            "dtype": {"BF16": "bfloat16", "F16": "float16"}[checkpoint.dtype],
            "modules": [module_of(weight) for weight in weights],
            "prompts": list(prompts),
            "load": list(load),
            "result": str(folder / "result.json"),
        }
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        with (folder / "log.txt").open("wb") as log:
            status = subprocess.run(
                [sys.executable, "-m", _MODULE, str(folder / "spec.json")],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if not (folder / "result.json").exists():
            raise QuantizeError(_about_failure(status, folder / "log.txt"))
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if result.get("error"):
        raise QuantizeError(result["error"])
    ranges = {f"{module}.weight": (low, high) for module, (low, high) in result["observed"].items()}
    return Calibration(_merged(ranges, linears), len(prompts), result["tokens"], result["cut"])


def _merged(ranges: dict[str, tuple[float, float]], linears: Linears) -> dict[str, tuple[float, float]]:
    """Give the members of a group one range, should vLLM not fuse them for this model."""
    merged: dict[str, tuple[float, float]] = {}
    for members in linears.groups(ranges).values():
        low = min(ranges[name][0] for name in members)
        high = max(ranges[name][1] for name in members)
        merged |= dict.fromkeys(members, (low, high))
    return {name: merged[name] for name in ranges}


def _environment() -> dict[str, str]:
    return {
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **os.environ,
        # One process, since the hooks are in the process of the model; nothing compiled, since they would be, too.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCHDYNAMO_DISABLE": "1",
    }


def _about_failure(status: int, log: Path) -> str:
    cause = troubles.diagnosis(log) or "The end of what it printed:\n" + "\n".join(troubles.tail(log, _LOG_LINES))
    return f"vLLM could not run the model for calibration (status {status}). {cause}"
