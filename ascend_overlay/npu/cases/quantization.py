"""Quantizing activations, and products with quantized weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import HALF_UNIT, dtype_of, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_HALVES = ("bfloat16", "float16")
_TOKENS = {"one token": 1, "33 tokens": 33}
_FP19 = 2**-10
"""What the matrix unit leaves out of a scale, at most, where it reads 19 of its bits."""


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of the operators."""
    for dtype in _HALVES:
        for label, tokens in _TOKENS.items():
            # Another order of operations may round what lies between two whole numbers to the other one.
            yield _case(
                "npu_quantize", label, dtype, functools.partial(_quantize_arguments, tokens, dtype), _quantize, 1
            )
            arguments = functools.partial(_dynamic_arguments, tokens, dtype)
            yield _case("npu_dynamic_quant", label, dtype, arguments, _dynamic, 0.0, units=1)
            for named in ("left", "right"):
                arguments = functools.partial(_swiglu_arguments, tokens, dtype, named)
                yield _case(
                    "npu_dequant_swiglu_quant", f"{label}, {named}", dtype, arguments, _swiglu, 0.0, 2**-20, units=1
                )
            for named in ("per token", "per token, bias", "int32 bias"):
                arguments = functools.partial(_matmul_arguments, tokens, dtype, named)
                carried = dtype == "float16" and "per token" not in named
                rtol = HALF_UNIT[dtype] + (_FP19 if carried else 0.0)
                yield _case("npu_quant_matmul", f"{label}, {named}", dtype, arguments, _matmul, 1e-5, rtol)
            for named in ("symmetric", "offset", "groups of 32"):
                arguments = functools.partial(_weight_arguments, tokens, dtype, named)
                # The NPU rounds the weight to the dtype before the product.
                yield _case(
                    "npu_weight_quant_batchmatmul",
                    f"{label}, {named}",
                    dtype,
                    arguments,
                    _weight_matmul,
                    0.1,
                    4 * HALF_UNIT[dtype],
                )
    for dtype, atol in (("int8", 1.0), ("int32", 0.0)):
        arguments = functools.partial(_matmul_arguments, 33, dtype, "int32 bias")
        yield _case("npu_quant_matmul", "33 tokens, int32 bias", dtype, arguments, _matmul, atol)
    yield _case("npu_dequant_swiglu_quant", "sums of 3 groups", "int32", _swiglu_of_sums, _swiglu, 0.0, 2**-20, units=1)
    for named, sizes in (("sizes of 3 groups", True), ("ends of 3 groups", False)):
        arguments = functools.partial(_experts_arguments, sizes)
        name = "npu_grouped_matmul_swiglu_quant_v2"
        yield _case(name, named, "int8", arguments, _experts, 0.0, 2**-20, units=1)
    yield _case("npu_trans_quant_param", "with offset", "int64", _carried_arguments, _carried, 0.0)


def _case(
    operator: str,
    label: str,
    dtype: str,
    arguments: Any,
    baseline: Any,
    atol: float,
    rtol: float = 2**-22,
    units: float | None = None,
) -> OperatorCase:
    return OperatorCase(
        operator=operator,
        label=label,
        dtype=dtype,
        arguments=arguments,
        baseline=baseline,
        against="formula",
        rtol=rtol,
        atol=atol,
        units=units,
    )


def _int8(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8)


def _int32(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**16), 2**16, shape, generator=generator, dtype=torch.int32)


def _quantize_arguments(tokens: int, dtype: str) -> Arguments:
    one = torch.ones(1, dtype=dtype_of(dtype))
    return (normal(1, tokens, 256, dtype=dtype), 40 * one, -3 * one, torch.qint8, -1, False), {}


def _quantize(x: Tensor, scales: Tensor, zero_points: Tensor, *_: Any) -> Tensor:
    value = x.double() * scales.double() + zero_points.double()
    return value.round().clamp(-128, 127).to(torch.int8)


def _dynamic_arguments(tokens: int, dtype: str) -> Arguments:
    return (normal(1, tokens, 256, dtype=dtype),), {}


