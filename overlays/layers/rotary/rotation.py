"""Calling npu_mrope with the arguments of vLLM's rotary embeddings.

npu_mrope limits the number of rotated elements a head; layers outside its limits stay with vLLM's own methods, and the
ledger says which.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import ascend_overlay
from ascend_overlay import npu

npu.load("npu_mrope")

Rotated = tuple[Tensor, Tensor | None]

_STEPS = {torch.float32: 16, torch.bfloat16: 32, torch.float16: 32}
"""Of what the number of rotated elements a head must be a multiple, by dtype."""
ONE_AXIS = [0, 0, 0]
"""The sections of positions that are not in time, height and width."""


def takes(dtype: torch.dtype, rotary_dim: int, head_size: int) -> bool:
    """Tell whether npu_mrope rotates the first `rotary_dim` elements of heads of `head_size`."""
    step = _STEPS.get(dtype)
    return step is not None and rotary_dim % step == 0 and rotary_dim <= head_size


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
        section: the angles that belong to time, height and width.
        cache_mode: how these are arranged; see npu_mrope.

    Returns:
        Query and key, rotated, in their shapes and dtype; new tensors.
    """
    if section is ONE_AXIS:
        positions = positions.flatten()
    flat_query = _rows(query, positions.shape[-1])
    # npu_mrope always rotates two tensors.
    flat_key = flat_query[:, :head_size] if key is None else _rows(key, positions.shape[-1])
    new_query, new_key = torch.ops.npu.npu_mrope(
        positions,
        flat_query,
        flat_key,
        cos_sin_cache,
        head_size,
        mrope_section=section,
        rotary_mode="half" if neox else "interleave",
        cache_mode=cache_mode,
    )
    return new_query.reshape(query.shape), None if key is None else new_key.reshape(key.shape)


def _rows(x: Tensor, tokens: int) -> Tensor:
    return x.flatten(1) if x.shape[0] == tokens else x.reshape(tokens, -1)


def note_left_to_vllm(layer: Any) -> None:
    """Say in the ledger that npu_mrope cannot compute `layer`, where it cannot."""
    if takes(layer.dtype, layer.rotary_dim, layer.head_size):
        return
    limit = f"npu_mrope takes multiples of {_STEPS[layer.dtype]}" if layer.dtype in _STEPS else "npu_mrope does not"
    ascend_overlay.note(
        "rotary",
        f"{type(layer).__name__} with {layer.rotary_dim} of {layer.head_size} elements rotated in {layer.dtype} stays "
        f"vLLM's: {limit}",
    )
