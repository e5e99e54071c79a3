"""A linear layer with a quantization scheme."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.linear import LinearMethodBase, RowParallelLinear
from vllm.model_executor.parameter import (
    BasevLLMParameter,
    ChannelQuantScaleParameter,
    ModelWeightParameter,
    PerTensorScaleParameter,
    RowvLLMParameter,
)

from ascend_overlay.overlays.quantization.loading import Checkpoint, Loading
from ascend_overlay.quantization import CheckpointTensor, Linear, LinearScheme


class AscendLinearMethod(LinearMethodBase):  # type: ignore[misc, unused-ignore]
    """Stands between a linear layer of vLLM, or its output layer, and a quantization scheme.

    Args:
        scheme: how the layer is computed.
        prefix: name of the layer.
        config: knows which modules of the checkpoint the layer consists of.
    """

    def __init__(self, scheme: LinearScheme, prefix: str, config: Checkpoint) -> None:
        self.scheme = scheme
        self._prefix = prefix
        self._config = config
        self._linear: Linear
        self.loading: Loading

    def create_weights(
        self,
        layer: torch.nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give `layer` the parameters that the scheme loads."""
        linear = self._linear = Linear(
            name=self._prefix,
            projections=tuple(self._config.shards(layer, self._prefix)),
            inputs=input_size_per_partition,
            outputs=tuple(output_partition_sizes),
            dtype=params_dtype,
            # The ranks of a row-parallel layer add up what they compute.
            adds_bias=not (isinstance(layer, RowParallelLinear) and layer.tp_rank > 0),
        )
        self.loading = Loading(layer, linear, self._config, extra_weight_attrs["weight_loader"])
        for tensor in self.scheme.tensors(linear):
            layer.register_parameter(tensor.name, self._parameter(tensor))

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """See that everything was loaded, and let the scheme make of it what it computes with."""
        self._linear.absent = self.loading.finish()
        self.scheme.process(layer, self._linear)

    def apply(self, layer: torch.nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the outputs of the layer for `x` (..., inputs)."""
        return self.scheme.apply(layer, x, bias)

    def _parameter(self, tensor: CheckpointTensor) -> BasevLLMParameter:
        loader = self.loading.loader(tensor)
        if tensor.output_dim is None and tensor.input_dim is None:
            one_each = torch.zeros(len(self._linear.outputs), dtype=tensor.dtype)
            return PerTensorScaleParameter(data=one_each, weight_loader=loader)
        data = torch.zeros(tensor.shape, dtype=tensor.dtype)
        if tensor.output_dim is None:
            return RowvLLMParameter(input_dim=tensor.input_dim, data=data, weight_loader=loader)
        if tensor.input_dim is None:
            return ChannelQuantScaleParameter(output_dim=tensor.output_dim, data=data, weight_loader=loader)
        return ModelWeightParameter(
            input_dim=tensor.input_dim, output_dim=tensor.output_dim, data=data, weight_loader=loader
        )
