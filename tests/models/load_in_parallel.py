"""One rank of distributed loads of a DeepSeek checkpoint into our class; prints what happened as JSON, by kind.

Usage: load_in_parallel.py CHECKPOINT MEETING_FILE RANK [tp] [pp] [ep]. Each is loaded in a fork of this process, which
has imported vLLM.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import vllm_models as models
from vllm.distributed import get_pp_group

import ascend_overlay

CHECKPOINT, MEETING, RANK = sys.argv[1], sys.argv[2], int(sys.argv[3])
SIZES: dict[str, dict[str, Any]] = {
    "tp": {"tensor_parallel_size": 2},
    "pp": {"pipeline_parallel_size": 2},
    "ep": {"tensor_parallel_size": 2, "enable_expert_parallel": True},
}


def loaded(kind: str) -> dict[str, Any]:
    """Return what became of the checkpoint, and of one that lacks a tensor."""
    ascend_overlay.enable(only=["deepseek_v2"], propagate=False)
    config = models.configure(CHECKPOINT, **SIZES[kind])
    pipelined = kind == "pp"
    models.start(config, f"{MEETING}-{kind}", rank=RANK, world=2, tp=1 if pipelined else 2, pp=2 if pipelined else 1)
    model = models.build(config)
    out: dict[str, Any] = {"last stage": get_pp_group().is_last_rank, "class": type(model).__name__}
    models.load(config, model, models.weights_of(config, model))
    out["parameters"] = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    damaged = models.build(models.configure(CHECKPOINT, **SIZES[kind]))
    lacking = "layers.2.mlp.experts.7.up_proj.weight"
    try:
        whole = models.weights_of(config, damaged)
        models.load(config, damaged, ((name, tensor) for name, tensor in whole if not name.endswith(lacking)))
        out["damaged"] = "loaded"
    except ascend_overlay.errors.OverlayError as error:  # type: ignore[attr-defined]
        out["damaged"] = str(error)
    out["notes"] = [text for _, text in ascend_overlay.ledger().notes]
    return out


def main(kinds: list[str]) -> None:
    """Load once for each kind of parallelism."""
    found = {}
    for kind in kinds:
        result = Path(f"{MEETING}-{kind}-{RANK}.json")
        child = os.fork()
        if not child:
            result.write_text(json.dumps(loaded(kind)))
            return
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{kind}: the process ended with {status}")
        found[kind] = json.loads(result.read_text())
    print("RESULT " + json.dumps(found))


main(sys.argv[4:])
