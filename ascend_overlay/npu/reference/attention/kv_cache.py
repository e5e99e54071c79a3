"""Writing keys and values to a paged cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, extremes, once_for_alike, refuse

_OPERATOR = "npu_scatter_pa_kv_cache"


def npu_scatter_pa_kv_cache(
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    *,
    compress_lens: Tensor | None = None,
    compress_seq_offsets: Tensor | None = None,
    seq_lens: Tensor | None = None,
    cache_mode: str | None = "PA_NZ",
) -> None:
    """Write each token's key and value to its slot, in place.

    Args:
        key: (tokens, heads, size). With any strides, as all tensors here: torch_npu documents contiguous ones; CANN
            takes others, and writes to a cache through its strides.
        value: (tokens, heads, size of its own).
        key_cache: "Norm" or None: (blocks, block size, heads, size), slot s being token ``s % block size`` of block
            ``s // block size``; "PA_NZ": (blocks, heads * size / c, block size, c), which is NZ for c elements of 32
            bytes.
        value_cache: likewise, with the size of the value.
        slot_mapping: (tokens,), int32 or int64, each slot once. torch_npu documents slots from 0; a token of a slot
            below 0 is left out, which is how vLLM marks what is not to be kept.
        compress_lens: not supported here, with the two that follow: caches that keep a part of the tokens.
        compress_seq_offsets: see `compress_lens`.
        seq_lens: see `compress_lens`.
        cache_mode: see `key_cache`.

    Raises:
        RuntimeError: a shape, dtype or slot that the NPU does not take.
    """
    _check(key, value, key_cache, value_cache, slot_mapping, cache_mode)
    if compress_lens is not None or compress_seq_offsets is not None or seq_lens is not None:
        refuse(_OPERATOR, "the reference kernel does not compress; leave compress_lens and what belongs to it out.")
    slots = slot_mapping.long()
    if slots.numel() == 0:
        return
    lowest, highest = extremes(slots)
    blocks, size = key_cache.shape[0], key_cache.shape[2 if cache_mode == "PA_NZ" else 1]
    if highest >= blocks * size:
        refuse(_OPERATOR, f"slot_mapping has {highest}; {blocks} blocks of {size} tokens have slots below that.")
    if lowest < 0:
        kept = slots >= 0
        key, value, slots = key[kept], value[kept], slots[kept]
    for new, cache in ((key, key_cache), (value, value_cache)):
        if cache_mode == "PA_NZ":
            cache.transpose(1, 2)[slots // size, slots % size] = new.reshape(len(new), *cache.shape[1::2])
        elif cache.is_contiguous():
            cache.flatten(0, 1).index_copy_(0, slots, new)
        else:
            # Without gradients: of two caches in one memory, the second would have those of the first.
            cache[slots // size, slots % size] = new.detach()


def npu_scatter_pa_kv_cache_functional(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """Return copies of both caches with each token in its slot; see `npu_scatter_pa_kv_cache`.

    torch_npu puts it in the place of that one where a graph is made functional; nothing else calls it.
    """
    caches = key_cache.clone(), value_cache.clone()
    npu_scatter_pa_kv_cache(key, value, *caches, slot_mapping, **options)
    return caches


@once_for_alike
def _check(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor, cache_mode: str | None
) -> None:
    named = {"key": key, "value": value, "key_cache": key_cache, "value_cache": value_cache, "slot_mapping": slots}
    for name, tensor in named.items():
        dimensions(_OPERATOR, name, tensor, (1,) if tensor is slots else (4,) if "_" in name else (3,))
    if len({tensor.dtype for tensor in (key, value, key_cache, value_cache)}) > 1:
        listed = ", ".join(f"{name} {tensor.dtype}" for name, tensor in named.items() if tensor is not slots)
        refuse(_OPERATOR, f"all tensors must have one dtype, but they are {listed}.")
    if slots.dtype not in (torch.int32, torch.int64):
        refuse(_OPERATOR, f"slot_mapping is {slots.dtype}; it is int32 or int64.")
    if cache_mode not in (None, "Norm", "PA_NZ"):
        refuse(_OPERATOR, f"cache_mode is {cache_mode!r}; it takes 'Norm' or 'PA_NZ'.")
    if key.shape[:2] != value.shape[:2] or len(slots) != len(key):
        shapes = f"key {tuple(key.shape)}, value {tuple(value.shape)}, slot_mapping {tuple(slots.shape)}"
        refuse(_OPERATOR, f"the shapes are {shapes}; they have the same tokens, and the same heads.")
    for name, new, cache in (("key", key, key_cache), ("value", value, value_cache)):
        heads, size = new.shape[1:]
        if cache_mode == "PA_NZ":
            fits = cache.shape[1] * cache.shape[3] == heads * size
        else:
            fits = cache.shape[2:] == new.shape[1:]
        if not fits or cache.shape[0] != key_cache.shape[0]:
            text = f"{name}_cache has the shape {tuple(cache.shape)} for a {name} of {heads} heads of {size}"
            refuse(_OPERATOR, f"{text}; see cache_mode, which is {cache_mode!r}.")


def _fake(
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    *,
    compress_lens: Tensor | None = None,
    compress_seq_offsets: Tensor | None = None,
    seq_lens: Tensor | None = None,
    cache_mode: str | None = "PA_NZ",
) -> None:
    return None


def _fake_functional(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(key_cache), torch.empty_like(value_cache)


_SOURCE = (
    "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN's source of aclnnScatterPaKvCache "
    "(strides)"
)

KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_scatter_pa_kv_cache(Tensor key, Tensor value, Tensor(a!) key_cache, Tensor(b!) value_cache, "
            "Tensor slot_mapping, *, Tensor? compress_lens=None, Tensor? compress_seq_offsets=None, "
            'Tensor? seq_lens=None, str? cache_mode="PA_NZ") -> ()'
        ),
        cpu=npu_scatter_pa_kv_cache,
        fake=_fake,
        source=_SOURCE,
    ),
    ReferenceKernel(
        schema=(
            "npu_scatter_pa_kv_cache_functional(Tensor key, Tensor value, Tensor key_cache, Tensor value_cache, "
            "Tensor slot_mapping, *, Tensor? compress_lens=None, Tensor? compress_seq_offsets=None, "
            'Tensor? seq_lens=None, str? cache_mode="PA_NZ") -> (Tensor, Tensor)'
        ),
        cpu=npu_scatter_pa_kv_cache_functional,
        fake=_fake_functional,
        source=_SOURCE,
    ),
)
