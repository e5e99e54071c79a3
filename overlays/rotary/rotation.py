"""Calling npu_mrope, and npu_rotary_mul where npu_mrope does not go, with the arguments of vLLM's rotary embeddings.

npu_mrope looks up the angles itself, but the size of a head, and how many of its elements are rotated, must be
multiples of 32 (16 in float32). npu_rotary_mul takes any even number below 896; the angles are looked up before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import ascend_overlay
from ascend_overlay import npu
from ascend_overlay.npu.reference.checks import FLOATS
from ascend_overlay.npu.reference.rotary import MROPE_STEPS
from ascend_overlay.overlays.rotary.turning import turn, turns

npu.load("npu_mrope")

Rotated = tuple[Tensor, Tensor | None]

ONE_AXIS = [0, 0, 0]
"""The sections of positions that are not in time, height and width."""


def by_mrope(dtype: torch.dtype, rotary_dim: int, head_size: int) -> bool:
    """Tell whether npu_mrope rotates the first `rotary_dim` elements of heads of `head_size`."""
    step = MROPE_STEPS.get(dtype)
    return step is not None and rotary_dim % step == head_size % step == 0 and rotary_dim <= head_size


def takes(dtype: torch.dtype, rotary_dim: int, head_size: int) -> bool:
    """Tell whether `rotate` rotates the first `rotary_dim` elements of heads of `head_size`, for one axis."""
    return by_mrope(dtype, rotary_dim, head_size) or (turns(dtype, rotary_dim) and rotary_dim <= head_size)


def rotate(
    positions: Tensor,
    query: Tensor,
    key: Tensor | None,
    cos_sin_cache: Tensor,
    *,
    head_size: int,
    neox: bool,
    section: list[int] = ONE_AXIS,
    cache_mode: str = "default",
) -> Rotated:
    """Rotate query and key by the angles of their positions.

    Args:
        positions: (num_tokens,), (3, num_tokens) with `section`, or any shape of num_tokens elements; integers.
        query: (num_tokens, num_heads * head_size), (num_tokens, num_heads, head_size), or positions' shape in front.
        key: likewise, with its own number of heads; None where there is nothing but the query.
        cos_sin_cache: (max_positions, rotary_dim); dtype of `query`.
        head_size: elements of a head.
        neox: pairs are halves apart; else they are neighbours.
        section: the angles that belong to time, height and width; these need `by_mrope`.
        cache_mode: how these are arranged; see npu_mrope.

    Returns:
        Query and key, rotated, in their shapes and dtype; new tensors.
    """
    if section is ONE_AXIS and positions.dim() != 1:
        positions = positions.flatten()
    flat_query = _rows(query, positions.shape[-1])
    flat_key = None if key is None else _rows(key, positions.shape[-1])
    if not by_mrope(query.dtype, cos_sin_cache.shape[1], head_size):
        cos, sin = cos_sin_cache.index_select(0, positions).chunk(2, dim=-1)
        turned_query = _shaped(_turned(flat_query, cos, sin, head_size, neox), query)
        if key is None or flat_key is None:
            return turned_query, None
        return turned_query, _shaped(_turned(flat_key, cos, sin, head_size, neox), key)
    new_query, new_key = torch.ops.npu.npu_mrope(
        positions,
        flat_query,
        # npu_mrope always rotates two tensors.
        flat_query[:, :head_size] if flat_key is None else flat_key,
        cos_sin_cache,
        head_size,
        mrope_section=section,
        rotary_mode="half" if neox else "interleave",
        cache_mode=cache_mode,
    )
    return _shaped(new_query, query), None if key is None else _shaped(new_key, key)


def _turned(rows: Tensor, cos: Tensor, sin: Tensor, head_size: int, neox: bool) -> Tensor:
    return turn(rows.reshape(rows.shape[0], rows.shape[1] // head_size, head_size), cos, sin, neox=neox)


# Most come as rows. A call of PyTorch that does nothing to them takes as long as one that does.
def _rows(x: Tensor, tokens: int) -> Tensor:
    if x.shape[0] != tokens:
        return x.reshape(tokens, -1)
    return x if x.dim() == 2 else x.flatten(1)


def _shaped(x: Tensor, like: Tensor) -> Tensor:
    return x if x.shape == like.shape else x.reshape(like.shape)


def note_left_to_vllm(layer: Any, dtype: torch.dtype) -> None:
    """Say in the ledger that no operator of torch_npu can compute `layer` in `dtype`, where none can."""
    if takes(dtype, layer.rotary_dim, layer.head_size):
        return
    limit = "takes even numbers below 896" if dtype in FLOATS else f"does not take {dtype}"
    ascend_overlay.note(
        "rotary",
        f"{type(layer).__name__} with {layer.rotary_dim} of {layer.head_size} elements rotated in {dtype} stays "
        f"vLLM's: npu_rotary_mul {limit}",
    )
