"""The KV cache of a layer, as npu_fused_infer_attention_score_v2 and npu_scatter_pa_kv_cache take it.

vLLM gives a layer one tensor whose blocks hold the keys and the values of their tokens. Both operators want keys and
values as two tensors of their own, without gaps. So a block is filled with the keys of all its tokens first, and their
values behind:

    vLLM's blocks            |    block 0    |    block 1    | ...
    halves                   |  K0   |  V0   |  K1   |  V1   | ...
    the operators' keys      |   0   |   1   |   2   |   3   | ...
    the operators' values            |   0   |   1   |   2   | ...

The operators' caches are the same memory, the second begins half a block later, and block b of vLLM is their block 2 b.
What belongs to a block of vLLM stays inside it: who copies or clears blocks, or lets layers share them, need not know.
"""

from __future__ import annotations

from torch import Tensor

from ascend_overlay.errors import OverlayError

_MOST_ELEMENTS = 2**31 - 1
"""Elements of a cache that the operator can address."""
_TILE = 16
"""Elements of float16 and bfloat16 in a row of a tile."""


def halves(cache: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values of a layer's cache, as the operators take them.

    Args:
        cache: (blocks, KV heads, tokens, 2 * head size), each block in one piece, in any order within, and one block
            right behind the other.

    Returns:
        Two views of (2 * blocks - 1, tokens, KV heads, head size).

    Raises:
        OverlayError: the blocks do not lie so, or are too many.
    """
    blocks, heads, tokens, both = cache.shape
    half = heads * tokens * both // 2
    if blocks and cache.stride(0) != 2 * half:
        raise OverlayError(
            f"the blocks of a KV cache of the shape {tuple(cache.shape)} are {cache.stride(0)} elements apart and have "
            f"{2 * half}: the attention backend ASCEND takes blocks without gaps. Choose another one with "
            f"--attention-backend."
        )
    if (2 * blocks - 1) * half > _MOST_ELEMENTS:
        raise OverlayError(
            f"a layer's KV cache has {blocks} blocks of {2 * half} elements, and npu_fused_infer_attention_score_v2 "
            f"addresses 2**31: allow for {_MOST_ELEMENTS // (2 * half)} blocks, with --kv-cache-memory-bytes or "
            f"--num-gpu-blocks-override."
        )
    flat = cache.as_strided((2 * blocks * half,), (1,))
    shape = (2 * blocks - 1, tokens, heads, both // 2)
    return flat[: flat.numel() - half].view(shape), flat[half:].view(shape)


def block_table(table: Tensor) -> Tensor:
    """Return the operators' block table for vLLM's."""
    # A number is made a tensor first, which takes longer.
    return table + table


def slots(slot_mapping: Tensor, block_size: int) -> Tensor:
    """Return the operators' slots for vLLM's, of which -1, nobody's, stays -1."""
    return slot_mapping.add(blocks_of(slot_mapping, block_size), alpha=block_size)


def blocks_of(slot_mapping: Tensor, block_size: int) -> Tensor:
    """Return in which of vLLM's blocks each slot is; of -1, 0."""
    return slot_mapping.div(block_size, rounding_mode="trunc")


def in_tiles(cache: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys or values of `halves` in NZ: in a block, of each 16 elements of a head those of all its tokens.

    Args:
        cache: (blocks, tokens, KV heads, head size).

    Returns:
        The same memory as it is written, (blocks, KV heads * head size / 16, tokens, 16), and as it is read,
        (blocks, KV heads, head size / 16, tokens, 16).
    """
    blocks, tokens, heads, size = cache.shape
    read = cache.view(blocks, heads, size // _TILE, tokens, _TILE)
    return read.flatten(1, 2), read
