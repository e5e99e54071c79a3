"""Gemma 2 and the text model of Gemma 3."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.tiny.arrange import pairs
from ascend_overlay.commands.demo.tiny.checkpoint import Weight, attention, common, mlp, norm, write

_WINDOW = 16


def make_gemma2(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    **config: Any,
) -> Path:
    """Write a Gemma 2 of about half a million parameters in bfloat16: soft caps, every other layer with a window.

    The soft caps are lower than those of the published models, so that they matter.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        hidden: width of the hidden state.
        heads: attention heads.
        kv_heads: heads of keys and values.
        **config: further entries of config.json, which win over those written here.

    Returns:
        The folder.
    """
    settings = {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 10.0,
        "rope_theta": 10000.0,
        **_settings(layers, hidden, heads, kv_heads),
    } | config
    return write(Path(path), settings, _weights(settings, of_heads=False), pairs, seed)


def make_gemma3(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    **config: Any,
) -> Path:
    """Write the text model of a Gemma 3, of about half a million parameters in bfloat16.

    Queries and keys have norms; every other layer has a window and a rotary embedding of another base.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        hidden: width of the hidden state.
        heads: attention heads.
        kv_heads: heads of keys and values.
        **config: further entries of config.json, which win over those written here.

    Returns:
        The folder.
    """
    settings = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 1000.0,
        **_settings(layers, hidden, heads, kv_heads),
    } | config
    return write(Path(path), settings, _weights(settings, of_heads=True), pairs, seed)


def _settings(layers: int, hidden: int, heads: int, kv_heads: int) -> dict[str, Any]:
    head = 2 * hidden // heads
    return common() | {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        # Not head_dim, as in one of the published models.
        "query_pre_attn_scalar": head // 2,
        "intermediate_size": 2 * hidden,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": _WINDOW,
        "layer_types": ["full_attention" if layer % 2 else "sliding_attention" for layer in range(layers)],
        "tie_word_embeddings": True,
    }


def _weights(config: dict[str, Any], *, of_heads: bool) -> Iterable[Weight]:
    hidden, head = config["hidden_size"], config["head_dim"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        # A norm multiplies by 1 + weight. Those behind attention and MLP decide how much the layer adds.
        yield norm(f"{prefix}.input_layernorm", hidden, centre=0.0)
        yield from attention(f"{prefix}.self_attn", config)
        if of_heads:
            yield norm(f"{prefix}.self_attn.q_norm", head, centre=0.0)
            yield norm(f"{prefix}.self_attn.k_norm", head, centre=0.0)
        yield norm(f"{prefix}.post_attention_layernorm", hidden, centre=-0.3)
        yield norm(f"{prefix}.pre_feedforward_layernorm", hidden, centre=0.0)
        yield norm(f"{prefix}.post_feedforward_layernorm", hidden, centre=-0.3)
        yield from mlp(f"{prefix}.mlp", hidden, config["intermediate_size"])
