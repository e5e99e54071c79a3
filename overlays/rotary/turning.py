"""Turning pairs of elements by given angles, with npu_rotary_mul."""

from __future__ import annotations

import torch
from torch import Tensor

import ascend_overlay
from ascend_overlay import npu
from ascend_overlay.npu.reference.checks import FLOATS

npu.load("npu_rotary_mul")

_ELEMENTS, _BATCH = 896, 1000
"""What npu_rotary_mul stays below: rotated elements a head, and sequences times heads."""


def turns(dtype: torch.dtype, rotary_dim: int) -> bool:
    """Tell whether npu_rotary_mul rotates `rotary_dim` elements of this dtype."""
    return dtype in FLOATS and rotary_dim % 2 == 0 and 0 < rotary_dim < _ELEMENTS


def turn(x: Tensor, cos: Tensor, sin: Tensor, *, neox: bool) -> Tensor:
    """Turn the pairs of the first elements of each head by the angle of its token.

    Args:
        x: ([batch,] num_tokens, num_heads, head_size); see `turns` for dtypes and sizes; batch * num_heads below 1000.
        cos: (num_tokens, rotary_dim / 2), rotary_dim at most head_size; any floating dtype.
        sin: likewise.
        neox: the pairs are (i, i + rotary_dim / 2); else (2 i, 2 i + 1).

    Returns:
        A new tensor, shape and dtype of `x`.
    """
    rotary_dim = 2 * cos.shape[-1]
    four = x if x.dim() == 4 else x.unsqueeze(0)
    turned: Tensor = torch.ops.npu.npu_rotary_mul(
        four[..., :rotary_dim],
        _for_pairs(cos, x.dtype, neox),
        _for_pairs(sin, x.dtype, neox),
        "half" if neox else "interleave",
    )
    if rotary_dim < x.shape[-1]:
        turned = torch.cat((turned, four[..., rotary_dim:]), dim=-1)
    return turned if x.dim() == 4 else turned.squeeze(0)


def refusal(x: Tensor, cos: Tensor, dtype: torch.dtype) -> str | None:
    """Return what `turn` does not take of these, with `x` in `dtype`, in a few words; None where it takes them."""
    if dtype not in FLOATS:
        return "another dtype"
    if x.dim() not in (3, 4) or cos.dim() != 2 or cos.shape[0] != x.shape[-3]:
        return "angles other than one row for each token"
    if (x.shape[0] if x.dim() == 4 else 1) * x.shape[-2] >= _BATCH:
        return f"{_BATCH} heads, counted over all sequences, or more"
    if not turns(dtype, 2 * cos.shape[-1]):
        return f"{_ELEMENTS} rotated elements of a head or more"
    if 2 * cos.shape[-1] > x.shape[-1]:
        return "more angles than a head has pairs"
    return None


# So torch.compile calls it, once, and has nothing of it in the graph.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def note_refusal(layer: str, what: str) -> None:
    """Say in the ledger that a layer of vLLM computes something itself."""
    ascend_overlay.note("rotary", f"{layer} with {what} stays vLLM's: npu_rotary_mul does not take it")


def _for_pairs(angles: Tensor, dtype: torch.dtype, neox: bool) -> Tensor:
    """Give both elements of a pair their angle: (num_tokens, d / 2) -> (1, num_tokens, 1, d)."""
    both = torch.cat((angles, angles), dim=-1) if neox else angles.repeat_interleave(2, dim=-1)
    return both.to(dtype)[None, :, None, :]
