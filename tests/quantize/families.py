"""Tiny configurations of the families that transformers and vLLM both have, made by rule, not by hand."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 512
_MOST = 8_000_000

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim", "embedding_size"), 128),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(("head_dim", "kv_channels", "global_head_dim", "attention_head_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "decoder_ffn_dim"), 256),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"), 256),
    **dict.fromkeys(
        ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "num_routed_experts"), 4
    ),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "num_experts_per_token"), 2),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("shared_intermediate_size", "intermediate_size_mlp", "moe_shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("n_shared_experts", "moe_num_shared_experts", "num_shared_experts", "num_shared_expert"), 1),
    **dict.fromkeys(
        ("n_group", "topk_group", "first_k_dense_replace", "num_expert_groups", "moe_layer_start_index"), 1
    ),
    # vLLM's attention for latents takes these only.
    "q_lora_rank": 64,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "qk_head_dim": 96,
    "rotary_dim": 32,
    "sliding_window": 32,
    "hidden_size_per_layer_input": 16,
    "query_pre_attn_scalar": 32,
    # State spaces.
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "linear_num_value_heads", "linear_num_key_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 32),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size", "mamba_d_ssm"), 16),
    "mamba_d_ssm": 256,
    "mamba_dt_rank": 4,
    **dict.fromkeys(("n_groups", "mamba_n_groups", "mamba_ngroups"), 1),
}
"""What a configuration has of these becomes so small."""

_MORE: dict[str, dict[str, Any]] = {
    "Gemma3nForCausalLM": {
        "intermediate_size": [256, 256],
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "Gemma4ForCausalLM": {
        "num_hidden_layers": 3,
        "num_kv_shared_layers": 0,
        "attention_k_eq_v": True,
        "num_experts": None,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        "num_global_key_value_heads": 2,
    },
    "FalconForCausalLM": {"new_decoder_architecture": True, "ffn_hidden_size": 512},
    "OPTForCausalLM": {"word_embed_proj_dim": 128},
    "DeepseekV2ForCausalLM": {"topk_method": "greedy"},
    "DeepseekV3ForCausalLM": {"topk_method": "noaux_tc"},
    "Glm4MoeForCausalLM": {"head_dim": 32},
    "Glm4MoeLiteForCausalLM": {"first_k_dense_replace": 1, "topk_method": "noaux_tc"},
    "Qwen3NextForCausalLM": {"layer_types": ["linear_attention", "full_attention"]},
    "HYV3ForCausalLM": {"first_k_dense_replace": 1},
    "AfmoeForCausalLM": {"score_func": "sigmoid"},
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 32},
    "JambaForCausalLM": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "BambaForCausalLM": {"attn_layer_indices": [1]},
    "GraniteMoeHybridForCausalLM": {"layer_types": ["mamba", "attention"]},
    "Zamba2ForCausalLM": {"num_hidden_layers": 2, "layers_block_type": ["mamba", "hybrid"]},
}
"""What the rule does not know of a family."""


def shared() -> list[str]:
    """Return the names of the classes of language models that vLLM and transformers both have."""
    import transformers
    from vllm.model_executor.models.registry import _TEXT_GENERATION_MODELS

    found = []
    for name in sorted(_TEXT_GENERATION_MODELS):
        try:
            cls = getattr(transformers, name, None)
        except Exception:  # a class whose own imports fail is one that transformers does not have here
            cls = None
        if cls is not None and getattr(cls, "config_class", None) is not None:
            found.append(name)
    return found


def make(name: str, folder: Path) -> Path:
    """Write a tiny model of the class `name`, in bfloat16, whose layers and output matter."""
    import transformers

    cls = getattr(transformers, name)
    known = set(inspect.signature(cls.config_class.__init__).parameters) | set(vars(cls.config_class()))
    known |= set(getattr(cls.config_class, "attribute_map", {}))
    sizes = {key: value for key, value in _SIZES.items() if key in known}
    # Tokens at the ends of the usual vocabularies are not in this one.
    sizes |= {key: 0 for key in ("pad_token_id", "bos_token_id", "eos_token_id") if key in known}
    sizes |= _MORE.get(name, {})
    config = cls.config_class(**sizes)
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in cls(config).parameters())
    if count > _MOST:
        raise ValueError(f"{count:,} parameters are not tiny")
    torch.manual_seed(0)
    model = cls(config).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    return folder
