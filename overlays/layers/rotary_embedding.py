"""vLLM's rotary embeddings on npu_mrope.

vLLM picks one of three methods when a layer is built: `forward_native` where custom operators are off, as under
Inductor, `forward_cpu` on the CPU platform, `forward_oot` on an NPU's. All return new tensors; vLLM's own CPU kernel
rotates in place, but no caller can rely on that, since `forward_native` does not.

npu_mrope limits the number of rotated elements a head; layers outside its limits stay with vLLM's own methods, and the
ledger says which.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.rotary_embedding import phi3_long_rope_scaled_rope as phi3
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
from vllm.model_executor.layers.rotary_embedding.deepseek_scaling_rope import DeepseekScalingRotaryEmbedding
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding

import ascend_overlay
from ascend_overlay import npu

npu.load("npu_mrope")

Rotated = tuple[Tensor, Tensor | None]

_STEPS = {torch.float32: 16, torch.bfloat16: 32, torch.float16: 32}
"""Of what the number of rotated elements a head must be a multiple, by dtype."""
_ONE_AXIS = [0, 0, 0]


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
    section: list[int] = _ONE_AXIS,
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
    if section is _ONE_AXIS:
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


def _note_left_to_vllm(layer: Any) -> None:
    if takes(layer.dtype, layer.rotary_dim, layer.head_size):
        return
    limit = f"npu_mrope takes multiples of {_STEPS[layer.dtype]}" if layer.dtype in _STEPS else "npu_mrope does not"
    ascend_overlay.note(
        "rotary",
        f"{type(layer).__name__} with {layer.rotary_dim} of {layer.head_size} elements rotated in {layer.dtype} stays "
        f"vLLM's: {limit}",
    )


class AscendRotaryEmbedding(RotaryEmbedding):  # type: ignore[misc, unused-ignore]
    """RotaryEmbedding by npu_mrope, for either pairing of elements and for partial rotation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _note_left_to_vllm(self)

    def forward_native(self, positions: Tensor, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Rotate; see `rotate` for shapes."""
        if not takes(query.dtype, self.rotary_dim, self.head_size):
            left: Rotated = super().forward_native(positions, query, key)
            return left
        cache = self._match_cos_sin_cache_dtype(query)
        return rotate(positions, query, key, cache, head_size=self.head_size, neox=self.is_neox_style)

    def forward_cpu(self, positions: Tensor, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Rotate; see `rotate` for shapes."""
        if not takes(query.dtype, self.rotary_dim, self.head_size):
            left: Rotated = super().forward_cpu(positions, query, key)
            return left
        return self.forward_native(positions, query, key)

    def forward_oot(self, positions: Tensor, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Rotate; see `rotate` for shapes."""
        return self.forward_native(positions, query, key)


class AscendDeepseekScalingRotaryEmbedding(DeepseekScalingRotaryEmbedding):  # type: ignore[misc, unused-ignore]
    """DeepSeek's YaRN embedding by npu_mrope; its pairs are neighbours and stay so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _note_left_to_vllm(self)

    def forward_native(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see `rotate` for shapes."""
        if not takes(query.dtype, self.rotary_dim, self.head_size):
            left: Rotated = super().forward_native(positions, query, key, offsets)
            return left
        cache = self._match_cos_sin_cache_dtype(query)
        where = positions if offsets is None else positions + offsets
        return rotate(where, query, key, cache, head_size=self.head_size, neox=self.is_neox_style)

    def forward_cpu(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see `rotate` for shapes."""
        return self.forward_native(positions, query, key, offsets)

    def forward_oot(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see `rotate` for shapes."""
        return self.forward_native(positions, query, key, offsets)


class AscendMRotaryEmbedding(MRotaryEmbedding):  # type: ignore[misc, unused-ignore]
    """MRotaryEmbedding by npu_mrope: angles from positions in time, height and width."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _note_left_to_vllm(self)
        if self.mrope_section and not self._takes_section():
            kind = "alternating " if self.mrope_interleaved else ""
            text = f"{type(self).__name__} with the {kind}sections {list(self.mrope_section)} stays vLLM's for images"
            ascend_overlay.note("rotary", f"{text}: npu_mrope does not take them")

    def _takes_section(self) -> bool:
        section = list(self.mrope_section or ())
        return len(section) == 3 and (not self.mrope_interleaved or section[1] == section[2])

    def forward_native(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate; see `rotate` for shapes. Like vLLM's, it does not use `offsets`."""
        axes = positions.dim() == 2
        if not takes(query.dtype, self.rotary_dim, self.head_size) or (axes and not self._takes_section()):
            left: Rotated = super().forward_native(positions, query, key, offsets)
            return left
        return rotate(
            positions,
            query,
            key,
            self._match_cos_sin_cache_dtype(query),
            head_size=self.head_size,
            neox=self.is_neox_style,
            section=list(self.mrope_section) if axes else _ONE_AXIS,
            cache_mode="interleave" if axes and self.mrope_interleaved else "default",
        )

    def forward_cpu(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate; see `rotate` for shapes."""
        return self.forward_native(positions, query, key, offsets)

    def forward_oot(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate; see `rotate` for shapes."""
        return self.forward_native(positions, query, key, offsets)


class AscendPhi3LongRoPEScaledRotaryEmbedding(
    phi3.Phi3LongRoPEScaledRotaryEmbedding  # type: ignore[misc, unused-ignore]
):
    """Phi-3's long rotary embedding by npu_mrope: one cache with the angles for short and for long contexts."""

    def forward(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see `rotate` for shapes."""
        cache = self.long_short_cos_sin_cache
        if not takes(query.dtype, self.rotary_dim, self.head_size) or cache.dtype != query.dtype:
            left: Rotated = super().forward(positions, query, key, offsets)
            return left
        where = positions if offsets is None else positions + offsets
        if self.use_long_rope:
            where = where + self.original_max_position_embeddings
        return rotate(where, query, key, cache, head_size=self.head_size, neox=True)
