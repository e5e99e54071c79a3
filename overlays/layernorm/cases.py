"""Comparisons of normalization layers, for `ascend-overlay verify`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.case import LayerCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, dtype_of, normal

_MODULE = "vllm.model_executor.layers.layernorm"
_HIDDEN = 768
_GATED: tuple[dict[str, Any], ...] = (
    {},
    {"norm_before_gate": True},
    {"group_size": 128},
    {"norm_before_gate": True, "activation": "sigmoid"},
)


def cases() -> Iterator[LayerCase]:
    """Yield the cases of RMSNorm, GemmaRMSNorm and RMSNormGated."""
    for dtype in FLOATS:
        for tokens in (1, 83):
            for residual in (False, True):
                label = f"{tokens} tokens of {_HIDDEN}{', with residual' if residual else ''}"
                operator = "npu_add_rms_norm" if residual else "npu_rms_norm"
                yield _case("RMSNorm", label, dtype, functools.partial(_rms_norm, tokens, residual, dtype), operator)
                run = functools.partial(_gemma_rms_norm, tokens, residual, dtype)
                yield _case("GemmaRMSNorm", label, dtype, run, "npu_gemma_rms_norm")
            for options in _GATED:
                what = "".join(f", {key} {value}" for key, value in options.items())
                run = functools.partial(_rms_norm_gated, tokens, options, dtype)
                label = f"{tokens} tokens of {_HIDDEN}{what}"
                yield _case("RMSNormGated", label, dtype, run, "npu_rms_norm")


def _case(layer: str, label: str, dtype: str, run: Any, operator: str) -> LayerCase:
    return LayerCase(
        layer=f"{_MODULE}:{layer}",
        label=label,
        dtype=dtype,
        overlay="layernorm",
        run=run,
        operators=(operator,),
        # One of the two rounds before the weight, or before the gate, and the other does not.
        rtol=6 * HALF_UNIT[dtype],
        atol=1e-5 + HALF_UNIT[dtype] / 8,
    )


def _inputs(tokens: int, dtype: str) -> tuple[Any, Any]:
    return normal(tokens, tokens, _HIDDEN, dtype=dtype), normal(tokens + 1, tokens, _HIDDEN, dtype=dtype)


def _rms_norm(tokens: int, residual: bool, dtype: str) -> Any:
    from vllm.model_executor.layers.layernorm import RMSNorm

    layer = RMSNorm(_HIDDEN, eps=1e-5, dtype=dtype_of(dtype))
    layer.weight.data.copy_(normal(3, _HIDDEN))
    x, other = _inputs(tokens, dtype)
    return layer(x, other if residual else None)


def _gemma_rms_norm(tokens: int, residual: bool, dtype: str) -> Any:
    from vllm.model_executor.layers.layernorm import GemmaRMSNorm

    layer = GemmaRMSNorm(_HIDDEN, eps=1e-5).to(dtype_of(dtype))
    layer.weight.data.copy_(normal(3, _HIDDEN))
    x, other = _inputs(tokens, dtype)
    return layer(x, other if residual else None)


def _rms_norm_gated(tokens: int, options: dict[str, Any], dtype: str) -> Any:
    from vllm.model_executor.layers.layernorm import RMSNormGated

    layer = RMSNormGated(_HIDDEN, eps=1e-5, dtype=dtype_of(dtype), **options)
    layer.weight.data.copy_(normal(3, _HIDDEN))
    return layer(*_inputs(tokens, dtype))
