"""Checkpoints in ModelSlim's format: the quantization method `ascend`."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

_PACKAGE = __name__

overlay = Overlay(
    "quantization",
    vllm=">=0.27.1,<0.34",
    reason=(
        "vLLM does not read ModelSlim's quant_model_description.json, and looks for a quantization method in "
        "config.json only, where ModelSlim writes nothing"
    ),
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

overlay.quantization("ascend", f"{_PACKAGE}.config:AscendQuantizationConfig")
# The first that asks for the method, in the one process that makes the configuration; all others get it from there.
overlay.wrap("vllm.config.model:ModelConfig._verify_quantization", f"{_PACKAGE}.detection:verify_quantization")
overlay.wrap(
    "vllm.config.vllm:VllmConfig.compute_hash",
    f"{_PACKAGE}.detection:compute_hash",
    reason="in the key of its compile cache, vLLM takes the name of a method for all there is to know of it",
)
for _loader in ("default_loader:DefaultModelLoader", "runai_streamer_loader:RunaiModelStreamerLoader"):
    overlay.wrap(
        f"vllm.model_executor.model_loader.{_loader}.load_weights",
        f"{_PACKAGE}.weights:load_weights",
        reason=(
            "vLLM leaves what does not come as it is, if the model is quantized, and of what does not fit it says "
            "neither the name nor the file"
        ),
    )
overlay.wrap(
    "vllm.model_executor.model_loader.utils:initialize_model",
    f"{_PACKAGE}.building:initialize_model",
    reason="vLLM's RMSNorm has no bias, and does not know its name, so it is given one when the model is built",
)