def _dynamic(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.double().abs().amax(-1) / 127
    return (x.double() / scale.unsqueeze(-1)).round().to(torch.int8), scale


def _swiglu_arguments(tokens: int, dtype: str, half: str) -> Arguments:
    return (normal(1, tokens, 256, dtype=dtype),), {"activate_left": half == "left", "quant_mode": 1}


def _swiglu_of_sums() -> Arguments:
    return (_int32(1, 33, 256),), {
        "weight_scale": normal(2, 3, 256).abs() * 1e-3,
        "activation_scale": normal(3, 33).abs() * 0.1,
        "group_index": torch.tensor([20, 0, 13]),
        "activate_left": True,
        "quant_mode": 1,
    }


def _swiglu(x: Tensor, *, activate_left: bool, **scales: Any) -> tuple[Tensor, Tensor]:
    value = x.double()
    if x.dtype == torch.int32:
        by_row = scales["weight_scale"].double().repeat_interleave(scales["group_index"], 0)
        value = value * by_row * scales["activation_scale"].double().unsqueeze(1)
    first, second = value.chunk(2, -1)
    a, b = (first, second) if activate_left else (second, first)
    return _dynamic(a / (1 + (-a).exp()) * b)


def _experts_arguments(sizes: bool) -> Arguments:
    counts = torch.tensor([20, 0, 13])
    groups = counts if sizes else counts.cumsum(0)
    weight, scale = [_int8(2, 3, 128, 192)], [normal(3, 3, 192).abs() * 1e-3]
    return (_int8(1, 33, 128), weight, scale, normal(4, 33).abs() * 0.1, groups), {"group_list_type": int(sizes)}


def _experts(
    x: Tensor, weight: list[Tensor], scale: list[Tensor], x_scale: Tensor, groups: Tensor, *, group_list_type: int
) -> tuple[Tensor, Tensor]:
    ends = groups.cumsum(0) if group_list_type else groups
    group = torch.searchsorted(ends, torch.arange(len(x)), right=True)
    sums = torch.stack([row.long() @ weight[0][number].long() for row, number in zip(x, group, strict=True)])
    a, b = (sums.double() * scale[0].double()[group] * x_scale.double().unsqueeze(1)).chunk(2, -1)
    return _dynamic(a / (1 + (-a).exp()) * b)


def _matmul_arguments(tokens: int, dtype: str, named: str) -> Arguments:
    options: dict[str, Any] = {"output_dtype": dtype_of(dtype)}
    scale = normal(3, 96).abs() * 1e-4
    if "per token" in named:
        options["pertoken_scale"] = normal(4, tokens).abs()
        if "bias" in named:
            options["bias"] = normal(5, 96, dtype=dtype)
    else:
        options["bias"] = _int32(5, 96)
        if dtype == "float16":
            scale = torch.ops.npu.npu_trans_quant_param(scale)
    return (_int8(1, tokens, 256), _int8(2, 256, 96), scale), options


def _matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    output_dtype: torch.dtype,
    pertoken_scale: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    total = x1.long() @ x2.long()
    if bias is not None and bias.dtype == torch.int32:
        total += bias
    if output_dtype == torch.int32:
        return total.int()
    if scale.dtype == torch.int64:
        scale = (scale & 0xFFFFFFFF).int().view(torch.float32)
    result = total.double() * scale.double()
    if pertoken_scale is not None:
        result *= pertoken_scale.double().unsqueeze(-1)
    if bias is not None and bias.dtype != torch.int32:
        result += bias.double()
    return result.round().clamp(-128, 127).to(torch.int8) if output_dtype == torch.int8 else result


def _weight_arguments(tokens: int, dtype: str, named: str) -> Arguments:
    shape = (8, 96) if "groups" in named else (96,)
    scale = (normal(3, *shape).abs() * 0.01 + 0.001).to(dtype_of(dtype))
    offset = normal(4, *shape, scale=10).round().to(dtype_of(dtype))
    options: dict[str, Any] = {"antiquant_group_size": 32} if "groups" in named else {}
    weight = _int8(2, 96, 256).t()
    return (normal(1, tokens, 256, dtype=dtype), weight, scale, None if named == "symmetric" else offset), options


def _weight_matmul(
    x: Tensor, weight: Tensor, scale: Tensor, offset: Tensor | None, *, antiquant_group_size: int = 0
) -> Tensor:
    value, factor = weight.double(), scale.double()
    shift = torch.zeros_like(factor) if offset is None else offset.double()
    if antiquant_group_size:
        factor, shift = (part.repeat_interleave(antiquant_group_size, 0) for part in (factor, shift))
    return x.double() @ ((value + shift) * factor)


def _carried_arguments() -> Arguments:
    return (normal(1, 64), normal(2, 64, scale=200)), {}


def _carried(scale: Tensor, offset: Tensor) -> Tensor:
    bits = scale.view(torch.int32).long() & 0xFFFFE000
    whole = offset.double().round().clamp(-256, 255).long() & 0x1FF
    return bits | (1 << 46) | (whole << 37)
