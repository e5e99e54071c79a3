"""The memory layout of the weights of unquantized linear layers."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

overlay = Overlay(
    "linear",
    vllm=">=0.27.1,<0.34",
    reason="vLLM has no seam for the memory layout of a weight; the product itself stays PyTorch's, which takes either",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

# Quantized layers cast their weights themselves. Embeddings and output layers keep ND: an embedding is looked up row by
# row, and an output layer may be tied to one.
overlay.wrap(
    "vllm.model_executor.layers.linear:UnquantizedLinearMethod.process_weights_after_loading",
    "ascend_overlay.overlays.linear.layer:process_weights_after_loading",
)
