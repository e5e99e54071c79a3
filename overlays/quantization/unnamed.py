"""Layers whose name is known when the model is built: vLLM builds some with none, or with another one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from vllm.model_executor.layers.linear import LinearBase, LinearMethodBase

import ascend_overlay
from ascend_overlay.overlays.quantization.plain import PlainLinearMethod


class Unnamed(LinearMethodBase):  # type: ignore[misc, unused-ignore]
    """Stands in for the method of a layer until its name is known.

    Args:
        layer: the layer, which is being built.
        prefix: the name that it is built with.
    """

    def __init__(self, layer: nn.Module, prefix: str) -> None:
        self.layer = layer
        self.prefix = prefix
        self._sizes: tuple[Any, ...] = ()
        self._attributes: dict[str, Any] = {}

    def create_weights(self, layer: nn.Module, *sizes: Any, **attributes: Any) -> None:
        """Remember what the weights are to be."""
        self._sizes, self._attributes = sizes, attributes

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Is never called in a model: by then the layer has its method."""
        raise NotImplementedError(f"the layer {self.prefix!r} is in no model, so nobody knows what it computes with")

    def settle(self, method: LinearMethodBase) -> None:
        """Give the layer its method, and the weights of that."""
        layer: Any = self.layer
        layer.quant_method = method
        method.create_weights(layer, *self._sizes, **self._attributes)
        layer.update_param_tp_status()


def settle(model: nn.Module, prefix: str, config: Any, unnamed: list[Unnamed]) -> None:
    """Give each of the layers the method that belongs to its name in `model`, whose own name is `prefix`.

    Args:
        model: the model, built.
        prefix: its own name.
        config: the AscendQuantizationConfig that gave the layers to `unnamed`.
        unnamed: the layers that wait.

    Raises:
        CheckpointError: the description does not have it under that name either.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, LinearBase):
            names.setdefault(module, []).append(name)
    for waiting in unnamed:
        layer = waiting.layer
        places = [f"{prefix}.{name}" if prefix else name for name in names.get(layer, ())]
        if places:  # else it was built and dropped
            # What two modules hold has two names.
            known = [name for name in places if config.knows(layer, name)]
            name = (known or places)[0]
            if not known and config.is_float_everywhere(name):
                ascend_overlay.note(
                    "quantization", f"{name}: in float, as {config.source} says of all that are called so"
                )
                waiting.settle(PlainLinearMethod(name, config))
            else:
                method: Any = config.get_quant_method(layer, name)
                waiting.settle(method)
