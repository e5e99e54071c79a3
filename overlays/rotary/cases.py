"""Comparisons of rotary embeddings, for `ascend-overlay verify`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import LayerCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, dtype_of, normal

if TYPE_CHECKING:
    import torch
else:
    from ascend_overlay.npu.cases.lazy import torch

_PACKAGE = "vllm.model_executor.layers.rotary_embedding"
_HEAD, _TOKENS = 64, 7


def _scaled(kind: str, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


_YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
_LONG = {"short_factor": [1.0] * 32, "long_factor": [2.0] * 32, "original_max_position_embeddings": 32}

_ROPES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("base:RotaryEmbedding", "", "npu_mrope", {}),
    ("base:RotaryEmbedding", "neighbours", "npu_mrope", {"is_neox_style": False}),
    ("base:RotaryEmbedding", "half of a head", "npu_mrope", _scaled("default", partial_rotary_factor=0.5)),
    # vLLM's CPU kernel writes beyond the head where the pairs are no multiple of 8.
    ("base:RotaryEmbedding", "16 of 64 elements", "npu_rotary_mul", _scaled("default", partial_rotary_factor=0.25)),
    ("llama3_rope:Llama3RotaryEmbedding", "", "npu_mrope", _scaled("llama3", **_LLAMA3)),
    ("yarn_scaling_rope:YaRNScalingRotaryEmbedding", "", "npu_mrope", _scaled("yarn", **_YARN)),
    (
        "deepseek_scaling_rope:DeepseekScalingRotaryEmbedding",
        "neighbours",
        "npu_mrope",
        {"is_neox_style": False, **_scaled("deepseek_yarn", **_YARN)},
    ),
    (
        "phi3_long_rope_scaled_rope:Phi3LongRoPEScaledRotaryEmbedding",
        "",
        "npu_mrope",
        _scaled("longrope", **_LONG),
    ),
    ("mrope:MRotaryEmbedding", "three axes", "npu_mrope", _scaled("default", mrope_section=[8, 12, 12])),
    (
        "mrope:MRotaryEmbedding",
        "three axes, alternating, unequal",
        "npu_rotary_mul",
        _scaled("default", mrope_section=[8, 14, 10], mrope_interleaved=True),
    ),
    (
        "bailing_mrope:BailingMRotaryEmbedding",
        "three axes",
        "npu_rotary_mul",
        {"is_neox_style": False, **_scaled("bailing_mrope", mrope_section=[8, 12, 12])},
    ),
    (
        "mrope_interleaved:MRotaryEmbeddingInterleaved",
        "three axes",
        "npu_rotary_mul",
        _scaled("openpangu", mrope_section=[8, 12, 12], mrope_interleaved=True),
    ),
)
"""Class, label, operator, arguments of get_rope()."""

_RELEASES = {"bailing_mrope:BailingMRotaryEmbedding": ">=0.30"}
"""Classes that not every release has."""


def cases() -> Iterator[LayerCase]:
    """Yield the cases of the rotary embeddings."""
    for dtype in FLOATS:
        for layer, label, operator, arguments in _ROPES:
            if dtype == "float32" and label == "16 of 64 elements":
                operator = "npu_mrope"  # It takes multiples of 16 in float32, of 32 in half precision.
            yield _case(layer, label, dtype, functools.partial(_rope, "three" in label, arguments, dtype), operator)
        for neox in (True, False):
            label = "halves" if neox else "neighbours"
            run = functools.partial(_apply, neox, dtype)
            yield _case("common:ApplyRotaryEmb", label, dtype, run, "npu_rotary_mul")
        run = functools.partial(_ernie, dtype)
        yield _case("ernie45_vl_rope:Ernie4_5_VLRotaryEmbedding", "three axes", dtype, run, "npu_rotary_mul")
        run = functools.partial(_llama4, dtype)
        yield _case("llama4_vision_rope:Llama4VisionRotaryEmbedding", "16 patches", dtype, run, "npu_rotary_mul")


def _case(layer: str, label: str, dtype: str, run: Any, operator: str) -> LayerCase:
    return LayerCase(
        layer=f"{_PACKAGE}.{layer}",
        label=label,
        dtype=dtype,
        overlay="rotary",
        run=run,
        operators=(operator,),
        # vLLM rounds the two products, too; they are about as large as the elements, which are at most about 4.
        rtol=2 * HALF_UNIT[dtype],
        atol=8 * HALF_UNIT[dtype],
        vllm=_RELEASES.get(layer),
    )


def _positions(axes: bool) -> Any:
    positions = torch.tensor([0, 1, 5, 13, 31, 60, 2])
    return torch.stack((positions, positions.flip(0), positions // 2)) if axes else positions


def _heads(dtype: str) -> tuple[Any, Any]:
    return normal(1, _TOKENS, 3 * _HEAD, dtype=dtype), normal(2, _TOKENS, _HEAD, dtype=dtype)


def _rope(axes: bool, arguments: dict[str, Any], dtype: str) -> Any:
    from vllm.model_executor.layers import rotary_embedding

    rotary_embedding._ROPE_DICT.clear()
    rope = rotary_embedding.get_rope(_HEAD, 64, **arguments, dtype=dtype_of(dtype))
    query, key = _heads(dtype)
    if isinstance(rope, rotary_embedding.DeepseekScalingRotaryEmbedding):
        query, key = query.view(_TOKENS, 3, _HEAD), key.view(_TOKENS, 1, _HEAD)
    return rope(_positions(axes), query, key)


def _apply(neox: bool, dtype: str) -> Any:
    from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb

    angles = torch.arange(_TOKENS)[:, None] * torch.logspace(0, -3, _HEAD // 2)
    x = normal(1, 2, _TOKENS, 3, _HEAD, dtype=dtype)
    return ApplyRotaryEmb(is_neox_style=neox)(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype))


def _ernie(dtype: str) -> Any:
    from vllm.model_executor.layers.rotary_embedding.ernie45_vl_rope import Ernie4_5_VLRotaryEmbedding

    rope = Ernie4_5_VLRotaryEmbedding(_HEAD, _HEAD, 64, 10000.0, False, dtype_of(dtype), [12, 12, 8])
    # The method of an NPU's platform; that of the CPU passes an argument which this class does not take.
    return rope.forward_oot(_positions(True), *_heads(dtype))


def _llama4(dtype: str) -> Any:
    from vllm.model_executor.layers import rotary_embedding

    rotary_embedding._ROPE_DICT.clear()
    arguments = _scaled("mllama4", partial_rotary_factor=0.5)
    rope = rotary_embedding.get_rope(_HEAD, 16, is_neox_style=False, dtype=torch.complex64, **arguments)
    return rope(normal(1, 2, 17, 3, _HEAD, dtype=dtype), normal(2, 2, 17, 3, _HEAD, dtype=dtype))
