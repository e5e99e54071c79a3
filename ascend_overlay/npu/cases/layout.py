"""Memory layouts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import dtype_of, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_LAYOUTS = {"to ND": 2, "to FRACTAL_NZ": 29}


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of npu_format_cast: whatever the layout, the values stay."""
    for dtype in ("int8", "bfloat16", "float16"):
        for label, layout in _LAYOUTS.items():
            yield OperatorCase(
                operator="npu_format_cast",
                label=label,
                dtype=dtype,
                arguments=functools.partial(_arguments, dtype, layout),
                baseline=_same,
                against="formula",
                rtol=0.0,
                atol=0.0,
            )


def _arguments(dtype: str, layout: int) -> Arguments:
    return (normal(1, 48, 96, scale=30).clamp(-128, 127).to(dtype_of(dtype)), layout), {}


def _same(input: Tensor, acl_format: int) -> Tensor:
    return torch.clone(input)
