"""What all layers of a batch have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from vllm.v1.attention.backend import (
    AttentionCGSupport,
    AttentionMetadata,
    AttentionMetadataBuilder,
    CommonAttentionMetadata,
)
from vllm.v1.kv_cache_interface import SinkFullAttentionSpec

from ascend_overlay.errors import OverlayError
from ascend_overlay.overlays.attention import cache, persistent
from ascend_overlay.overlays.attention.persistent import Persistent


@dataclass
class AscendMetadata(AttentionMetadata):  # type: ignore[misc, unused-ignore]
    """A batch.

    Attributes:
        tokens: how many new tokens it has.
        query_ends: where the new tokens of each request end.
        lengths: how many tokens each request has, the new ones included.
        block_table: (requests, blocks) of int32; see cache.py.
        slots: (tokens,): where the new ones are written; see cache.py.
        causal: tokens do not see what comes after them.
        positions: of each new token in its request, (tokens,) of int64; None where vLLM does not say.
        angles: what layers look up for these positions; see fusion.py.
    """

    tokens: int
    query_ends: list[int]
    lengths: list[int]
    block_table: Tensor
    slots: Tensor
    causal: bool
    positions: Tensor | None = None
    angles: dict[Any, Any] = field(default_factory=dict)

    def graph_lists(self) -> dict[str, list[int]]:
        """Return what a captured graph is told of this batch when it is replayed, by the operator's names."""
        return {"actual_seq_qlen": self.query_ends, "actual_seq_kvlen": self.lengths}

    def graph_tensors(self) -> tuple[Tensor, ...]:
        """Return what a captured graph reads of this batch, where it lay when the graph was captured."""
        here = self.block_table, self.slots
        return here if self.positions is None else (*here, self.positions)


class AscendMetadataBuilder(AttentionMetadataBuilder[AscendMetadata]):  # type: ignore[misc, unused-ignore]
    """Describes batches, once for all layers of a group.

    Where graphs with attention in them are captured, a batch of single tokens is described for a graph: its tensors
    stay where they are, and it may be padded by requests without tokens, of which each has one row here and no keys.

    Raises:
        OverlayError: the layers keep something in the cache that this backend does not know, or the lengths of the
            requests are not known where a batch is described, as with speculative decoding.
    """

    _cudagraph_support = AttentionCGSupport.UNIFORM_SINGLE_TOKEN_DECODE

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        if vllm_config.speculative_config is not None:
            raise OverlayError(
                "the attention backend ASCEND does not serve speculative decoding, which it has not been tried with. "
                "Leave speculative decoding out, or choose another backend with --attention-backend."
            )
        if isinstance(kv_cache_spec, SinkFullAttentionSpec):
            raise OverlayError(
                f"the attention backend ASCEND does not serve the layer {layer_names[0]!r}, which writes sinks to the "
                f"KV cache by itself. Choose another backend with --attention-backend."
            )
        graphs = vllm_config.compilation_config.cudagraph_mode
        self._persistent = Persistent(vllm_config.scheduler_config.max_num_seqs)
        self._in_graphs = graphs is not None and graphs.has_full_cudagraphs()

    @classmethod
    def get_cudagraph_support(cls, vllm_config: Any, kv_cache_spec: Any) -> AttentionCGSupport:
        """Tell which batches a graph may hold with their attention: see capped.py for those that it may not."""
        text = vllm_config.model_config.hf_text_config
        if getattr(text, "attn_logit_softcapping", None):
            return AttentionCGSupport.NEVER
        return cls._cudagraph_support

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> AscendMetadata:
        """Describe a batch."""
        batch = common_attn_metadata
        if not isinstance(batch.causal, bool):
            raise OverlayError(
                "the attention backend ASCEND does not serve requests of which some look ahead and some do not. "
                "Choose another backend with --attention-backend."
            )
        # Exact without speculative decoding, and known without waiting for the device.
        known = batch.seq_lens_cpu_upper_bound
        lengths: list[int] = (batch.seq_lens if known is None else known)[: batch.num_reqs].tolist()
        if self._in_graphs and batch.max_query_len == 1 and batch.num_reqs <= self._persistent.most:
            return self._for_a_graph(batch, lengths)
        ends: list[int] = batch.query_start_loc_cpu[1 : batch.num_reqs + 1].tolist()
        # The operator's queries end where those of the last request do; vLLM's may be padded.
        tokens = ends[-1] if ends else 0
        block_size = self.kv_cache_spec.block_size
        blocks = -(-max(lengths, default=0) // block_size)
        return AscendMetadata(
            tokens=tokens,
            query_ends=ends,
            lengths=lengths,
            block_table=cache.block_table(batch.block_table_tensor[: batch.num_reqs, :blocks]),
            slots=cache.slots(batch.slot_mapping[:tokens], block_size),
            causal=batch.causal,
            positions=None if batch.positions is None else batch.positions[:tokens],
        )

    def _for_a_graph(self, batch: CommonAttentionMetadata, lengths: list[int]) -> AscendMetadata:
        ends: list[int] = batch.query_start_loc_cpu[: batch.num_reqs + 1].tolist()
        return AscendMetadata(
            tokens=batch.num_reqs,
            query_ends=list(range(1, batch.num_reqs + 1)),
            lengths=persistent.lengths(ends, lengths),
            block_table=self._persistent.block_table(batch),
            slots=self._persistent.slots(batch, self.kv_cache_spec.block_size),
            causal=bool(batch.causal),
            positions=None if batch.positions is None else batch.positions[: batch.num_reqs],
        )
