"""The layout of the latent cache.

vLLM allocates a page as ``block_size`` rows of 512 + 64 elements: a latent and a rotated key a token. The operators
want the two apart, each contiguous, because they write and read them as tensors of their own. So the allocation, of the
same size, is seen as two planes: the latents of all blocks, then the rotated keys of all blocks. vLLM's accounting of
pages stays right; what copies or clears a cache block by block from outside would be wrong, and the backend says so
where vLLM asks (KV connectors, layouts in which layers share blocks).
"""

from __future__ import annotations

from torch import Tensor

from ascend_overlay.errors import ConfigError
from ascend_overlay.overlays.mla.choice import LATENT, ROPE

Planes = tuple[Tensor, Tensor]


def planes(cache: Tensor) -> Planes:
    """Return the latents (blocks, block_size, 1, 512) and the rotated keys (blocks, block_size, 1, 64) of a cache.

    Args:
        cache: (blocks, block_size, 576), contiguous, as vLLM binds it to a layer.

    Raises:
        ConfigError: the blocks of a layer do not lie one after the other.
    """
    if not cache.is_contiguous():
        raise ConfigError(
            f"the latent cache has the strides {cache.stride()}: other layers' blocks lie between those of a layer, "
            f"which torch_npu's operators do not take. Choose the KV cache layout LBHNC (vLLM's default)."
        )
    blocks, size, _ = cache.shape
    latents, keys = cache.view(-1).split_with_sizes((blocks * size * LATENT, blocks * size * ROPE))
    return latents.view(blocks, size, 1, LATENT), keys.view(blocks, size, 1, ROPE)
