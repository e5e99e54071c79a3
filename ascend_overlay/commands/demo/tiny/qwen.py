"""Qwen3, dense and with experts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.tiny.arrange import experts as arrange_experts
from ascend_overlay.commands.demo.tiny.arrange import successors
from ascend_overlay.commands.demo.tiny.checkpoint import Weight, attention, common, matrix, mlp, norm, write


def make_qwen3(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    **config: Any,
) -> Path:
    """Write a Qwen3 of about half a million parameters in bfloat16: norms of queries and keys, grouped-query attention.

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
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "intermediate_size": 2 * hidden,
        **_settings(layers, hidden, heads, kv_heads),
    } | config
    return write(Path(path), settings, _weights(settings), successors, seed)


def make_qwen3_moe(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    experts: int = 8,
    experts_per_token: int = 2,
    **config: Any,
) -> Path:
    """Write a Qwen3 with experts in every layer, of about one million parameters in bfloat16.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        hidden: width of the hidden state.
        heads: attention heads.
        kv_heads: heads of keys and values.
        experts: experts of a layer.
        experts_per_token: experts that see a token.
        **config: further entries of config.json, which win over those written here.

    Returns:
        The folder.
    """
    settings = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "intermediate_size": 2 * hidden,
        "moe_intermediate_size": hidden // 2,
        "num_experts": experts,
        "num_experts_per_tok": experts_per_token,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        **_settings(layers, hidden, heads, kv_heads),
    } | config
    return write(Path(path), settings, _weights(settings), arrange_experts, seed)


def _settings(layers: int, hidden: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        # Not hidden // heads, as in most of the published models.
        "head_dim": 2 * hidden // heads,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "use_sliding_window": False,
        **common(),
    }


def _weights(config: dict[str, Any]) -> Iterable[Weight]:
    hidden, head = config["hidden_size"], config["head_dim"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield norm(f"{prefix}.input_layernorm", hidden)
        yield from attention(f"{prefix}.self_attn", config)
        yield norm(f"{prefix}.self_attn.q_norm", head)
        yield norm(f"{prefix}.self_attn.k_norm", head)
        yield norm(f"{prefix}.post_attention_layernorm", hidden)
        if experts := config.get("num_experts"):
            yield matrix(f"{prefix}.mlp.gate", experts, hidden)
            for expert in range(experts):
                yield from mlp(f"{prefix}.mlp.experts.{expert}", hidden, config["moe_intermediate_size"])
        else:
            yield from mlp(f"{prefix}.mlp", hidden, config["intermediate_size"])
