"""CustomModelForCausalLM for vLLM.

A decoder-only language model that no model class of vLLM can serve:

- attention and MLP read the same normalised input and their outputs are added together (a parallel block);
- queries and keys are normalised per head before the rotary embedding (QK norm);
- the rotary embedding covers a part of each head;
- each attention head has a gate in (0, 1), computed from the layer's input.

With x the residual stream, one layer is::

    n = RMSNorm(x)
    x = x + o_proj(sigmoid(head_gate(n)) * attention(q_norm(q_proj(n)), k_norm(k_proj(n)), v_proj(n))) + mlp(n)

All tensors are flat: vLLM puts the tokens of all sequences of a step into one dimension, `tokens` below.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import ClassVar

import torch
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.distributed import (
    get_pp_group,
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_reduce,
)
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.model_executor.models.interfaces import SupportsPP, SupportsQuant
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    PPMissingLayer,
    is_pp_missing_parameter,
    make_empty_intermediate_tensors_factory,
    make_layers,
    maybe_prefix,
)
from vllm.sequence import IntermediateTensors

# name in the checkpoint -> (parameter of this model, shard of that parameter)
STACKED: dict[str, tuple[str, str | int]] = {
    "q_proj": ("qkv_proj", "q"),
    "k_proj": ("qkv_proj", "k"),
    "v_proj": ("qkv_proj", "v"),
    "gate_proj": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
}


class CustomAttention(nn.Module):
    """Grouped-query attention with QK norm, partial rotary embedding and a gate per head.

    Its output is a partial sum over the tensor-parallel ranks: the decoder layer adds it to the MLP's and reduces once.
    """

    def __init__(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        quant_config = vllm_config.quant_config
        ranks = get_tensor_model_parallel_world_size()
        self.head_dim = config.head_dim
        self.num_heads = config.num_attention_heads // ranks
        # With more ranks than key-value heads, QKVParallelLinear gives several ranks the same head.
        self.num_kv_heads = max(1, config.num_key_value_heads // ranks)
        self.q_size = self.num_heads * self.head_dim
        self.kv_size = self.num_kv_heads * self.head_dim

        self.qkv_proj = QKVParallelLinear(
            config.hidden_size,
            self.head_dim,
            config.num_attention_heads,
            config.num_key_value_heads,
            bias=False,
            quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )
        # Never quantized: one output a head is too narrow for quantized kernels, and cheap.
        self.head_gate = ColumnParallelLinear(
            config.hidden_size, config.num_attention_heads, bias=True, prefix=f"{prefix}.head_gate"
        )
        self.o_proj = RowParallelLinear(
            config.num_attention_heads * self.head_dim,
            config.hidden_size,
            bias=False,
            reduce_results=False,
            quant_config=quant_config,
            prefix=f"{prefix}.o_proj",
        )
        self.q_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.rotary_emb = get_rope(
            self.head_dim,
            max_position=config.max_position_embeddings,
            rope_parameters=config.rope_parameters,
        )
        # The prefix is the layer's key in the KV cache and in the forward context; it must be unique.
        self.attn = Attention(
            self.num_heads,
            self.head_dim,
            self.head_dim**-0.5,
            num_kv_heads=self.num_kv_heads,
            cache_config=vllm_config.cache_config,
            quant_config=quant_config,
            prefix=f"{prefix}.attn",
        )

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """Attend.

        Args:
            positions: [tokens], integer positions of the tokens in their sequences.
            hidden_states: [tokens, hidden_size], normalised.

        Returns:
            [tokens, hidden_size], this rank's part of the sum.
        """
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        q = self.q_norm(q.reshape(-1, self.num_heads, self.head_dim)).reshape(-1, self.q_size)
        k = self.k_norm(k.reshape(-1, self.num_kv_heads, self.head_dim)).reshape(-1, self.kv_size)
        q, k = self.rotary_emb(positions, q, k)
        attended = self.attn(q, k, v)
        gate, _ = self.head_gate(hidden_states)
        gated = attended.view(-1, self.num_heads, self.head_dim) * torch.sigmoid(gate).unsqueeze(-1)
        output, _ = self.o_proj(gated.view(-1, self.q_size))
        return output


class CustomMLP(nn.Module):
    """SwiGLU; its output is a partial sum over the tensor-parallel ranks, like that of CustomAttention."""

    def __init__(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.gate_up_proj = MergedColumnParallelLinear(
            config.hidden_size,
            [config.intermediate_size] * 2,
            bias=False,
            quant_config=vllm_config.quant_config,
            prefix=f"{prefix}.gate_up_proj",
        )
        self.act_fn = SiluAndMul()
        self.down_proj = RowParallelLinear(
            config.intermediate_size,
            config.hidden_size,
            bias=False,
            reduce_results=False,
            quant_config=vllm_config.quant_config,
            prefix=f"{prefix}.down_proj",
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return this rank's part of the sum; [tokens, hidden_size] in and out."""
        gate_up, _ = self.gate_up_proj(hidden_states)
        output, _ = self.down_proj(self.act_fn(gate_up))
        return output


