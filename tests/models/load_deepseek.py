"""Loads DeepSeek checkpoints into vLLM's and into our class, whole and damaged; prints what happened as JSON.

Usage: load_deepseek.py CHECKPOINT CHECKPOINT_WITH_COMPRESSED_QUERIES MEETING_FILE
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
import vllm_models as models

import ascend_overlay

PLAIN, COMPRESSED, MEETING = sys.argv[1:]
Weights = list[tuple[str, torch.Tensor]]
out: dict[str, Any] = {}


def attempt(change: Callable[[Weights], Weights], path: str = PLAIN, **arguments: Any) -> str:
    """Load a damaged checkpoint; return the error."""
    config = models.configure(path, **arguments)
    model = models.build(config)
    try:
        models.load(config, model, change(list(models.weights_of(config, model))))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"


def without(*ends: str) -> Callable[[Weights], Weights]:
    return lambda weights: [(name, tensor) for name, tensor in weights if not name.endswith(ends)]


def adding(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: [*weights, *((name, torch.zeros(4, dtype=torch.bfloat16)) for name in names)]


def whole(path: str) -> tuple[Any, Any, dict[str, float]]:
    config = models.configure(path)
    model = models.build(config)
    models.load(config, model, models.weights_of(config, model))
    return config, model, models.digests(model)


first = models.configure(PLAIN)
models.start(first, MEETING)
_, stock, stock_digests = whole(PLAIN)
_, _, stock_compressed = whole(COMPRESSED)
half = models.build(config := models.configure(PLAIN))
try:
    models.load(config, half, without("experts.3.up_proj.weight")(list(models.weights_of(config, half))))
    out["stock, half an expert missing"] = "loaded"
except Exception as error:
    out["stock, half an expert missing"] = str(error)

ascend_overlay.enable(only=["deepseek_v2"], propagate=False)
config, model, digests = whole(PLAIN)
out["class"] = [f"{cls.__module__}.{cls.__name__}" for cls in type(model).__mro__[:3]]
out["same parameters"] = digests == stock_digests
out["parameters"] = len(digests)
mapping = dict(model.packed_modules_mapping)
_, compressed, compressed_digests = whole(COMPRESSED)
out["same parameters, compressed"] = compressed_digests == stock_compressed
out["mapping"] = mapping
out["mapping, compressed"] = dict(compressed.packed_modules_mapping)
out["mapping, next one"] = dict(models.build(models.configure(PLAIN)).packed_modules_mapping)
out["mapping is of the class"] = type(model).packed_modules_mapping is not type(stock).packed_modules_mapping
out["v3"] = type(
    models.build(models.configure(PLAIN, hf_overrides={"architectures": ["DeepseekV3ForCausalLM"]}))
).__name__

out["later, one tensor"] = sorted(
    models.load(config, model, [("model.norm.weight", torch.ones(128, dtype=torch.bfloat16))])
)
out["shard missing"] = attempt(without("layers.0.mlp.up_proj.weight"))
out["expert missing"] = attempt(without("layers.1.mlp.experts.3.gate_proj.weight", "experts.3.down_proj.weight"))
out["many missing"] = attempt(without("proj.weight"))
out["norm missing"] = attempt(without("model.norm.weight"))
out["compressed shard missing"] = attempt(without("layers.2.self_attn.q_a_proj.weight"), COMPRESSED)
out["unknown"] = attempt(adding("model.layers.1.mlp.experts.8.gate_proj.weight", "model.layers.0.self_attn.qq.weight"))
out["dummy start"] = attempt(without("proj.weight"), load_format="dummy")
out["tolerated"] = attempt(
    adding(
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.self_attn.o_proj.bias",
        "model.layers.3.embed_tokens.weight",
    ),
    hf_overrides={"num_nextn_predict_layers": 1},
)
out["cut short"] = attempt(lambda weights: weights, hf_overrides={"num_hidden_layers": 2})
out["notes"] = [text for _, text in ascend_overlay.ledger().notes]
ascend_overlay.disable()

with warnings.catch_warnings(record=True) as caught, ascend_overlay.enabled(only=["deepseek_v2"], strict=False):
    warnings.simplefilter("always")
    out["tolerant"] = attempt(without("layers.0.mlp.up_proj.weight"))
out["warnings"] = [str(warning.message) for warning in caught if "checkpoint" in str(warning.message)]
after = models.build(models.configure(PLAIN))
out["after disable"] = type(after) is type(stock)
print("RESULT " + json.dumps(out))
