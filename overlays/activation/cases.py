"""Comparisons of activation layers, for `ascend-overlay verify`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.case import LayerCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, normal

_MODULE = "vllm.model_executor.layers.activation"

_LAYERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("SiluAndMul", "npu_swiglu", {}),
    ("SiluAndMulWithClamp", "npu_clipped_swiglu", {"swiglu_limit": 0.7}),
    ("SiluAndMulWithClamp", "npu_clipped_swiglu", {"swiglu_limit": 7.0, "alpha": 1.702, "beta": 1.0}),
    ("SwigluOAIAndMul", "npu_clipped_swiglu", {}),
    ("GeluAndMul", "npu_geglu", {}),
    ("GeluAndMul", "npu_geglu", {"approximate": "tanh"}),
    ("GELU", "npu_gelu", {}),
    ("GELUTanh", "npu_gelu", {}),
    ("NewGELU", "npu_gelu", {}),
    ("FastGELU", "npu_gelu", {}),
    ("QuickGELU", "npu_fast_gelu", {}),
)
"""Class, operator, arguments of the class."""

_STEEP = {"SiluAndMulWithClamp": 1, "SwigluOAIAndMul": 1, "QuickGELU": 1, "NewGELU": 4, "FastGELU": 4}
"""Half units of one that vLLM's rounding in between costs: of the exponent alpha * x, or of one plus a tanh near -1."""


def cases() -> Iterator[LayerCase]:
    """Yield the cases of the activations that the overlay serves."""
    for name, operator, arguments in _LAYERS:
        what = "".join(f", {key} {value}" for key, value in arguments.items())
        for dtype in FLOATS:
            for tokens in (1, 83):
                yield LayerCase(
                    layer=f"{_MODULE}:{name}",
                    label=f"{tokens} tokens of 1024{what}",
                    dtype=dtype,
                    overlay="activation",
                    run=functools.partial(_run, name, arguments, tokens, dtype),
                    operators=(operator,),
                    # vLLM rounds after each step, ours once.
                    rtol=4 * HALF_UNIT[dtype],
                    atol=HALF_UNIT[dtype] * _STEEP.get(name, 0) + 1e-6,
                )


def _run(name: str, arguments: dict[str, Any], tokens: int, dtype: str) -> Any:
    from vllm.model_executor.layers import activation

    return getattr(activation, name)(**arguments)(normal(tokens, tokens, 1024, dtype=dtype))
