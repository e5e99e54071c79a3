"""Collecting sequences from paged caches."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, refuse

_NAME = "npu_gather_pa_kv_cache"
_DTYPES = (torch.float16, torch.bfloat16, torch.int8)


# PyTorch writes to `out` only where no gradients are wanted.
@torch.no_grad()
def npu_gather_pa_kv_cache(
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    seq_offset: Tensor | None = None,
    is_seq_lens_cumsum: bool = False,
) -> None:
    """Copy the tokens of sequences, one after the other, from the blocks of a cache to `key` and `value`.

    Token t of sequence i is at ``t % block_size`` of the block
    ``block_tables[i, seq_offset[i] // block_size + t // block_size]``: an offset counts in whole blocks.

    Args:
        key_cache: (blocks, block_size, heads, key_size); float16, bfloat16 or int8. With any strides, as all tensors
            here: torch_npu documents contiguous ones, CANN takes others.
        value_cache: (blocks, block_size, heads, value_size); dtype of `key_cache`.
        block_tables: (sequences, most blocks of one); int32.
        seq_lens: int32. How many tokens each sequence brings, (sequences,); or with `is_seq_lens_cumsum` where they
            begin and where the last ends, (sequences + 1,).
        key: written; (tokens, heads, key_size); dtype of the caches.
        value: written; (tokens, heads, value_size); likewise.
        seq_offset: (sequences,); int32; from which token on; None for the beginning.
        is_seq_lens_cumsum: see `seq_lens`.

    Raises:
        RuntimeError: a shape, dtype or layout that the NPU does not take.
    """
    _check(key_cache, value_cache, block_tables, seq_lens, key, value, seq_offset, is_seq_lens_cumsum)
    block_size, total = key_cache.shape[1], key.shape[0]
    ends = (seq_lens[1:] if is_seq_lens_cumsum else seq_lens.cumsum(0)).long()
    if int(ends[-1]) != total:
        refuse(_NAME, f"seq_lens add up to {int(ends[-1])} tokens, but key and value have room for {total}.")
    starts = torch.cat((ends.new_zeros(1), ends[:-1]))
    tokens = torch.arange(total)
    sequence = torch.searchsorted(ends, tokens, right=True)
    position = tokens - starts[sequence]
    block = position // block_size
    if seq_offset is not None:
        block = block + seq_offset.long()[sequence] // block_size
    block = block_tables[sequence, block].long()
    for cache, out in ((key_cache, key), (value_cache, value)):
        out.copy_(cache[block, position % block_size])


# PyTorch writes to `out` only where no gradients are wanted.
@torch.no_grad()
def npu_gather_pa_kv_cache_functional(
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    seq_offset: Tensor | None = None,
    is_seq_lens_cumsum: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return what npu_gather_pa_kv_cache would write. torch_npu puts this in its place where it is traced."""
    key, value = key.clone(), value.clone()
    npu_gather_pa_kv_cache(
        key_cache,
        value_cache,
        block_tables,
        seq_lens,
        key,
        value,
        seq_offset=seq_offset,
        is_seq_lens_cumsum=is_seq_lens_cumsum,
    )
    return key, value


def _check(
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    key: Tensor,
    value: Tensor,
    seq_offset: Tensor | None,
    cumulated: bool,
) -> None:
    floats = {"key_cache": key_cache, "value_cache": value_cache, "key": key, "value": value}
    for name, tensor in floats.items():
        dimensions(_NAME, name, tensor, (4,) if name.endswith("cache") else (3,))
        if tensor.dtype not in _DTYPES or tensor.dtype != key_cache.dtype:
            refuse(_NAME, f"{name} is {tensor.dtype} and key_cache {key_cache.dtype}; all take one of {_DTYPES}.")
    integers = {"block_tables": block_tables, "seq_lens": seq_lens}
    if seq_offset is not None:
        integers["seq_offset"] = seq_offset
    for name, tensor in integers.items():
        dimensions(_NAME, name, tensor, (2,) if name == "block_tables" else (1,))
        if tensor.dtype != torch.int32:
            refuse(_NAME, f"{name} is {tensor.dtype}; it takes int32.")
    for name, tensor in {**floats, **integers}.items():
        if not tensor.numel():
            refuse(_NAME, f"{name} is empty, with the shape {tuple(tensor.shape)}.")
    for name, cache, out in (("key", key_cache, key), ("value", value_cache, value)):
        if cache.shape[:3] != key_cache.shape[:3] or out.shape[1:] != cache.shape[2:] or out.shape[0] != key.shape[0]:
            shapes = f"{name}_cache is {tuple(cache.shape)}, {name} {tuple(out.shape)}"
            refuse(_NAME, f"{shapes}; they take (blocks, block_size, heads, size) and (tokens, heads, size).")
    batch = block_tables.shape[0]
    if seq_lens.shape[0] != batch + cumulated or (seq_offset is not None and seq_offset.shape[0] != batch):
        refuse(_NAME, f"seq_lens has {seq_lens.shape[0]} elements for {batch} sequences in block_tables.")


def _fake(
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    seq_offset: Tensor | None = None,
    is_seq_lens_cumsum: bool = False,
) -> None:
    return None


def _fake_functional(
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    seq_offset: Tensor | None = None,
    is_seq_lens_cumsum: bool = False,
) -> tuple[Tensor, Tensor]:
    return key.new_empty(key.shape), value.new_empty(value.shape)


_SOURCE = "torch_npu 2.13 (schema), CANN aclnnGatherPaKvCache (formula, dtypes, limits), its source (strides)"

KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_gather_pa_kv_cache(Tensor key_cache, Tensor value_cache, Tensor block_tables, Tensor seq_lens, "
            "Tensor(a!) key, Tensor(b!) value, *, Tensor? seq_offset=None, bool is_seq_lens_cumsum=False) -> ()"
        ),
        cpu=npu_gather_pa_kv_cache,
        fake=_fake,
        source=_SOURCE,
    ),
    ReferenceKernel(
        schema=(
            "npu_gather_pa_kv_cache_functional(Tensor key_cache, Tensor value_cache, Tensor block_tables, "
            "Tensor seq_lens, Tensor key, Tensor value, *, Tensor? seq_offset=None, bool is_seq_lens_cumsum=False) "
            "-> (Tensor, Tensor)"
        ),
        cpu=npu_gather_pa_kv_cache_functional,
        fake=_fake_functional,
        source=_SOURCE,
    ),
)
