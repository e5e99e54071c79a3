"""DeepSeek-V2 and -V3."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.tiny.arrange import experts as arrange_experts
from ascend_overlay.commands.demo.tiny.arrange import groups_of_experts
from ascend_overlay.commands.demo.tiny.checkpoint import Weight, common, matrix, mlp, norm, write


def make_deepseek_v2(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 3,
    dense_layers: int = 1,
    hidden: int = 128,
    heads: int = 4,
    experts: int = 8,
    experts_per_token: int = 2,
    q_lora_rank: int | None = None,
    **config: Any,
) -> Path:
    """Write a DeepSeek-V2 of about two million parameters in bfloat16: MLA, yarn rotary embedding, routed experts.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        dense_layers: how many of them, from the first on, have a dense MLP in place of experts.
        hidden: width of the hidden state.
        heads: attention heads.
        experts: routed experts of a layer; there is one shared expert besides.
        experts_per_token: routed experts that see a token.
        q_lora_rank: rank of the compressed queries; None for none, as in DeepSeek-V2-Lite.
        **config: further entries of config.json, which win over those written here.

    Returns:
        The folder.
    """
    settings = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "q_lora_rank": q_lora_rank,
        "n_group": 1,
        "topk_group": 1,
        "topk_method": "greedy",
        "scoring_func": "softmax",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        **_settings(layers, dense_layers, hidden, heads, experts, experts_per_token, mscale=0.707),
    } | config
    return write(Path(path), settings, _weights(settings), arrange_experts, seed)


def make_deepseek_v3(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 3,
    dense_layers: int = 1,
    hidden: int = 128,
    heads: int = 4,
    experts: int = 16,
    experts_per_token: int = 4,
    groups: int = 4,
    groups_per_token: int = 2,
    q_lora_rank: int | None = 64,
    **config: Any,
) -> Path:
    """Write a DeepSeek-V3 of about two million parameters in bfloat16.

    It has MLA with compressed queries, and routes by sigmoid with a bias (in float32), in groups, with renormalised
    weights times 2.5.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        dense_layers: how many of them, from the first on, have a dense MLP in place of experts.
        hidden: width of the hidden state.
        heads: attention heads.
        experts: routed experts of a layer, at least four in each group; there is one shared expert besides.
        experts_per_token: routed experts that see a token.
        groups: groups that the experts are in.
        groups_per_token: groups that the experts of a token come from; less than `groups`.
        q_lora_rank: rank of the compressed queries; None for none.
        **config: further entries of config.json, which win over those written here.

    Returns:
        The folder.
    """
    settings = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "q_lora_rank": q_lora_rank,
        "n_group": groups,
        "topk_group": groups_per_token,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        # No layers that predict several tokens.
        "num_nextn_predict_layers": 0,
        **_settings(layers, dense_layers, hidden, heads, experts, experts_per_token, mscale=1.0),
    } | config
    return write(Path(path), settings, _weights(settings), groups_of_experts, seed)


def _settings(
    layers: int, dense_layers: int, hidden: int, heads: int, experts: int, experts_per_token: int, *, mscale: float
) -> dict[str, Any]:
    # vLLM's MLA kernels take 512 + 64 as size of the cached latent and no other of this kind.
    latent, rope, nope, value = 512, 64, 32, 32
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "kv_lora_rank": latent,
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": nope,
        "v_head_dim": value,
        "intermediate_size": 2 * hidden,
        "moe_intermediate_size": hidden // 2,
        "first_k_dense_replace": dense_layers,
        "moe_layer_freq": 1,
        "n_routed_experts": experts,
        "num_experts_per_tok": experts_per_token,
        "n_shared_experts": 1,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 512,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": mscale,
            "mscale_all_dim": mscale,
        },
        **common(),
    }


def _weights(config: dict[str, Any]) -> Iterable[Weight]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    latent, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
    nope, value, q_rank = config["qk_nope_head_dim"], config["v_head_dim"], config["q_lora_rank"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        attention = f"{prefix}.self_attn"
        yield norm(f"{prefix}.input_layernorm", hidden)
        if q_rank is None:
            yield matrix(f"{attention}.q_proj", heads * (nope + rope), hidden)
        else:
            yield matrix(f"{attention}.q_a_proj", q_rank, hidden)
            yield norm(f"{attention}.q_a_layernorm", q_rank)
            yield matrix(f"{attention}.q_b_proj", heads * (nope + rope), q_rank)
        yield matrix(f"{attention}.kv_a_proj_with_mqa", latent + rope, hidden)
        yield norm(f"{attention}.kv_a_layernorm", latent)
        yield matrix(f"{attention}.kv_b_proj", heads * (nope + value), latent)
        yield matrix(f"{attention}.o_proj", hidden, heads * value)
        yield norm(f"{prefix}.post_attention_layernorm", hidden)
        if layer < config["first_k_dense_replace"]:
            yield from mlp(f"{prefix}.mlp", hidden, config["intermediate_size"])
            continue
        inner = config["moe_intermediate_size"]
        yield matrix(f"{prefix}.mlp.gate", config["n_routed_experts"], hidden)
        if config["topk_method"] == "noaux_tc":
            yield Weight(f"{prefix}.mlp.gate.e_score_correction_bias", (config["n_routed_experts"],), 0.0, exact=True)
        for expert in range(config["n_routed_experts"]):
            yield from mlp(f"{prefix}.mlp.experts.{expert}", hidden, inner)
        yield from mlp(f"{prefix}.mlp.shared_experts", hidden, inner * config["n_shared_experts"])
