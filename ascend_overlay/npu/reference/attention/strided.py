"""Arguments with strides of their own, such as caches in which the keys and the values of a block lie side by side.

The operator copies them before it computes; so is it done here, but of a paged cache only what is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_KEYS = ("actual_seq_kvlen", "actual_seq_lengths_kv")
_CACHES: tuple[str, ...] = ("key", "value", "key_rope")

Given = tuple[Tensor, Tensor, Tensor, Mapping[str, Any]]


def dense(query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> Given:
    """Return the arguments with contiguous tensors in place of others; as they are where all of them are contiguous.

    Of a paged cache, blocks that no sequence has a key in are left out, and `block_table` counts those that are left.
    Nothing is refused here.

    Args:
        query: an argument of npu_fused_infer_attention_score, as are the others.
        key: likewise.
        value: likewise.
        options: those that are passed by name.
    """
    named = {"query": query, "key": key, "value": value}
    named |= {name: option for name, option in options.items() if isinstance(option, Tensor)}
    if all(tensor.is_contiguous() for tensor in named.values()):
        return query, key, value, options
    caches = {name: named.pop(name) for name in _CACHES if name in named}
    made = {name: tensor.contiguous() for name, tensor in named.items()}
    table = made.get("block_table")
    counts = None if table is None else _blocks_of_each(table, caches["key"], options)
    if table is None or counts is None or all(cache.is_contiguous() for cache in caches.values()):
        made |= {name: cache.contiguous() for name, cache in caches.items()}
    else:
        read, made["block_table"] = _read(table, counts)
        made |= _selected(caches, read)
    return made.pop("query"), made.pop("key"), made.pop("value"), {**options, **made}


def _blocks_of_each(table: Tensor, key: Tensor, options: Mapping[str, Any]) -> Tensor | None:
    """Return how many blocks of each sequence have a key; None where the arguments are none that are computed."""
    lengths: Sequence[int] | None = next((options[name] for name in _KEYS if options.get(name) is not None), None)
    if lengths is None or table.dim() != 2 or key.dim() not in (3, 4) or not key.numel():
        return None
    size, batch = key.shape[1 if key.dim() == 3 else 2], table.shape[0]
    found = list(lengths) * batch if len(lengths) == 1 else list(lengths[:batch])
    if len(found) != batch or not 0 <= min(found, default=0) <= max(found, default=0) <= size * table.shape[1]:
        return None
    return torch.tensor([-(-length // size) for length in found], dtype=torch.int64)


def _read(table: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers of the blocks that are read, one at least, and a block table that counts these alone."""
    has_keys = torch.arange(table.shape[1]) < counts.unsqueeze(1)
    read, places = torch.unique(table[has_keys], return_inverse=True)
    counted = torch.zeros_like(table)
    counted[has_keys] = places.to(table.dtype)
    return read if read.numel() else table.new_zeros(1), counted


def _selected(caches: Mapping[str, Tensor], blocks: Tensor) -> dict[str, Tensor]:
    """Return these blocks of each cache; caches that are one tensor stay one."""
    made: dict[Any, Tensor] = {}
    found = {}
    for name, cache in caches.items():
        which = (cache.data_ptr(), cache.shape, cache.stride())
        if which not in made:
            made[which] = cache.index_select(0, blocks)
        found[name] = made[which]
    return found
