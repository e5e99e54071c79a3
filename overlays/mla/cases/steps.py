"""A layer of DeepSeek's attention served step by step, as vLLM's worker does, without a model around it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.cases import tiles
from ascend_overlay.npu.cases.numbers import here, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

LATENT, ROPE = 512, 64
_PREFIX = "model.layers.0.self_attn"


class LatentSteps:
    """DeepseekV2MLAAttention with random weights and a paged cache whose blocks are dealt in random order.

    Args:
        dtype: of weights, hidden states and cache.
        heads: of the layer.
        plain: elements of a head that are not rotated.
        value: elements of a value's head.
        hidden: width of the hidden states.
        q_lora_rank: rank of compressed queries, or None.
        block_size: tokens of a block; vLLM's own backend takes 16.
        workspace: tokens of cached context that are attended to at a time; a multiple of `block_size`.
        neox: rotate halves in place of neighbours.
        speculative: how many tokens are proposed beside the next; makes queries of several tokens decode.
        fill: what the cache has before it is written.
    """

    def __init__(
        self,
        *,
        dtype: str = "bfloat16",
        heads: int = 4,
        plain: int = 128,
        value: int = 128,
        hidden: int = 256,
        q_lora_rank: int | None = None,
        block_size: int = 16,
        workspace: int = 64,
        neox: bool = False,
        speculative: int = 0,
        fill: float = 0.0,
    ) -> None:
        tiles.allow()
        self.dtype = getattr(torch, dtype)
        self.block_size = block_size
        self.heads, self.plain, self.value, self.hidden, self.q_lora_rank = heads, plain, value, hidden, q_lora_rank
        self.config = self._configuration(workspace, speculative)
        with self._configured():
            self.layer = self._served(neox)
            self.attention = self.layer.mla_attn.mla_attn
            self.weights = {name: weight.detach().clone() for name, weight in self.layer.named_parameters()}
            for module in self.layer.modules():
                if hasattr(module, "quant_method"):
                    module.quant_method.process_weights_after_loading(module)
            self.attention.process_weights_after_loading(self.dtype)
            blocks = 64 * 16 // block_size
            cache = torch.full((blocks, 1, block_size, LATENT + ROPE), fill, dtype=self.dtype)
            self.attention.bind_kv_cache(cache)
            self.builder = self._builder()
        random = torch.Generator("cpu").manual_seed(3)
        self._free = torch.randperm(blocks, generator=random, device="cpu").tolist()
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}

    def inputs(self, sequence: int, tokens: int) -> Tensor:
        """Return the first hidden states of a sequence; each sequence has its own."""
        return normal(100 + sequence, 512, self.hidden)[:tokens].to(self.dtype)

    def share(self, sequence: int, other: int, tokens: int) -> None:
        """Begin a sequence with the cached blocks of another, as a hit of the prefix cache does."""
        assert tokens % self.block_size == 0
        self.tables[sequence] = self.tables[other][: tokens // self.block_size]
        self.lengths[sequence] = tokens

    def step(
        self, new: Mapping[int, int], inputs: Mapping[int, Tensor] | None = None, padding: int = 0
    ) -> list[Tensor]:
        """Run the layer for the next tokens of some sequences.

        Args:
            new: sequence -> how many tokens; in an order that vLLM would choose, fewest first.
            inputs: sequence -> all its hidden states so far; default: its own.
            padding: rows of the batch that belong to nobody.

        Returns:
            The layer's output for these tokens, a tensor a sequence.
        """
        from vllm.forward_context import set_forward_context

        before = {sequence: self.lengths.get(sequence, 0) for sequence in new}
        states, positions = [], []
        for sequence, count in new.items():
            end = before[sequence] + count
            mine = self.inputs(sequence, end) if inputs is None else inputs[sequence][:end]
            states.append(mine[before[sequence] :])
            positions.append(torch.arange(before[sequence], end))
            self.lengths[sequence] = end
        common = self._common(list(new.values()), list(new), padding)
        with self._configured(), torch.inference_mode():
            metadata = self.builder.build(0, common)
            slots = common.slot_mapping
            name = self.attention.layer_name
            with set_forward_context({name: metadata}, self.config, slot_mapping={name: slots}):
                given = torch.cat([*states, torch.zeros(padding, self.hidden, dtype=self.dtype)])
                where = torch.cat([*positions, torch.zeros(padding, dtype=torch.int64)])
                out = self.forward(where, given)
        return list(out[: len(out) - padding].split_with_sizes(list(new.values())))

    def forward(self, positions: Tensor, states: Tensor) -> Tensor:
        """Call the layer."""
        out: Tensor = self.layer(positions, states, None)
        return out

    def _common(self, counts: list[int], sequences: list[int], padding: int) -> Any:
        from vllm.v1.attention.backend import CommonAttentionMetadata

        slots = []
        for sequence, count in zip(sequences, counts, strict=True):
            table, end = self.tables.setdefault(sequence, []), self.lengths[sequence]
            while len(table) * self.block_size < end:
                table.append(self._free.pop())
            slots += [
                table[t // self.block_size] * self.block_size + t % self.block_size for t in range(end - count, end)
            ]
        longest = max(len(self.tables[sequence]) for sequence in sequences)
        tables = torch.zeros(len(sequences), longest + 1, dtype=torch.int32)
        for row, sequence in enumerate(sequences):
            tables[row, : len(self.tables[sequence])] = torch.tensor(self.tables[sequence], dtype=torch.int32)
        with torch.device("cpu"):
            starts = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
            lengths = torch.tensor([self.lengths[sequence] for sequence in sequences], dtype=torch.int32)
        return CommonAttentionMetadata(
            query_start_loc=here(starts),
            query_start_loc_cpu=starts,
            seq_lens=here(lengths),
            num_reqs=len(sequences),
            num_actual_tokens=sum(counts),
            max_query_len=max(counts),
            max_seq_len=int(lengths.max()),
            block_table_tensor=tables,
            slot_mapping=torch.tensor([*slots, *[-1] * padding]),
            seq_lens_cpu_upper_bound=lengths,
        )

    def _configuration(self, workspace: int, speculative: int) -> Any:
        from vllm.config import VllmConfig

        config = VllmConfig()
        text = SimpleNamespace(
            kv_lora_rank=LATENT, qk_rope_head_dim=ROPE, qk_nope_head_dim=self.plain, v_head_dim=self.value
        )
        config.model_config = SimpleNamespace(  # type: ignore[assignment, unused-ignore]
            dtype=self.dtype,
            hf_text_config=text,
            use_mla=True,
            is_hybrid=False,
            max_model_len=workspace // 8,
            rswa_window=None,
            get_head_size=lambda: LATENT + ROPE,
            get_num_attention_heads=lambda parallel: self.heads,
        )
        config.scheduler_config.max_num_seqs = 1
        config.cache_config.block_size = self.block_size
        config.cache_config.user_specified_block_size = True
        if speculative:
            config.speculative_config = SimpleNamespace(  # type: ignore[assignment, unused-ignore]
                num_speculative_tokens=speculative, parallel_drafting=False, enable_adaptive_verification=False
            )
        return config

    @contextlib.contextmanager
    def _configured(self) -> Iterator[None]:
        from vllm.config import set_current_vllm_config

        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with set_current_vllm_config(self.config), self.config.kernel_config.ir_op_priority.set_priority():
                yield
        finally:
            torch.set_default_dtype(before)

    def _served(self, neox: bool) -> Any:
        """Return the layer with a backend that takes its dtype.

        On a CPU with AMX vLLM chooses AMX_MLA whatever the dtype is; that one takes bfloat16 alone, and computes wrong
        numbers, without a word, of float16.
        """
        from vllm.v1.attention.backends.registry import AttentionBackendEnum

        layer = self._layer(neox)
        if layer.mla_attn.mla_attn.get_attn_backend().supports_dtype(self.dtype):
            return layer
        self.config.compilation_config.static_forward_context.clear()
        self.config.attention_config.backend = AttentionBackendEnum.CPU_MLA
        return self._layer(neox)

    def _layer(self, neox: bool) -> Any:
        from vllm.model_executor.layers import rotary_embedding
        from vllm.model_executor.models import deepseek_v2

        parameters = {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 0.707,
            "mscale_all_dim": 0.707,
        }
        settings = SimpleNamespace(rms_norm_eps=1e-6, rope_parameters=parameters)
        rotary_embedding._ROPE_DICT.clear()

        def rope(*args: Any, is_neox_style: bool, **kwargs: Any) -> Any:
            return rotary_embedding.get_rope(*args, is_neox_style=neox, **kwargs)

        theirs, deepseek_v2.get_rope = deepseek_v2.get_rope, rope
        try:
            layer = deepseek_v2.DeepseekV2MLAAttention(
                self.config,
                settings,
                self.hidden,
                self.heads,
                self.plain,
                ROPE,
                self.value,
                self.q_lora_rank,
                LATENT,
                max_position_embeddings=512,
                cache_config=self.config.cache_config,
                prefix=_PREFIX,
            )
        finally:
            deepseek_v2.get_rope = theirs
        generator = torch.Generator("cpu").manual_seed(1)
        for weight in layer.parameters():
            matrix = weight.dim() == 2
            numbers = here(torch.randn(weight.shape, generator=generator, device="cpu"))
            weight.data.copy_(numbers * weight.shape[-1] ** -0.5 if matrix else 1 + numbers * 0.1)
        return layer

    def _builder(self) -> Any:
        from vllm.v1.kv_cache_interface import MLAAttentionSpec

        spec = MLAAttentionSpec(block_size=self.block_size, num_kv_heads=1, head_size=LATENT + ROPE, dtype=self.dtype)
        builder = self.attention.get_attn_backend().get_builder_cls()
        return builder(spec, [self.attention.layer_name], self.config, torch.get_default_device())

    def exact(self, sequence: int, tokens: int, inputs: Tensor | None = None) -> Tensor:
        """Return the layer's output for all tokens of a sequence, by the plain formula in float64."""
        x = (self.inputs(sequence, tokens) if inputs is None else inputs[:tokens]).double()
        layer, heads = self.layer, self.heads
        if self.q_lora_rank is None:
            q, kv = self._projected(x, "q_proj"), self._projected(x, "kv_a_proj_with_mqa")
        else:
            both = self._projected(x, "fused_qkv_a_proj")
            compressed, kv = both.split_with_sizes((self.q_lora_rank, LATENT + ROPE), -1)
            q = self._projected(self._normalized(compressed, "q_a_layernorm"), "q_b_proj")
        q = q.view(tokens, heads, -1)
        latent = self._normalized(kv[:, :LATENT], "kv_a_layernorm")
        made = self._projected(latent, "kv_b_proj").view(tokens, heads, -1)
        turn = torch.polar(*_angles(layer.rotary_emb, tokens))
        neox = layer.rotary_emb.is_neox_style
        q_rope = _turned(q[..., self.plain :], turn.unsqueeze(1), neox)
        k_rope = _turned(kv[:, LATENT:], turn, neox)
        scores = torch.einsum("qhd,khd->hqk", q[..., : self.plain], made[..., : self.plain])
        scores = (scores + torch.einsum("qhd,kd->hqk", q_rope, k_rope)) * layer.scaling
        scores.masked_fill_(torch.ones(tokens, tokens, dtype=torch.bool).triu(1), -torch.inf)
        out = torch.einsum("hqk,khd->qhd", scores.softmax(-1), made[..., self.plain :])
        return self._projected(out.flatten(1), "o_proj")

    def _projected(self, x: Tensor, name: str) -> Tensor:
        y: Tensor = x @ self.weights[f"{name}.weight"].double().T
        return y

    def _normalized(self, x: Tensor, name: str) -> Tensor:
        y: Tensor = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weights[f"{name}.weight"].double()
        return y


def _angles(rope: Any, tokens: int) -> tuple[Tensor, Tensor]:
    cos, sin = rope.cos_sin_cache[:tokens].double().chunk(2, -1)
    return (cos.square() + sin.square()).sqrt(), torch.atan2(sin, cos)


def _turned(x: Tensor, turn: Tensor, neox: bool) -> Tensor:
    """Return pairs turned as complex numbers, in any order that is the same for queries and keys."""
    pairs = torch.complex(*x.chunk(2, -1)) if neox else torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2)
