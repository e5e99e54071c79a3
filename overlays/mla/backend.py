"""The attention backend, and what is made for it once a step: lengths on the host, as the operators take them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from vllm.model_executor.layers.attention.mla_attention import (
    MLACommonBackend,
    MLACommonDecodeMetadata,
    MLACommonMetadata,
    MLACommonMetadataBuilder,
    QueryLenSupport,
)
from vllm.v1.attention.backend import AttentionCGSupport, MultipleOf
from vllm.v1.kv_cache_layout import KVCacheLayout

from ascend_overlay.overlays.mla import choice
from ascend_overlay.overlays.mla.choice import BLOCK_SIZES, KEY
from ascend_overlay.overlays.mla.impl import AscendMLAImpl

_MOST_QUERIES = 16
"""Of a sequence that is decoded; npu_fused_infer_attention_score takes no more over a latent cache."""

Angles = tuple[torch.Tensor, torch.Tensor]


class AscendMLABackend(MLACommonBackend):  # type: ignore[misc, unused-ignore]
    """Multi-head latent attention by npu_fused_infer_attention_score."""

    supported_dtypes = [torch.bfloat16, torch.float16]  # noqa: RUF012
    supported_kv_cache_dtypes = ["auto", "bfloat16", "float16"]  # noqa: RUF012

    @staticmethod
    def get_name() -> str:
        """Return what vLLM's log calls it."""
        return "ASCEND_MLA"

    @staticmethod
    def get_impl_cls() -> type[AscendMLAImpl]:
        """Return what computes a layer."""
        return AscendMLAImpl

    @staticmethod
    def get_builder_cls() -> type[AscendMLAMetadataBuilder]:
        """Return what prepares a step."""
        return AscendMLAMetadataBuilder

    @classmethod
    def get_supported_head_sizes(cls) -> list[int]:
        """Return the elements of a token in the cache."""
        return [KEY]

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int | MultipleOf]:
        """Return the block sizes of the operator."""
        return list(BLOCK_SIZES)

    @classmethod
    def supports_block_size(cls, block_size: int | None) -> bool:
        """Tell whether a block of the cache may have this size: no multiples, since blocks are not split here."""
        return block_size is None or block_size in BLOCK_SIZES

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[KVCacheLayout, ...]:
        """Return the layouts in which a layer's blocks lie one after the other; see cache.py."""
        return KVCacheLayout.LBHNC, KVCacheLayout.LBNHC, KVCacheLayout.LHBNC

    @classmethod
    def why_not(cls, config: Any) -> str | None:
        """Return what is against the model of vLLM's `config`; the NPU's platform asks before it builds one."""
        return choice.why_not(config, None)

    @classmethod
    def supports_kv_connector(cls) -> bool:
        """Return False: what moves blocks of the cache does not know its two planes."""
        return False


@dataclass
class AscendMLADecodeMetadata(MLACommonDecodeMetadata):  # type: ignore[misc, unused-ignore]
    """What decoding needs besides.

    Attributes:
        query_ends: where the queries of each sequence end.
        kv_lens: how many keys each sequence has.
        several: whether a sequence has more than one query.
    """

    query_ends: list[int] = dataclasses.field(default_factory=list)
    kv_lens: list[int] = dataclasses.field(default_factory=list)
    several: bool = False


