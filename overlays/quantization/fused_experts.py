"""The first product of int8 experts, their activation and its quantization in one operator (setting fused_experts).

Imported by name, where the setting asks for it: releases of torch_npu before 2.13 have other numbers for the dtypes in
between, and loading the operator there is an error that says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay import npu

npu.load("npu_grouped_matmul_swiglu_quant_v2")

LONGEST, WIDEST = 65535, 10240
"""Inputs and columns of the experts that the operator takes."""


class FusedExperts:
    """Computes it for the experts of a layer.

    Args:
        scale: (experts, columns), float32, of the first weight.
    """

    def __init__(self, scale: Tensor) -> None:
        self._scale = scale

    def __call__(self, rows: Tensor, weight: Tensor, scale: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activated product, quantized by rows, and the scales.

        Args:
            rows: (rows, hidden), int8, sorted by expert.
            weight: (experts, hidden, columns), int8 in FRACTAL_NZ.
            scale: (rows,), float32.
            counts: (experts,), int64.
        """
        found: tuple[Tensor, Tensor] = torch.ops.npu.npu_grouped_matmul_swiglu_quant_v2.default(
            rows, [weight], [self._scale], scale, counts, group_list_type=1
        )
        return found
