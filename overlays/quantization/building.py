"""What happens to a quantized model when vLLM has built it, before any weights come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

import ascend_overlay
from ascend_overlay.errors import CheckpointError
from ascend_overlay.overlays.quantization import detection

_PAST_THE_LAYERS = ("sharded_state", "runai_streamer_sharded", "tensorizer")
"""Formats in which vLLM writes tensors of its own making into the memory of a model."""


def initialize_model(wrapped: Callable[..., nn.Module], instance: Any, args: tuple[Any, ...], kwargs: Any) -> nn.Module:
    """Give nameless layers of a new model their weights, and norms the biases that the description lists.

    Norms and activations before quantized layers quantize what they return, where that is known to be right.

    What that leaves in float is checked from then on.

    Raises:
        CheckpointError: the model cannot be loaded in this way.
    """
    config = args[0] if args else kwargs["vllm_config"]
    quantization = config.quant_config
    if quantization is None or quantization.get_name() != detection.METHOD:
        return wrapped(*args, **kwargs)
    load_format = config.load_config.load_format
    if load_format in _PAST_THE_LAYERS:
        raise CheckpointError(
            f"load_format={load_format!r} writes weights past the layers, and those of the quantization method "
            f"{detection.METHOD!r} compute with other tensors than they load. Load the checkpoint itself, with "
            f"load_format='auto'."
        )
    if quantization.description is None or quantization.unnamed is not None:
        # A part of a larger model is built by a call of its own, within that of the whole.
        return wrapped(*args, **kwargs)
    quantization.unnamed = []
    try:
        model = wrapped(*args, **kwargs)
    finally:
        unnamed, quantization.unnamed = quantization.unnamed, None
    # At module level they would be imported in the middle of the imports of vLLM's loader.
    from vllm.config import set_current_vllm_config

    from ascend_overlay.overlays.quantization import floats, fusion, norm_bias
    from ascend_overlay.overlays.quantization.served import served
    from ascend_overlay.overlays.quantization.unnamed import settle

    prefix = kwargs.get("prefix", "")
    with set_current_vllm_config(config):
        settle(model, prefix, quantization, unnamed)
    if not prefix:
        norm_bias.give(model, quantization.description)
        with set_current_vllm_config(config):
            fusion.fuse(model, config.model_config.dtype)
        floats.watch(model)
        ascend_overlay.note("quantization", f"{type(model).__name__} is served so: {served(model)}")
    return model