@dataclass
class AscendMLAMetadata(MLACommonMetadata):  # type: ignore[misc, unused-ignore]
    """What prompts need besides.

    Attributes:
        prompt_ends: where the new tokens of each prompt end, counted from the first prompt.
        chunk_ends: for each chunk of what is cached of the prompts, where the queries and where the keys of each
            sequence end.
        padded: the last tokens may be padding, without slots, as in a batch for a captured graph.
    """

    padded: bool = False
    prompt_ends: list[int] = dataclasses.field(default_factory=list)
    chunk_ends: list[tuple[list[int], list[int]]] = dataclasses.field(default_factory=list)
    # Not handed on to what dataclasses.replace() makes of this: that may be other tokens.
    _angles: tuple[tuple[int, ...], torch.Tensor, Angles] | None = dataclasses.field(
        default=None, init=False, repr=False, compare=False
    )
    _slots: torch.Tensor | None = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def graph_lists(self) -> dict[str, list[int]]:
        """Return what a captured graph is told of this step when it is replayed, by the operator's names."""
        decode = self.decode
        return {"actual_seq_lengths": decode.query_ends, "actual_seq_lengths_kv": decode.kv_lens}

    def graph_tensors(self) -> tuple[torch.Tensor, ...]:
        """Return what a captured graph reads of this step, where it lay when the graph was captured."""
        return self.decode.block_table, self.slot_mapping

    def places(self, slots: torch.Tensor) -> torch.Tensor:
        """Return where the tokens of this step are written, (tokens,) of int64, made once for all layers.

        Padding goes to vLLM's block 0, which is nobody's: CANN does not say that npu_kv_rmsnorm_rope_cache leaves
        something out.
        """
        if self._slots is None:
            self._slots = slots[: self.num_actual_tokens].to(torch.int64)
            if self.padded:
                self._slots = self._slots.clamp(min=0)
        return self._slots

    def angles(self, positions: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> Angles:
        """Return the angles of the tokens of this step, looked up once for all layers that have them in common.

        Args:
            positions: (tokens,), and what is padding.
            cosines: of all positions, (positions, 64).
            sines: likewise.

        Returns:
            Cosines and sines, (tokens, 1, 1, 64).
        """
        of = positions.data_ptr(), cosines.data_ptr(), sines.data_ptr()
        if self._angles is None or self._angles[0] != of:
            known = positions[: self.num_actual_tokens]
            cos, sin = (table.index_select(0, known).view(len(known), 1, 1, -1) for table in (cosines, sines))
            # With the positions, so that no others take their place in memory.
            self._angles = of, positions, (cos, sin)
        return self._angles[2]


class AscendMLAMetadataBuilder(MLACommonMetadataBuilder[AscendMLAMetadata]):  # type: ignore[misc, unused-ignore]
    """vLLM's builder, with the lengths on the host."""

    query_len_support = QueryLenSupport.VARLEN
    reorder_batch_threshold: int
    _cudagraph_support = AttentionCGSupport.UNIFORM_SINGLE_TOKEN_DECODE

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device, AscendMLAMetadata)
        # Longer ones are prompts.
        self.reorder_batch_threshold = min(self.reorder_batch_threshold, _MOST_QUERIES)
        graphs = vllm_config.compilation_config.cudagraph_mode
        self._in_graphs = graphs is not None and graphs.has_full_cudagraphs()

    def build(self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> AscendMLAMetadata:
        """Return the metadata of a step."""
        metadata: AscendMLAMetadata = super().build(common_prefix_len, common_attn_metadata, fast_build)
        starts = common_attn_metadata.query_start_loc_cpu
        decode, prompts = metadata.decode, metadata.prefill
        if decode is not None:
            ends = starts[1 : metadata.num_decodes + 1].tolist()
            lengths = self._lengths(common_attn_metadata)[: metadata.num_decodes].tolist()
            metadata.padded = self._in_graphs and common_attn_metadata.max_query_len == 1
            if metadata.padded:
                # A request that pads the batch has no token; in a graph it has a row, and no keys.
                begins = [0, *ends[:-1]]
                lengths = [n if end > begin else 0 for n, begin, end in zip(lengths, begins, ends, strict=True)]
                ends = list(range(1, metadata.num_decodes + 1))
            metadata.decode = AscendMLADecodeMetadata(
                **{field.name: getattr(decode, field.name) for field in dataclasses.fields(MLACommonDecodeMetadata)},
                query_ends=ends,
                kv_lens=lengths,
                several=metadata.num_decode_tokens > metadata.num_decodes,
            )
        if prompts is not None:
            first = starts[metadata.num_decodes]
            metadata.prompt_ends = (starts[metadata.num_decodes + 1 :] - first).tolist()
            for chunk in () if prompts.chunked_context is None else prompts.chunked_context.chunks:
                both = prompts.query_lens_cpu[chunk.request_slice], chunk.seq_lens
                queries, keys = (each.cumsum(0).tolist() for each in both)
                metadata.chunk_ends.append((queries, keys))
        return metadata

    def _lengths(self, common: Any) -> torch.Tensor:
        """Return the number of keys of each sequence, from the host where vLLM knows it there.

        With speculative decoding the host has an upper bound only, and the device is waited for.
        """
        known = common.seq_lens_cpu_upper_bound
        if known is None or self.vllm_config.speculative_config is not None:
            return common.seq_lens  # type: ignore[no-any-return]
        return known  # type: ignore[no-any-return]
