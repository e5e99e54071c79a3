"""The layouts of npu_fused_infer_attention_score, as rows of heads.

B counts sequences, S tokens of a sequence, T tokens of all sequences one after the other, N heads, D elements a head,
and H is N * D. A layout "BNSD_BSND" is that of the arguments and that of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ascend_overlay.npu.reference.checks import refuse

LAYOUTS = {
    "BSH": ("BSH", "BSH"),
    "BSND": ("BSND", "BSND"),
    "BNSD": ("BNSD", "BNSD"),
    "BNSD_BSND": ("BNSD", "BSND"),
    "BSH_NBSD": ("BSH", "NBSD"),
    "BSND_NBSD": ("BSND", "NBSD"),
    "BNSD_NBSD": ("BNSD", "NBSD"),
    "TND": ("TND", "TND"),
    "TND_NTD": ("TND", "NTD"),
    "NTD_TND": ("NTD", "TND"),
}


def parse(operator: str, input_layout: str, query: Tensor) -> tuple[str, str]:
    """Return the layouts of the arguments and of the result.

    Raises:
        RuntimeError: there is no such layout, or `query` has not its number of dimensions.
    """
    if input_layout not in LAYOUTS:
        refuse(operator, f"input_layout is {input_layout!r}; it takes {', '.join(LAYOUTS)}.")
    given, returned = LAYOUTS[input_layout]
    if query.dim() != len(given):
        refuse(operator, f"query has {query.dim()} dimensions; the layout {given} has {len(given)}.")
    return given, returned


def packed(layout: str) -> bool:
    """Tell whether the sequences of `layout` lie one after the other."""
    return "T" in layout


def sizes(layout: str, shape: Sequence[int], heads: int) -> tuple[int, int, int, int]:
    """Return B, S, N, D of a tensor; of a packed one, B is 1 and S is T."""
    if layout == "BSH":
        return shape[0], shape[1], heads, shape[2] // heads
    found = dict(zip(layout, shape, strict=True))
    return found.get("B", 1), found["T"] if packed(layout) else found["S"], found["N"], found["D"]


def rows(tensor: Tensor, layout: str, heads: int) -> Tensor:
    """Return `tensor` as (B * S or T, N, D)."""
    if layout == "TND":
        return tensor
    if layout == "BNSD":
        # Of one sequence, reshape alone would return a view.
        tensor = tensor.transpose(1, 2).contiguous()
    elif layout == "NTD":
        return tensor.transpose(0, 1).contiguous()
    return tensor.reshape(-1, heads, tensor.shape[-1] // heads if layout == "BSH" else tensor.shape[-1])


def result_shape(layout: str, batch: int, length: int, heads: int, size: int) -> list[int]:
    """Return the shape of a result in `layout`."""
    if layout == "BSH":
        return [batch, length, heads * size]
    found = {"B": batch, "S": length, "T": length, "N": heads, "D": size}
    return [found[axis] for axis in layout]


def arrange(result: Tensor, layout: str, batch: int, length: int) -> Tensor:
    """Return `result`, (batch * length, N, D), in `layout`."""
    heads, size = result.shape[1:]
    if layout == "TND":
        return result
    if layout == "NTD":
        return result.transpose(0, 1).contiguous()
    by_sequence = result.view(batch, length, heads, size)
    if layout == "BSH":
        return by_sequence.view(batch, length, heads * size)
    order = {"BSND": (0, 1, 2, 3), "BNSD": (0, 2, 1, 3), "NBSD": (2, 0, 1, 3)}[layout]
    return by_sequence.permute(order).contiguous()


def lse_shape(layout: str, batch: int, length: int, heads: int) -> list[int]:
    """Return the shape of softmax_lse for arguments in `layout`."""
    return [length, heads, 1] if packed(layout) else [batch, heads, length, 1]


def arrange_lse(lse: Tensor, layout: str, batch: int, length: int) -> Tensor:
    """Return `lse`, (batch * length, N), in the shape that `lse_shape` gives."""
    if packed(layout):
        return lse.unsqueeze(-1)
    return lse.view(batch, length, -1).transpose(1, 2).unsqueeze(-1).contiguous()


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor without content, for the fake kernels."""
    return like.new_empty(shape, dtype=dtype or like.dtype)
