"""An attention layer of vLLM with a KV cache, and batches for it, as vLLM's model runner would make them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.cases import tiles
from ascend_overlay.npu.cases.numbers import here

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

PREFIX = "model.layers.0.self_attn.attn"
BLOCK_SIZE = 128


@dataclass(frozen=True)
class Request:
    """One request of a batch.

    Attributes:
        blocks: the blocks of the cache that it has, in order.
        context: how many of its tokens are in the cache.
        new: how many come with this batch.
    """

    blocks: tuple[int, ...]
    context: int
    new: int


class CachedLayer:
    """A layer that is given one batch after the other.

    Args:
        dtype: of queries, keys and values.
        heads: heads of the queries.
        kv_heads: heads of keys and values.
        size: elements of a head.
        blocks: blocks of the cache.
        backend: what `--attention-backend` would say.
        options: further arguments of vLLM's Attention.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        *,
        heads: int = 4,
        kv_heads: int = 2,
        size: int = 64,
        blocks: int = 8,
        backend: str | None = None,
        **options: Any,
    ) -> None:
        tiles.allow()
        self.dtype, self.heads, self.kv_heads, self.size = dtype, heads, kv_heads, size
        with self._configured(backend) as config:
            self.layer = self._layer(PREFIX, options)
            self.spec = self.layer.get_kv_cache_spec(config)
            self.backend = self.layer.get_attn_backend()
            build = self.backend.get_builder_cls()
            self.builder = build(self.spec, [PREFIX], config, torch.get_default_device())
        shape = (blocks, kv_heads, BLOCK_SIZE, 2 * size)
        # Since 0.29 a backend names layouts; before, it names this very shape.
        layouts = getattr(self.backend, "supported_kv_cache_layouts", None)
        if layouts is not None and layouts()[0].name == "LBNHC":
            self.cache = torch.zeros(shape[0], shape[2], shape[1], shape[3], dtype=dtype).transpose(1, 2)
        else:
            self.cache = torch.zeros(shape, dtype=dtype)
        self.layer.kv_cache = self.cache

    def run(self, requests: Sequence[Request], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return what the layer makes of a batch.

        Args:
            requests: the batch.
            query: (tokens, heads * size): the new tokens of all requests.
            key: (tokens, KV heads * size).
            value: as key.
        """
        from vllm.config import set_current_vllm_config
        from vllm.forward_context import set_forward_context

        batch = self.batch(requests)
        metadata = {PREFIX: self.builder.build(0, batch)}
        slots = {PREFIX: batch.slot_mapping}
        tokens = batch.num_actual_tokens
        with (
            set_current_vllm_config(self._config),
            set_forward_context(metadata, self._config, num_tokens=tokens, slot_mapping=slots),
        ):
            output: Tensor = self.layer(query, key, value)
        return output

    def batch(self, requests: Sequence[Request]) -> Any:
        """Return a batch as vLLM describes it."""
        from vllm.v1.attention.backend import CommonAttentionMetadata

        with torch.device("cpu"):
            lengths = torch.tensor([request.context + request.new for request in requests], dtype=torch.int32)
            new = torch.tensor([0, *(request.new for request in requests)], dtype=torch.int32)
            starts = new.cumsum(0, dtype=torch.int32)
        table = torch.zeros(len(requests), max(len(request.blocks) for request in requests), dtype=torch.int32)
        slots: list[int] = []
        places: list[int] = []
        for i, request in enumerate(requests):
            table[i, : len(request.blocks)] = torch.tensor(request.blocks)
            positions = range(request.context, request.context + request.new)
            places += positions
            slots += [request.blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE for at in positions]
        return CommonAttentionMetadata(
            query_start_loc=here(starts),
            query_start_loc_cpu=starts,
            seq_lens=here(lengths),
            seq_lens_cpu_upper_bound=lengths,
            num_reqs=len(requests),
            num_actual_tokens=int(starts[-1]),
            max_query_len=int(new.max()),
            max_seq_len=int(lengths.max()),
            block_table_tensor=table,
            slot_mapping=torch.tensor(slots, dtype=torch.int64),
            positions=torch.tensor(places, dtype=torch.int64),
        )

    @contextlib.contextmanager
    def _configured(self, backend: str | None) -> Iterator[Any]:
        from vllm.config import AttentionConfig, CacheConfig, VllmConfig, set_current_vllm_config

        self._config = VllmConfig(
            cache_config=CacheConfig(block_size=BLOCK_SIZE), attention_config=AttentionConfig(backend=backend)
        )
        # All that a layer and its backend ask a model's configuration for.
        self._config.model_config = SimpleNamespace(  # type: ignore[assignment, unused-ignore]
            dtype=self.dtype,
            is_mm_prefix_lm=False,
            rswa_window=None,
            max_model_len=1024,
            get_num_attention_heads=lambda parallel_config: self.heads,
        )
        with set_current_vllm_config(self._config):
            yield self._config

    def _layer(self, prefix: str, options: dict[str, Any]) -> Any:
        from vllm.model_executor.layers.attention import Attention

        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            return Attention(
                self.heads,
                self.size,
                self.size**-0.5,
                self.kv_heads,
                cache_config=self._config.cache_config,
                prefix=prefix,
                **options,
            )
        finally:
            torch.set_default_dtype(before)
