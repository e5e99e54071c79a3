"""Weights that no file of the checkpoint holds: vLLM looks for them only in models that are not quantized."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import CheckpointError
from ascend_overlay.overlays.quantization import floats
from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
from ascend_overlay.overlays.quantization.plain import PlainLinearMethod


def look_for(model: nn.Module, loaded: set[str] | None, source: str) -> None:
    """See that every parameter of a model was loaded.

    Args:
        model: the model.
        loaded: the parameters that it says it has loaded; None if it does not tell.
        source: name or folder of the checkpoint.

    Raises:
        CheckpointError: one was not.
    """
    try:
        floats.finish(model, loaded or set())
    except CheckpointError as error:
        _complain(str(error))
    if loaded is None:
        ascend_overlay.note(
            "quantization",
            f"{type(model).__name__} does not tell what it loaded, so nobody looks for norms, biases and embeddings "
            f"that did not come",
        )
        return
    # Two modules can hold one parameter, as a router that its experts hold, too.
    places: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(parameter, []).append(name)
    loaded = loaded.union(*(names for names in places.values() if not loaded.isdisjoint(names)))
    # It knows what a checkpoint need not have, and needs nothing of its loader for that.
    look: Any = DefaultModelLoader.track_weights_loading
    try:
        look(None, model, loaded | set(looked_for(model)), quantized=True)
    except ValueError as error:
        text = f"{error}. The safetensors files of {source} are incomplete; copy or download them again."
        _complain(text, error)


def _complain(text: str, cause: Exception | None = None) -> None:
    """Raise an error, or warn where the setting `strict` is off."""
    if settings.current().strict:
        raise CheckpointError(text) from cause
    warnings.warn(f"{text} What is missing is left as it is.", RuntimeWarning, stacklevel=2)


def looked_for(model: nn.Module) -> Iterator[str]:
    """Yield the parameters that their layer looks for itself: it knows which the checkpoint may be without."""
    for name, module in model.named_modules():
        method = getattr(module, "quant_method", None)
        experts = isinstance(module, RoutedExperts) and not isinstance(method, UnquantizedFusedMoEMethod)
        if experts or isinstance(method, AscendLinearMethod | PlainLinearMethod):
            # The bias of a layer is vLLM's.
            own = (last for last, _ in module.named_parameters(recurse=False) if last != "bias")
            yield from (f"{name}.{last}" if name else last for last in own)
