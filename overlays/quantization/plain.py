"""A linear layer that a quantized checkpoint leaves in float."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from vllm.model_executor.layers.linear import UnquantizedLinearMethod

from ascend_overlay import settings
from ascend_overlay.errors import CheckpointError
from ascend_overlay.overlays.quantization.loading import Checkpoint, Loading
from ascend_overlay.quantization import CheckpointTensor, Linear


class PlainLinearMethod(UnquantizedLinearMethod):  # type: ignore[misc, unused-ignore]
    """vLLM's own layer, whose weight is missed if it does not come: in a quantized model, vLLM looks for none.

    Args:
        prefix: name of the layer.
        config: knows which modules of the checkpoint the layer consists of.
    """

    def __init__(self, prefix: str, config: Checkpoint) -> None:
        super().__init__()
        self._prefix = prefix
        self._config = config
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
        """Give `layer` its weight."""
        linear = Linear(
            name=self._prefix,
            projections=tuple(self._config.shards(layer, self._prefix)),
            inputs=input_size_per_partition,
            outputs=tuple(output_partition_sizes),
            dtype=params_dtype,
        )
        shape = (sum(output_partition_sizes), input_size_per_partition)
        weight = CheckpointTensor(name="weight", shape=shape, dtype=params_dtype, output_dim=0, input_dim=1)
        self.loading = Loading(layer, linear, self._config, extra_weight_attrs["weight_loader"])
        loader = {"weight_loader": self.loading.loader(weight)}
        super().create_weights(
            layer,
            input_size_per_partition,
            output_partition_sizes,
            input_size,
            output_size,
            params_dtype,
            **(extra_weight_attrs | loader),
        )

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """See that the weight was loaded, and do what vLLM does."""
        try:
            if self._config.weights_were_loaded:
                self.loading.finish()
        except CheckpointError as error:
            if settings.current().strict:
                raise
            warnings.warn(f"{error} It is left as it is.", RuntimeWarning, stacklevel=2)
        super().process_weights_after_loading(layer)
