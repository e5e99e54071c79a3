# ruff: noqa: UP006, UP007, UP035, UP045, RUF012  (the API is of another time, and so is the typing)
"""A model from scratch and a customised DeepSeek-V2, in the API of vLLM 0.8: what the overlay `compat` is for."""

from typing import Iterable, List, Optional, Set, Tuple, Union

import torch
from torch import nn
from vllm.attention import Attention, AttentionMetadata
from vllm.config import VllmConfig
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import MergedColumnParallelLinear, QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.model_executor.models.deepseek_v2 import DeepseekV2ForCausalLM
from vllm.model_executor.sampling_metadata import SamplingMetadata
from vllm.sequence import IntermediateTensors

Hidden = Union[torch.Tensor, IntermediateTensors]
Weights = Iterable[Tuple[str, torch.Tensor]]

PACKED = {
    "qkv_proj": {"q_proj": "q", "k_proj": "k", "v_proj": "v"},
    "gate_up_proj": {"gate_proj": 0, "up_proj": 1},
}


class CustomAttention(nn.Module):
    def __init__(self, vllm_config: VllmConfig, prefix: str):
        super().__init__()
        config = vllm_config.model_config.hf_config
        heads, kv_heads, self.head = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.sizes = [heads * self.head, kv_heads * self.head, kv_heads * self.head]
        self.qkv_proj = QKVParallelLinear(
            config.hidden_size, self.head, heads, kv_heads, bias=False, prefix=f"{prefix}.qkv_proj"
        )
        self.o_proj = RowParallelLinear(self.sizes[0], config.hidden_size, bias=False, prefix=f"{prefix}.o_proj")
        self.rotary_emb = get_rope(
            self.head, rotary_dim=self.head, max_position=config.max_position_embeddings, base=10000
        )
        self.attn = Attention(
            heads,
            self.head,
            self.head**-0.5,
            kv_heads,
            None,
            vllm_config.cache_config,
            vllm_config.quant_config,
            prefix=f"{prefix}.attn",
        )

    def forward(self, positions, hidden_states, kv_cache, attn_metadata: AttentionMetadata) -> torch.Tensor:
        q, k, v = self.qkv_proj(hidden_states)[0].split(self.sizes, dim=-1)
        q, k = self.rotary_emb(positions, q, k)
        return self.o_proj(self.attn(q, k, v, kv_cache, attn_metadata))[0]


class CustomMLP(nn.Module):
    def __init__(self, vllm_config: VllmConfig, prefix: str):
        super().__init__()
        config = vllm_config.model_config.hf_config
        inner = config.intermediate_size
        self.gate_up_proj = MergedColumnParallelLinear(
            config.hidden_size, [inner] * 2, bias=False, prefix=f"{prefix}.gate_up_proj"
        )
        self.down_proj = RowParallelLinear(inner, config.hidden_size, bias=False, prefix=f"{prefix}.down_proj")
        self.act_fn = SiluAndMul()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_up_proj(hidden_states)[0]))[0]


class CustomDecoderLayer(nn.Module):
    def __init__(self, vllm_config: VllmConfig, prefix: str):
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.self_attn = CustomAttention(vllm_config, prefix=f"{prefix}.self_attn")
        self.mlp = CustomMLP(vllm_config, prefix=f"{prefix}.mlp")
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, positions, hidden_states, kv_cache, attn_metadata, residual):
        residual = hidden_states if residual is None else hidden_states + residual
        attended = self.self_attn(positions, self.input_layernorm(residual), kv_cache, attn_metadata)
        hidden_states, residual = self.post_attention_layernorm(attended, residual)
        return self.mlp(hidden_states), residual


class CustomModel(nn.Module):
    def __init__(self, vllm_config: VllmConfig, prefix: str):
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            CustomDecoderLayer(vllm_config, prefix=f"{prefix}.layers.{number}")
            for number in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def get_input_embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.embed_tokens(input_ids)

    def forward(self, input_ids, positions, kv_caches, attn_metadata, inputs_embeds) -> Hidden:
        hidden_states = self.get_input_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        residual = None
        for number, layer in enumerate(self.layers):
            hidden_states, residual = layer(positions, hidden_states, kv_caches[number], attn_metadata, residual)
        return self.norm(hidden_states, residual)[0]

    def load_weights(self, weights: Weights) -> Set[str]:
        parameters, loaded = dict(self.named_parameters()), set()
        for name, weight in weights:
            for packed, shards in PACKED.items():
                shard = next((shard for shard in shards if f".{shard}." in name), None)
                if shard is not None:
                    name = name.replace(shard, packed)
                    parameters[name].weight_loader(parameters[name], weight, shards[shard])
                    break
            else:
                getattr(parameters[name], "weight_loader", default_weight_loader)(parameters[name], weight)
            loaded.add(name)
        return loaded


class CustomModelForCausalLM(nn.Module):
    def __init__(self, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.model = CustomModel(vllm_config, prefix=f"{prefix}.model")
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size)
        self.logits_processor = LogitsProcessor(config.vocab_size)

    def get_input_embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        kv_caches: List[torch.Tensor],
        attn_metadata: AttentionMetadata,
        intermediate_tensors: Optional[IntermediateTensors] = None,
        inputs_embeds: Optional[torch.Tensor] = None,
    ) -> Hidden:
        return self.model(input_ids, positions, kv_caches, attn_metadata, inputs_embeds)

    def compute_logits(
        self, hidden_states: torch.Tensor, sampling_metadata: SamplingMetadata
    ) -> Optional[torch.Tensor]:
        return self.logits_processor(self.lm_head, hidden_states, sampling_metadata)

    def load_weights(self, weights: Weights) -> Set[str]:
        inner, loaded = [], set()
        for name, weight in weights:
            if name.startswith("model."):
                inner.append((name.removeprefix("model."), weight))
            else:
                self.lm_head.weight.weight_loader(self.lm_head.weight, weight)
                loaded.add(name)
        return loaded | {f"model.{name}" for name in self.model.load_weights(inner)}


class CustomDeepseekV2ForCausalLM(DeepseekV2ForCausalLM):
    packed_modules_mapping = {
        "gate_up_proj": ["gate_proj", "up_proj"],
        "experts": [f"experts.0.{part}_proj" for part in ("gate", "up", "down")],
    }

    def get_input_embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().get_input_embeddings(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        kv_caches: Optional[List[torch.Tensor]] = None,
        attn_metadata: Optional[AttentionMetadata] = None,
        intermediate_tensors: Optional[IntermediateTensors] = None,
        inputs_embeds: Optional[torch.Tensor] = None,
    ) -> Hidden:
        return self.model(input_ids, positions, kv_caches, attn_metadata, intermediate_tensors, inputs_embeds)

    def compute_logits(
        self, hidden_states: torch.Tensor, sampling_metadata: SamplingMetadata
    ) -> Optional[torch.Tensor]:
        return super().compute_logits(hidden_states, sampling_metadata)
