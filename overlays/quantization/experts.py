"""Routed experts of the type W8A8_DYNAMIC."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe.routed_experts import FusedMoeWeightScaleSupported
from vllm.model_executor.utils import replace_parameter

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.npu.layout import wants_nz
from ascend_overlay.npu.moe.layer import columns, is_swiglu
from ascend_overlay.overlays.quantization.experts_method import ExpertsMethod, Shape, Stored
from ascend_overlay.overlays.quantization.int8_experts import int8_experts
from ascend_overlay.overlays.quantization.numbers import see_scales, see_zero

# The dtype of a scale with which npu_grouped_matmul writes the dtype of the activations.
_SCALES = {torch.bfloat16: torch.bfloat16, torch.float16: torch.float32}


class W8A8DynamicExperts(ExpertsMethod):
    """Loads and computes int8 experts; see int8_experts.py for the arithmetic.

    What a processed layer has:

    - w13_weight: (experts, hidden, 2 * intermediate) int8
    - w2_weight: (experts, intermediate, hidden) int8
    - w13_weight_scale, w2_weight_scale: (experts, columns of the weight); bfloat16 with bfloat16, else float32
    """

    scheme_type = "W8A8_DYNAMIC"
    words = "int8 experts"
    dtypes = _SCALES
    spread = FusedMoeWeightScaleSupported.CHANNEL.value
    _fused: Any = None

    def stored(self, layer: Any, part: str, shape: Shape) -> Iterator[Stored]:
        """Yield what the checkpoint has; see `ExpertsMethod`."""
        yield Stored("weight", shape, torch.int8)
        yield Stored("weight_scale", (*shape[:2], 1))
        yield Stored("weight_offset", (*shape[:2], 1), optional=True)

    def prepare(self, layer: Any, part: str) -> None:
        """Bring one part into the form that the operators take; see `ExpertsMethod`."""
        self.loaded(layer, part, "weight_offset", see_zero)
        scale = self.loaded(layer, part, "weight_scale", see_scales).flatten(1)
        replace_parameter(layer, f"{part}_weight", columns(self.loaded(layer, part, "weight")))
        if part == "w13":
            self._fused = self._fusion(layer, scale)
        replace_parameter(layer, f"{part}_weight_scale", scale.to(_SCALES[self.moe.in_dtype]))
        delattr(layer, f"{part}_weight_offset")

    def computed(self, layer: Any, x: Tensor, experts: Tensor, weights: Tensor | None) -> Tensor:
        """Return for each token the weighted sum of its experts; see `ExpertsMethod`."""
        assert self._activation is not None
        return int8_experts(
            x,
            experts,
            weights,
            layer.w13_weight,
            layer.w13_weight_scale,
            layer.w2_weight,
            layer.w2_weight_scale,
            self._activation,
            swiglu=is_swiglu(self.moe),
            fused=self._fused,
            expert_map=layer.expert_map,
        )

    def _fusion(self, layer: Any, scale: Tensor) -> Any:
        """Return what makes the first product, the activation and its quantization one operator, or None.

        Raises:
            TargetError: the setting asks for it, and this torch_npu has another operator.
        """
        if not settings.current().fused_experts:
            return None
        module = importlib.import_module("ascend_overlay.overlays.quantization.fused_experts")
        _, inputs, columns_ = layer.w13_weight.shape
        reason = None
        if not is_swiglu(self.moe):
            reason = "since the activation is not npu_swiglu's"
        elif not wants_nz(layer.w13_weight):
            reason = "since the setting weight_nz leaves out FRACTAL_NZ, which the operator takes alone"
        elif inputs > module.LONGEST or columns_ > module.WIDEST:
            most = f"{module.LONGEST} x {module.WIDEST}"
            reason = f"since weights are {inputs} x {columns_} on a rank, and the operator takes {most}"
        if reason is not None:
            ascend_overlay.note("quantization", f"the products of experts and their activation stay apart, {reason}")
            return None
        return module.FusedExperts(scale.float())
