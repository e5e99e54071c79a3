"""Weights that no file of the checkpoint holds: vLLM looks for them only in models that are not quantized."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ascend_overlay import settings
from ascend_overlay.errors import CheckpointError
from ascend_overlay.overlays.quantization import detection


def load_weights(wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Have vLLM look for what did not come, unless `enable_weights_track` in its loader's configuration says otherwise.

    Raises:
        CheckpointError: a parameter of the model was not loaded.
    """
    config = args[1] if len(args) > 1 else kwargs["model_config"]
    if config.quantization != detection.METHOD or instance.enable_weights_track is not None:
        wrapped(*args, **kwargs)
        return
    theirs = instance.track_weights_loading

    def track(model: nn.Module, loaded: set[str] | None, **options: Any) -> None:
        if loaded is None:
            return  # a model that does not tell
        try:
            theirs(model, loaded | set(_looked_for(model)), **options)
        except ValueError as error:
            text = f"{error}. The safetensors files of {config.model} are incomplete; copy or download them again."
            if settings.current().strict:
                raise CheckpointError(text) from error
            warnings.warn(f"{text} What is missing is left as it is.", RuntimeWarning, stacklevel=2)

    instance.enable_weights_track, instance.track_weights_loading = True, track
    try:
        wrapped(*args, **kwargs)
    finally:
        instance.enable_weights_track = None
        del instance.track_weights_loading


def _looked_for(model: nn.Module) -> Iterator[str]:
    """Yield the parameters that their layer looks for itself: it knows which the checkpoint may be without."""
    from vllm.model_executor.layers.fused_moe import RoutedExperts
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

    from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
    from ascend_overlay.overlays.quantization.plain import PlainLinearMethod

    for name, module in model.named_modules():
        method = getattr(module, "quant_method", None)
        experts = isinstance(module, RoutedExperts) and not isinstance(method, UnquantizedFusedMoEMethod)
        if experts or isinstance(method, AscendLinearMethod | PlainLinearMethod):
            # The bias of a layer is vLLM's.
            own = (last for last, _ in module.named_parameters(recurse=False) if last != "bias")
            yield from (f"{name}.{last}" if name else last for last in own)
