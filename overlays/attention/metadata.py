"""What all layers of a batch have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.v1.attention.backend import AttentionMetadata, AttentionMetadataBuilder, CommonAttentionMetadata
from vllm.v1.kv_cache_interface import SinkFullAttentionSpec

from ascend_overlay.errors import OverlayError
from ascend_overlay.overlays.attention import cache


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
    """

    tokens: int
    query_ends: list[int]
    lengths: list[int]
    block_table: Tensor
    slots: Tensor
    causal: bool


class AscendMetadataBuilder(AttentionMetadataBuilder[AscendMetadata]):  # type: ignore[misc, unused-ignore]
    """Describes batches, once for all layers of a group.

    Raises:
        OverlayError: the layers keep something in the cache that this backend does not know, or the lengths of the
            requests are not known where a batch is described, as with speculative decoding.
    """

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
        )
