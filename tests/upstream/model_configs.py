"""Configurations of the public models that vLLM's tests name, in a Hugging Face cache of their own.

They are ours, and have what the tests of a layer look at: the sizes. DeepSeek-R1 has 16 of its 128 heads, those of one
rank of eight.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_REVISION = "0" * 40

CONFIGS: dict[str, dict[str, Any]] = {
    # What vLLM takes where no model is named.
    "Qwen/Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "vocab_size": 151936,
        "torch_dtype": "bfloat16",
    },
    "meta-llama/Meta-Llama-3-8B": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "vocab_size": 128256,
        "torch_dtype": "bfloat16",
    },
    "microsoft/Phi-tiny-MoE-instruct": {
        "architectures": ["PhiMoEForCausalLM"],
        "model_type": "phimoe",
        "hidden_size": 4096,
        "intermediate_size": 448,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_local_experts": 16,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 4096,
        "sliding_window": 2047,
        "vocab_size": 32064,
        "torch_dtype": "bfloat16",
    },
    "deepseek-ai/DeepSeek-R1": {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "max_position_embeddings": 163840,
        "vocab_size": 129280,
        "torch_dtype": "bfloat16",
    },
}


def write(home: Path) -> None:
    """Fill `home`, a folder for HF_HOME."""
    for name, config in CONFIGS.items():
        folder = home / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / _REVISION
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(_REVISION, encoding="utf-8")
        (snapshot / "config.json").write_text(json.dumps(config), encoding="utf-8")
