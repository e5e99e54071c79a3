"""What the quantized types of routed experts have in common as methods of vLLM's."""

from __future__ import annotations

import abc
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter
from vllm.model_executor.layers.fused_moe.config import FusedMoEQuantConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase

from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu.moe.layer import activation_of, refusal, weighted_input
from ascend_overlay.overlays.quantization.experts_loading import ExpertsLoading

PARTS = ("w13", "w2")
Shape = tuple[int, int, int]
"""Experts, outputs, and inputs of one part, on a rank."""


@dataclass(frozen=True)
class Stored:
    """What a checkpoint has for one part of the experts, as a parameter of the layer.

    Attributes:
        name: the last part of its name, as "weight_scale".
        shape: its shape on this rank.
        dtype: its dtype.
        optional: the checkpoint may be without it; it is zero then.
        parts: see `ExpertsLoading.loader`.
        unused: the checkpoint may have it, and nothing is made of it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    optional: bool = False
    parts: int = 0
    unused: bool = False


class ExpertsMethod(FusedMoEMethodBase):  # type: ignore[misc, unused-ignore]
    """Loads and computes experts of one type, on a rank.

    Attributes:
        scheme_type: the type.
        words: what such experts are, for an error.
        dtypes: what activations may be.
        spread: how vLLM's loader spreads the scales over ranks, a value of its FusedMoeWeightScaleSupported.

    Args:
        layer: the layer of vLLM.
        prefix: its name.

    Raises:
        CheckpointError: the layer is one that the operators of torch_npu do not compute.
    """

    scheme_type: ClassVar[str]
    words: ClassVar[str]
    dtypes: ClassVar[Container[torch.dtype]]
    spread: ClassVar[str]

    def __init__(self, layer: Any, prefix: str) -> None:
        moe = layer.moe_config
        super().__init__(moe)
        self._activation = activation_of(moe)
        self._name = prefix.removesuffix(".routed_experts")
        self._loading: ExpertsLoading
        reason = refusal(moe) or ("biases" if moe.has_bias else None)
        if reason is None and moe.in_dtype not in self.dtypes:
            reason = f"activations of {moe.in_dtype}"
        if reason is not None:
            raise CheckpointError(
                f"{self._name} is of the type {self.scheme_type}, and there are no {self.words} with {reason}. Change "
                f"that, or keep the experts of the model in float when you quantize it."
            )

    def create_weights(
        self,
        layer: Any,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give `layer` the parameters that are loaded.

        Raises:
            CheckpointError: the type has no experts of such sizes on a rank, or none with such scales.
        """
        gate_and_up = intermediate_size_per_partition * (2 if self.moe.is_act_and_mul else 1)
        shapes = {
            "w13": (num_experts, gate_and_up, hidden_size),
            "w2": (num_experts, hidden_size, intermediate_size_per_partition),
        }
        stored = {part: list(self.stored(layer, part, shape)) for part, shape in shapes.items()}
        self._loading = ExpertsLoading(layer, self._name, extra_weight_attrs["weight_loader"])
        for part, parameters in stored.items():
            for each in parameters:
                self._add(layer, part, each)

    def process_weights_after_loading(self, layer: Any) -> None:
        """See that everything was loaded and is usable, and bring it into the form that the operators take.

        Raises:
            CheckpointError: a tensor is missing, or its numbers are not usable.
        """
        self._loading.finish()
        for part in PARTS:
            self.prepare(layer, part)

    @abc.abstractmethod
    def stored(self, layer: Any, part: str, shape: Shape) -> Iterator[Stored]:
        """Yield what the checkpoint has for one of `PARTS`.

        Raises:
            CheckpointError: the type has no experts of such sizes on a rank, or none with such scales.
        """

    @abc.abstractmethod
    def prepare(self, layer: Any, part: str) -> None:
        """Bring one of `PARTS`, which is loaded, into the form that the operators take.

        Raises:
            CheckpointError: its numbers are not usable.
        """

    def get_fused_moe_quant_config(self, layer: Any) -> FusedMoEQuantConfig:
        """Return one that says nothing: it is for vLLM's own kernels."""
        return FusedMoEQuantConfig.make()

    def apply(
        self,
        layer: Any,
        x: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        shared_experts: Any,
        shared_experts_input: Tensor | None,
    ) -> Tensor:
        """Return for each token the weighted sum of its experts on this rank.

        Args:
            layer: vLLM's RoutedExperts, which holds the weights.
            x: (num_tokens, hidden); float16 or bfloat16.
            topk_weights: (num_tokens, top_k), float32.
            topk_ids: (num_tokens, top_k), int: experts, counted over all ranks.
            shared_experts: run by vLLM, before or beside.
            shared_experts_input: what they take.
        """
        weights: Tensor | None = topk_weights
        if layer.apply_router_weight_on_input:
            x, weights = weighted_input(x, topk_weights, self._name), None
        return self.computed(layer, x, topk_ids.to(torch.int32), weights)

    @abc.abstractmethod
    def computed(self, layer: Any, x: Tensor, experts: Tensor, weights: Tensor | None) -> Tensor:
        """Return what `apply` does; `experts` is int32, and without `weights` they are ones."""

    def loaded(self, layer: Any, part: str, name: str, see: Callable[[Tensor, Any], None] | None = None) -> Tensor:
        """Return what was loaded as a parameter of a part, of which `see` finds its numbers usable.

        Raises:
            CheckpointError: they are not.
        """
        data: Tensor = getattr(layer, f"{part}_{name}").data
        if see is not None:
            see(data, self._loading.named(f"{part}_{name}"))
        return data

    def _add(self, layer: Any, part: str, stored: Stored) -> None:
        name = f"{part}_{stored.name}"
        parameter: Any = Parameter(torch.zeros(stored.shape, dtype=stored.dtype), requires_grad=False)
        layer.register_parameter(name, parameter)
        if stored.unused:
            parameter.weight_loader = _pass_over
            return
        parameter.weight_loader = self._loading.loader(name, optional=stored.optional, parts=stored.parts)
        parameter.quant_method = self.spread


def _pass_over(*tensors: Tensor, **options: Any) -> bool:
    return True
