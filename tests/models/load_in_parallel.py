"""One rank of a distributed load of a DeepSeek checkpoint into our class; prints what happened as JSON.

Usage: load_in_parallel.py CHECKPOINT MEETING_FILE RANK {tp,pp,ep}
"""

from __future__ import annotations

import json
import sys
from typing import Any

import vllm_models as models
from vllm.distributed import get_pp_group

import ascend_overlay

CHECKPOINT, MEETING, RANK, KIND = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
SIZES: dict[str, dict[str, Any]] = {
    "tp": {"tensor_parallel_size": 2},
    "pp": {"pipeline_parallel_size": 2},
    "ep": {"tensor_parallel_size": 2, "enable_expert_parallel": True},
}

ascend_overlay.enable(only=["deepseek_v2"], propagate=False)
config = models.configure(CHECKPOINT, **SIZES[KIND])
models.start(config, MEETING, rank=RANK, world=2, tp=1 if KIND == "pp" else 2, pp=2 if KIND == "pp" else 1)
model = models.build(config)
out: dict[str, Any] = {"last stage": get_pp_group().is_last_rank, "class": type(model).__name__}
models.load(config, model, models.weights_of(config, model))
out["parameters"] = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
damaged = models.build(models.configure(CHECKPOINT, **SIZES[KIND]))
try:
    whole = models.weights_of(config, damaged)
    models.load(config, damaged, ((n, t) for n, t in whole if not n.endswith("layers.2.mlp.experts.7.up_proj.weight")))
    out["damaged"] = "loaded"
except ascend_overlay.errors.OverlayError as error:  # type: ignore[attr-defined]
    out["damaged"] = str(error)
out["notes"] = [text for _, text in ascend_overlay.ledger().notes]
print("RESULT " + json.dumps(out))
