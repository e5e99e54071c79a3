"""Norms, rotary embedding and cache write of a layer in one operator, npu_qkv_rms_norm_rope_cache.

It takes the product of queries, keys and values as it is, and writes a cache in NZ. A layer of a model that norms each
head of queries and keys offers what belongs to it, and calls its attention without having normed or rotated anything;
whether that is taken is decided once, when the weights are there and no cache is yet. What is not taken stays as it is,
and the ledger says why.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import ascend_overlay
from ascend_overlay import npu
from ascend_overlay.errors import OverlayError
from ascend_overlay.npu import captures

if TYPE_CHECKING:
    from ascend_overlay.overlays.attention.metadata import AscendMetadata

npu.load("npu_qkv_rms_norm_rope_cache")

_SIZE = 128
"""Elements of a head, the only number that the operator takes."""
_ROTARY = "vllm.model_executor.layers.rotary_embedding"
_PLAIN = (
    "RotaryEmbedding",
    "DynamicNTKAlphaRotaryEmbedding",
    "DynamicNTKScalingRotaryEmbedding",
    "Llama3RotaryEmbedding",
    "NTKScalingRotaryEmbedding",
    "YaRNScalingRotaryEmbedding",
)
"""Classes of vLLM that differ in the angles alone."""

_tables: weakref.WeakKeyDictionary[nn.Module, Tensor] = weakref.WeakKeyDictionary()
"""Rotary embedding -> cosines and sines of all positions, as the operator takes them."""


class Fusion:
    """What a layer does between the product of queries, keys and values, and its attention.

    Args:
        query_norm: vLLM's RMSNorm of each head of the queries.
        key_norm: of the keys.
        rotary: vLLM's rotary embedding.
    """

    def __init__(self, query_norm: nn.Module, key_norm: nn.Module, rotary: nn.Module) -> None:
        self._norms: tuple[Any, Any] = (query_norm, key_norm)
        self._rotary: Any = rotary

    def taken(self, impl: Any, dtype: torch.dtype) -> Fusion | None:
        """Return this where the operator does it for a layer, None where it does not.

        Args:
            impl: the layer's AscendAttentionImpl.
            dtype: of its activations.
        """
        reason = _impl_against(impl, dtype) or _rotary_against(self._rotary) or self._norms_against(dtype)
        if reason is not None:
            ascend_overlay.note("attention", f"norms, rotary embedding and cache write stay apart, {reason}")
            return None
        _tables[self._rotary] = _table(self._rotary.cos_sin_cache.to(dtype))
        return self

    def write(
        self, query: Tensor, key: Tensor, value: Tensor, batch: AscendMetadata, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Norm and rotate queries and keys, and write keys and values to the cache.

        Args:
            query: (tokens or more, heads, 128), as the layer's product has them; float16 or bfloat16.
            key: (tokens or more, KV heads, 128), likewise.
            value: as key.
            batch: the batch.
            keys: the cache, (blocks, KV heads * 128 / 16, block size, 16).
            values: likewise.

        Returns:
            The queries, (tokens, heads, 128).

        Raises:
            OverlayError: vLLM does not say where in their requests the tokens are.
        """
        tokens, heads, kv_heads = batch.tokens, query.shape[1], key.shape[1]
        cos, sin = self._angles(batch)
        written = query.new_empty(tokens, heads * _SIZE)
        torch.ops.npu.npu_qkv_rms_norm_rope_cache(
            _in_one(query, key, value)[:tokens],
            *(norm.weight for norm in self._norms),
            cos,
            sin,
            batch.slots,
            written,
            keys,
            values,
            # As one sequence: of several the operator wants as many blocks as all of them could fill.
            [1, tokens, heads + 2 * kv_heads, _SIZE],
            [heads, kv_heads, kv_heads],
            epsilon=self._norms[0].variance_epsilon,
        )
        return written.view(tokens, heads, _SIZE)

    def _angles(self, batch: AscendMetadata) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of a batch, looked up once for all layers; in a graph, once in that graph."""
        if batch.positions is None:
            raise OverlayError(
                "vLLM does not say where in their requests the tokens of this batch are, without which the attention "
                "backend ASCEND cannot rotate them: switch the setting fused_qkv off."
            )
        known = self._rotary, captures.current()
        if known not in batch.angles:
            batch.angles[known] = _tables[self._rotary].index_select(1, batch.positions).unbind()
        found: tuple[Tensor, Tensor] = batch.angles[known]
        return found

    def _norms_against(self, dtype: torch.dtype) -> str | None:
        for norm in self._norms:
            if type(norm).__qualname__ != "RMSNorm" or not type(norm).__module__.startswith("vllm."):
                return f"since a {type(norm).__qualname__} is no RMSNorm of vLLM's"
            if norm.variance_size_override is not None or not norm.has_weight or norm.weight.shape != (_SIZE,):
                return f"since a norm is not of the {_SIZE} elements of a head, with a weight for each"
            if norm.weight.dtype != dtype:
                return f"since a norm has a weight of {norm.weight.dtype} beside activations of {dtype}"
        if self._norms[0].variance_epsilon != self._norms[1].variance_epsilon:
            return "since the norms of queries and keys add different numbers under the root"
        return None


def _impl_against(impl: Any, dtype: torch.dtype) -> str | None:
    if impl.head_size != _SIZE:
        return f"since heads have {impl.head_size} elements, and the operator takes {_SIZE}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"since activations are {dtype}, and the operator takes float16 and bfloat16"
    if impl.soft_cap or impl.sinks is not None:
        return "since scores are capped or beside sinks, for which no cache in NZ was tried"
    if impl.kv_sharing_target_layer_name is not None:
        return "since the layer reads the cache of another one"
    return None


def _rotary_against(rotary: Any) -> str | None:
    kinds = [kind for kind in type(rotary).__mro__ if not kind.__module__.startswith("ascend_overlay.overlays.rotary.")]
    if not kinds[0].__module__.startswith(f"{_ROTARY}.") or kinds[0].__name__ not in _PLAIN:
        return f"since a {kinds[0].__qualname__} rotates in a way of its own"
    if not rotary.is_neox_style or rotary.rotary_dim != _SIZE or rotary.head_size != _SIZE:
        return "since neighbours are rotated, or a part of each head"
    return None


def _table(cache: Tensor) -> Tensor:
    """Return cosines and sines, (2, positions, 128), each angle once a half, of vLLM's ``cos | sin``."""
    return cache.view(len(cache), 2, -1).transpose(0, 1).repeat(1, 1, 2)


def _in_one(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return queries, keys and values of each token in a row, (tokens, elements); a view where they lie so."""
    rows = [part.flatten(1) for part in (query, key, value)]
    width = sum(row.shape[1] for row in rows)
    # How far a single row is from the next one means nothing.
    strides = {(width, 1)} if len(query) > 1 else {(row.stride(0), 1) for row in rows}
    here = query.data_ptr()
    for row in rows:
        if row.data_ptr() != here or row.stride() not in strides:
            return torch.cat(rows, 1)
        here += row.shape[1] * row.itemsize
    return query.as_strided((len(query), width), (width, 1))
