"""The biases that ModelSlim's suppression of outliers gives to RMSNorm.

It shifts the inputs of quantized layers so that they lie evenly around zero: the norm before adds a bias, and the
layers behind it take away what that does. vLLM's RMSNorm has no bias; some of its models say so when one comes, others
drop every bias that they have no parameter for without a word.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.models.utils import PPMissingLayer

import ascend_overlay
from ascend_overlay.errors import CheckpointError, some_of
from ascend_overlay.quantization.description import Description

_INSIDE = "kv_a_layernorm.bias"


def give(model: nn.Module, description: Description) -> None:
    """Add a parameter `bias` to each RMSNorm of `model` for which `description` lists one.

    Raises:
        CheckpointError: the bias is that of a norm that cannot have one.
    """
    given, nowhere = 0, []
    for name in description.norm_biases:
        module = _module(model, name.rpartition(".")[0])
        if module is None:
            nowhere.append(name)
            continue
        if isinstance(module, PPMissingLayer) or getattr(module, "bias", None) is not None:
            continue  # on another rank of the pipeline, or a norm that has a bias anyway
        if not isinstance(module, RMSNorm) or name.endswith(_INSIDE):
            raise CheckpointError(
                f"{description.source} lists {name}, and the {type(module).__name__} of this model cannot add a bias "
                f"there. Quantize the model without the suppression of outliers, or so that it leaves this norm alone."
            )
        module.register_parameter("bias", nn.Parameter(torch.zeros_like(module.weight), requires_grad=False))
        module.__class__ = _biased(type(module))
        given += 1
    if given:
        ascend_overlay.note("quantization", f"{given} norms add a bias, since {description.source} lists one for each")
    if nowhere:
        ascend_overlay.note(
            "quantization",
            f"{description.source} lists the biases of norms that are not in {type(model).__name__}, as those of "
            f"layers for drafting are not; nothing reads them: {some_of(nowhere)}",
        )


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


def _module(model: nn.Module, name: str) -> nn.Module | None:
    """Return the module of that name, or what stands for it where it is on another rank; None where there is none."""
    module: Any = model
    for part in name.split("."):
        module = getattr(module, part, None)
        if not isinstance(module, nn.Module) or isinstance(module, PPMissingLayer):
            break
    return module if isinstance(module, nn.Module) else None
