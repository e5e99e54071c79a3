"""Which keys a query sees, by sparse_mode."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ascend_overlay.npu.reference.checks import refuse

UNLIMITED = 2147483647
_COMPRESSED = (2048, 2048)


# A tuple, because what is kept of a band is looked up by it in each call, and the hash of a dataclass takes longer.
class Band(NamedTuple):
    """Query i of a sequence sees the keys ``i + shift - before`` to ``i + shift + after``.

    Attributes:
        before: keys before the diagonal.
        after: keys after it.
        from_the_right: the diagonal ends at the last query and the last key: shift is the number of keys less the
            number of queries; otherwise it starts at the first ones, and shift is 0.
    """

    before: int = UNLIMITED
    after: int = UNLIMITED
    from_the_right: bool = False

    def shift(self, queries: int, keys: int) -> int:
        """Return what a sequence of so many queries and keys adds to the number of the query."""
        return keys - queries if self.from_the_right else 0

    def limits(self, queries: int, keys: int) -> tuple[int, int]:
        """Return the first key that any query sees, and the one after the last."""
        shift = self.shift(queries, keys)
        first = max(shift - self.before, 0)
        last = min(queries - 1 + shift + self.after + 1, keys)
        return (first, last) if first < last else (0, 0)

    def limits_of_one(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same for one query, and as many keys as `keys` say; each query sees one at least."""
        shift = keys - 1 if self.from_the_right else torch.zeros_like(keys)
        return (shift - self.before).clamp(min=0), torch.minimum(shift + self.after + 1, keys)


def band_of(sparse_mode: int, pre_tokens: int, next_tokens: int, mask: Tensor | None) -> Band:
    """Return the band that `sparse_mode` stands for.

    Args:
        sparse_mode: 0: pre_tokens and next_tokens, where there is a mask, from the left; 1: everything; 2: causal from
            the left; 3: causal from the right; 4: pre_tokens and next_tokens from the right.
        pre_tokens: keys before the diagonal.
        next_tokens: keys after it.
        mask: atten_mask.
    """
    if sparse_mode == 0 and mask is not None:
        return Band(pre_tokens, next_tokens)
    if sparse_mode == 2:
        return Band(after=0)
    if sparse_mode == 3:
        return Band(after=0, from_the_right=True)
    if sparse_mode == 4:
        return Band(pre_tokens, next_tokens, from_the_right=True)
    return Band()


def check_compressed_mask(operator: str, sparse_mode: int, mask: Tensor | None) -> None:
    """See that the mask of the modes 2, 3 and 4 is the triangle that they take."""
    if mask is None or tuple(mask.shape) not in {(*[1] * n, *_COMPRESSED) for n in range(3)}:
        given = "missing" if mask is None else f"of the shape {tuple(mask.shape)}"
        refuse(operator, f"atten_mask is {given}; sparse_mode {sparse_mode} takes (2048, 2048).")
    check_triangle(operator, sparse_mode, mask)


def check_triangle(operator: str, sparse_mode: int, mask: Tensor) -> None:
    """See that a mask of (2048, 2048) hides what is above the diagonal.

    The whole of it is too much to look at in each call; this finds the usual mistake, a mask of what is visible.
    """
    above, below = mask.as_strided((2,), (2047,), mask.storage_offset() + 1).tolist()
    if not above or below:
        text = f"atten_mask is not what sparse_mode {sparse_mode} takes: 1 above the diagonal, where keys are hidden"
        refuse(operator, f"{text}, and 0 elsewhere.")


def full_mask(operator: str, mask: Tensor, batch: int, queries: int, keys: int) -> Tensor:
    """Return the mask of the modes 0 and 1 as (batch or 1, queries or more, keys or more), true where hidden."""
    shape = mask.shape
    if mask.dim() == 2:
        # (B, keys) of single queries, or (queries, keys) of all sequences.
        full = mask.unsqueeze(1) if queries == 1 and shape[0] == batch else mask.unsqueeze(0)
    elif mask.dim() == 4 and shape[1] == 1:
        full = mask.squeeze(1)
    elif mask.dim() == 3 and shape[0] == 1:
        full = mask
    else:
        refuse(operator, f"atten_mask has the shape {tuple(shape)}; it takes (B or 1, 1, queries, keys).")
    if full.shape[0] not in (1, batch) or full.shape[1] < queries or full.shape[2] < keys:
        wanted = f"({batch} or 1, 1, {queries} or more, {keys} or more)"
        refuse(operator, f"atten_mask has the shape {tuple(shape)}; it takes {wanted}.")
    return full.bool()
