"""Llama."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.tiny.arrange import successors
from ascend_overlay.commands.demo.tiny.checkpoint import Weight, attention, common, mlp, norm, write

# With 64 positions, a few sentences are long enough for it to matter.
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def make_llama(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    **config: Any,
) -> Path:
    """Write a Llama of about half a million parameters in bfloat16, with grouped-query attention.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        hidden: width of the hidden state.
        heads: attention heads.
        kv_heads: heads of keys and values.
        **config: further entries of config.json, which win over those written here: `architectures=["Mine"]`.

    Returns:
        The folder.
    """
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "intermediate_size": 2 * hidden,
        "hidden_act": "silu",
        "mlp_bias": False,
        "rope_theta": 10000.0,
        **common(),
    } | config
    return write(Path(path), settings, _weights(settings), successors, seed)


def make_llama3(path: str | os.PathLike[str], *, seed: int = 0, **arguments: Any) -> Path:
    """Write a Llama with the scaled rotary embedding of Llama 3.1; arguments as for make_llama."""
    return make_llama(path, seed=seed, **{"rope_scaling": _LLAMA3_ROPE} | arguments)


def _weights(config: dict[str, Any]) -> Iterable[Weight]:
    hidden = config["hidden_size"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield norm(f"{prefix}.input_layernorm", hidden)
        yield from attention(f"{prefix}.self_attn", config)
        yield norm(f"{prefix}.post_attention_layernorm", hidden)
        yield from mlp(f"{prefix}.mlp", hidden, config["intermediate_size"])