class CustomDecoderLayer(nn.Module):
    """One parallel block."""

    def __init__(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = CustomAttention(vllm_config, prefix=f"{prefix}.self_attn")
        self.mlp = CustomMLP(vllm_config, prefix=f"{prefix}.mlp")

    def forward(
        self, positions: torch.Tensor, update: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what this layer adds to the residual stream.

        Adding is left to the next norm, which does both in one operator.

        Args:
            positions: [tokens].
            update: [tokens, hidden_size], what the layer before adds; for the first layer the embeddings.
            residual: [tokens, hidden_size], the stream before that; None for the first layer.

        Returns:
            update and residual for the next layer.
        """
        if residual is None:
            normed, residual = self.norm(update), update
        else:
            normed, residual = self.norm(update, residual)
        partial = self.self_attn(positions, normed) + self.mlp(normed)
        return tensor_model_parallel_all_reduce(partial), residual


# The dynamic dimensions are spelt out because vLLM infers them from annotations, which are strings in this file.
@support_torch_compile(
    dynamic_arg_dims={"input_ids": 0, "positions": -1, "intermediate_tensors": 0, "inputs_embeds": 0}
)
class CustomModel(nn.Module):
    """Embeddings, this pipeline stage's layers, final norm."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        pipeline = get_pp_group()
        self.embed_tokens: nn.Module = PPMissingLayer()
        # Tied weights: the last stage needs the table for the logits.
        if pipeline.is_first_rank or (config.tie_word_embeddings and pipeline.is_last_rank):
            self.embed_tokens = VocabParallelEmbedding(
                config.vocab_size,
                config.hidden_size,
                quant_config=vllm_config.quant_config,
                prefix=maybe_prefix(prefix, "embed_tokens"),
            )
        self.start_layer, self.end_layer, self.layers = make_layers(
            config.num_hidden_layers,
            lambda prefix: CustomDecoderLayer(vllm_config, prefix=prefix),
            prefix=maybe_prefix(prefix, "layers"),
        )
        self.norm: nn.Module = PPMissingLayer()
        if pipeline.is_last_rank:
            self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory(
            ["update", "residual"], config.hidden_size
        )

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings [tokens, hidden_size] of the token ids [tokens]."""
        return self.embed_tokens(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        """Run this stage's layers.

        Args:
            input_ids: [tokens]; None where inputs_embeds are given.
            positions: [tokens].
            intermediate_tensors: "update" and "residual" of the stage before; None in the first stage.
            inputs_embeds: [tokens, hidden_size], embeddings in place of input_ids.

        Returns:
            In the last stage the normalised hidden states [tokens, hidden_size]; else what the next stage takes.
        """
        update: torch.Tensor
        residual: torch.Tensor | None
        if get_pp_group().is_first_rank:
            update = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
            residual = None
        else:
            assert intermediate_tensors is not None
            update, residual = intermediate_tensors["update"], intermediate_tensors["residual"]
        for layer in islice(self.layers, self.start_layer, self.end_layer):
            update, residual = layer(positions, update, residual)
        if not get_pp_group().is_last_rank:
            return IntermediateTensors({"update": update, "residual": residual})
        hidden_states, _ = self.norm(update, residual)
        return hidden_states

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load the checkpoint's tensors into the fused and sharded parameters.

        Args:
            weights: names relative to this module, and full tensors.

        Returns:
            The names of the parameters that were loaded; vLLM complains about those that are not among them.

        Raises:
            ValueError: a tensor belongs to no parameter.
        """
        parameters = dict(self.named_parameters())
        loaded: set[str] = set()
        for name, weight in weights:
            if is_pp_missing_parameter(name, self):
                continue
            owner, _, leaf = name.rpartition(".")
            parent, _, projection = owner.rpartition(".")
            fused, shard = STACKED.get(projection, (projection, None))
            place = ".".join(part for part in (parent, fused, leaf) if part)
            if place not in parameters:
                raise ValueError(
                    f"the checkpoint's tensor {name!r} belongs to no parameter of CustomModel ({place!r})."
                )
            parameter = parameters[place]
            loader = getattr(parameter, "weight_loader", default_weight_loader)
            if shard is None:
                loader(parameter, weight)
            else:
                loader(parameter, weight, shard)
            loaded.add(place)
        return loaded


class CustomModelForCausalLM(nn.Module, SupportsPP, SupportsQuant):
    """The model as vLLM sees it."""

    # Which checkpoint modules a fused module stands for; quantization configs that name modules need it.
    packed_modules_mapping: ClassVar[dict[str, list[str]]] = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.tied = config.tie_word_embeddings
        self.model = CustomModel(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.lm_head: nn.Module = PPMissingLayer()
        if get_pp_group().is_last_rank:
            self.lm_head = ParallelLMHead(
                config.vocab_size,
                config.hidden_size,
                quant_config=vllm_config.quant_config,
                prefix=maybe_prefix(prefix, "lm_head"),
            )
            if self.tied:
                self.lm_head = self.lm_head.tie_weights(self.model.embed_tokens)
        self.logits_processor = LogitsProcessor(config.vocab_size)
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings [tokens, hidden_size] of the token ids [tokens]."""
        return self.model.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        """Return the hidden states; see CustomModel.forward."""
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Return the logits [rows, vocab_size] of the hidden states [rows, hidden_size] that are sampled from.

        On tensor-parallel ranks other than the first the result may be None.
        """
        return self.logits_processor(self.lm_head, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a checkpoint; AutoWeightsLoader hands each child the tensors under its name."""
        # A tied checkpoint may carry the table a second time.
        wanted = ((name, weight) for name, weight in weights if not (self.tied and name.startswith("lm_head.")))
        return AutoWeightsLoader(self).load_weights(wanted)
