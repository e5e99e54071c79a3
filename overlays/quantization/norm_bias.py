"""The biases that ModelSlim's suppression of outliers gives to RMSNorm.

It shifts the inputs of quantized layers so that they lie evenly around zero: the norm before adds a bias, and the
layers behind it take away what that does. vLLM's RMSNorm has no bias; some of its models say so when one comes, others
drop every bias that they have no parameter for without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase

import ascend_overlay
from ascend_overlay.errors import CheckpointError
from ascend_overlay.quantization.description import Description

_INSIDE = "kv_a_layernorm.bias"


def initialize_model(wrapped: Callable[..., nn.Module], instance: Any, args: tuple[Any, ...], kwargs: Any) -> nn.Module:
    """Give the norms of a new model the biases that its description lists."""
    model = wrapped(*args, **kwargs)
    config = args[0] if args else kwargs["vllm_config"]
    description = getattr(config.quant_config, "description", None)
    # A part of a larger model is built by a call of its own, within that of the whole.
    if isinstance(description, Description) and not kwargs.get("prefix"):
        give(model, config.quant_config)
    return model


def give(model: nn.Module, config: Any) -> None:
    """Add a parameter `bias` to each RMSNorm of `model` for which the description lists one.

    Args:
        model: the whole model.
        config: the AscendQuantizationConfig, which has the description and knows whether weights were loaded.

    Raises:
        CheckpointError: the bias is that of a norm that cannot have one.
    """
    # At module level it would be imported in the middle of the imports of vLLM's loader.
    from vllm.model_executor.models.utils import PPMissingLayer

    description: Description = config.description
    given = 0
    for name in description.norm_biases:
        module = _submodule(model, name.rpartition(".")[0])
        if module is None or isinstance(module, PPMissingLayer) or getattr(module, "bias", None) is not None:
            continue  # on another rank of the pipeline, or a norm that has a bias anyway
        if not isinstance(module, RMSNorm) or name.endswith(_INSIDE):
            raise CheckpointError(
                f"{description.source} lists {name}, and the {type(module).__name__} of this model cannot add a bias "
                f"there. Quantize the model without the suppression of outliers, or so that it leaves this norm alone."
            )
        module.register_parameter("bias", nn.Parameter(torch.zeros_like(module.weight), requires_grad=False))
        module.__class__ = _biased(type(module))
        module.quant_method = _Loaded(module, name, config)
        given += 1
    if given:
        ascend_overlay.note("quantization", f"{given} norms add a bias, since {description.source} lists one for each")


class _Loaded(QuantizeMethodBase):  # type: ignore[misc, unused-ignore]
    """Misses the bias of a norm if it does not come; vLLM calls what it finds under the name quant_method."""

    def __init__(self, norm: Any, name: str, config: Any) -> None:
        self._name = name
        self._config = config
        self._loaded = False
        norm.bias.weight_loader = self._load

    def create_weights(self, layer: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Nothing; the bias is there."""

    def apply(self, layer: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Nobody calls it: the norm computes."""
        raise NotImplementedError

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """See that the bias was loaded, if anything was.

        Raises:
            CheckpointError: it was not.
        """
        loaded, self._loaded = self._loaded, False
        if self._config.weights_were_loaded and not loaded:
            raise CheckpointError(
                f"the checkpoint has no {self._name}, which {self._config.source} lists. Its safetensors files are "
                f"incomplete, or the description is that of another checkpoint."
            )

    def _load(self, param: Tensor, loaded_weight: Tensor) -> None:
        from vllm.model_executor.model_loader.weight_utils import default_weight_loader

        default_weight_loader(param, loaded_weight)
        self._loaded = True


class _AddsBias:
    """Goes before a class of norms."""

    bias: Tensor

    def forward(self, x: Tensor, residual: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Return the norm of `x`, plus `bias`; with `residual` also the sum, without it."""
        result = super().forward(x, residual, *args, **kwargs)  # type: ignore[misc]
        if isinstance(result, tuple):
            return result[0] + self.bias.to(result[0].dtype), *result[1:]
        return result + self.bias.to(result.dtype)


_classes: dict[type, type] = {}


def _biased(norm: type) -> type:
    if norm not in _classes:
        _classes[norm] = type(f"{norm.__name__}WithBias", (_AddsBias, norm), {"__module__": norm.__module__})
    return _classes[norm]


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None
