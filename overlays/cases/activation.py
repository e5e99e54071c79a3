"""Activation layers."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, normal
from ascend_overlay.verify.case import LayerCase


def cases() -> Iterator[LayerCase]:
    """Yield the cases of SiluAndMul."""
    for dtype in FLOATS:
        for tokens in (1, 83):
            yield LayerCase(
                layer="vllm.model_executor.layers.activation:SiluAndMul",
                label=f"{tokens} tokens of 2 x 512",
                dtype=dtype,
                overlay="activation",
                run=functools.partial(_silu_and_mul, tokens, dtype),
                operators=("npu_swiglu",),
                # vLLM rounds after the activation and after the product.
                rtol=4 * HALF_UNIT[dtype],
                atol=1e-6,
            )


def _silu_and_mul(tokens: int, dtype: str) -> Any:
    from vllm.model_executor.layers.activation import SiluAndMul

    return SiluAndMul()(normal(tokens, tokens, 1024, dtype=dtype))
