"""Quantized linear layers, of numbers that quantizing does not change.

Weights are whole multiples of a scale, and so are inputs: a quantized layer then computes what vLLM computes of the
same numbers in floating point, and the difference is that of the last rounding alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.cases.numbers import HALF_UNIT
from ascend_overlay.verify.case import LayerCase

_OPERATORS = {
    "W8A8": ("npu_quantize", "npu_quant_matmul"),
    "W8A8_DYNAMIC": ("npu_dynamic_quant", "npu_quant_matmul"),
    "W8A16": ("npu_weight_quant_batchmatmul",),
}
_INPUTS, _OUTPUTS = 256, 96
_STEP = 2.0**-5


def cases() -> Iterator[LayerCase]:
    """Yield the cases of ReplicatedLinear under each scheme."""
    for dtype in ("bfloat16", "float16"):
        for scheme, operators in _OPERATORS.items():
            yield LayerCase(
                layer="vllm.model_executor.layers.linear:ReplicatedLinear",
                label=f"{scheme}, 33 tokens, numbers that it keeps",
                dtype=dtype,
                overlay="quantization",
                run=functools.partial(_linear, scheme, dtype),
                operators=operators,
                # vLLM's own product is rounded, too, and float16 is scaled by 19 bits where inputs are static.
                rtol=2 * HALF_UNIT[dtype] + (2**-10 if (scheme, dtype) == ("W8A8", "float16") else 0.0),
                atol=1e-3,
            )


def _linear(scheme: str, dtype_name: str) -> Any:
    import torch
    from vllm.model_executor.layers import quantization
    from vllm.model_executor.layers.linear import ReplicatedLinear

    from ascend_overlay.npu.cases.numbers import dtype_of

    dtype = dtype_of(dtype_name)
    generator = torch.Generator().manual_seed(1)
    whole = torch.randint(-127, 128, (_OUTPUTS, _INPUTS), generator=generator, dtype=torch.int8)
    scale = 2.0 ** torch.randint(-9, -5, (_OUTPUTS, 1), generator=generator)
    inputs = torch.randint(-127, 128, (33, _INPUTS), generator=generator)
    inputs[:, 0] = 127  # so that a token's own scale is this step
    quantized = "ascend" in quantization.QUANTIZATION_METHODS
    tensors = _tensors(scheme, whole, scale) if quantized else {"weight": (whole * scale).to(dtype)}
    layer = ReplicatedLinear(
        _INPUTS,
        _OUTPUTS,
        bias=False,
        params_dtype=dtype,
        quant_config=_config(scheme) if quantized else None,
        prefix="layer",
        disable_tp=True,
    )
    for name, tensor in tensors.items():
        parameter = getattr(layer, name)
        parameter.weight_loader(parameter, tensor)
    layer.quant_method.process_weights_after_loading(layer)
    return layer((inputs * _STEP).to(dtype))[0]


def _config(scheme: str) -> Any:
    from vllm.model_executor.layers.quantization import get_quantization_config

    from ascend_overlay.quantization.description import parse

    return get_quantization_config("ascend")(parse({"layer.weight": scheme}, "quant_model_description.json"))


def _tensors(scheme: str, whole: Any, scale: Any) -> dict[str, Any]:
    import torch

    tensors = {"weight": whole, "weight_scale": scale}
    if scheme == "W8A8":
        tensors |= {"input_scale": torch.tensor([_STEP]), "input_offset": torch.zeros(1, dtype=torch.int8)}
    return tensors
