"""What torch_npu documents of attention over the latent cache of multi-head latent attention.

That is a call with query_rope and heads of 512 elements: all heads share one latent, which is key and value at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ascend_overlay.npu.reference.checks import refuse

SIZE = 512
_ROPE = 64
_HEADS = tuple(1 << n for n in range(8))
_MOST_QUERIES = 16


def check(
    operator: str,
    *,
    heads: int,
    kv_heads: int,
    rope: Tensor,
    rope_heads: int,
    block_table: Tensor | None,
    queries: Sequence[int],
    sparse_mode: int,
    mask: Tensor | None,
) -> None:
    """Refuse what is outside the limits; `rope_heads` is how many heads the last dimension of `rope` has."""
    where = "with query_rope and heads of 512"
    longest = max(queries, default=0)
    if heads not in _HEADS or kv_heads != 1:
        text = f"there are {heads} heads of queries and {kv_heads} of keys"
        refuse(operator, f"{text}; {where} it takes 1, 2, 4 and so on up to 128, and 1.")
    if rope.shape[-1] != _ROPE * rope_heads:
        refuse(operator, f"query_rope has the shape {tuple(rope.shape)}; {where} its own have {_ROPE}.")
    if block_table is None:
        refuse(operator, f"block_table is missing; {where} the keys are in a paged cache.")
    if longest > _MOST_QUERIES:
        refuse(operator, f"a sequence has {longest} queries; {where} it has at most {_MOST_QUERIES}.")
    if (sparse_mode, mask is None) != ((3, False) if longest > 1 else (0, True)):
        text = f"sparse_mode is {sparse_mode}, {'without' if mask is None else 'with'} atten_mask"
        refuse(operator, f"{text}; {where} it takes 0 without it for single queries, and 3 with it for several.")
