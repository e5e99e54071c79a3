"""Quantization schemes for checkpoints in ModelSlim's format: what a plugin writes against to add one.

    from ascend_overlay.hooks import hookimpl
    from ascend_overlay.quantization import CheckpointTensor, Linear, LinearScheme

    class MyScheme(LinearScheme):
        type = "W8A8_MINE"                 # as quant_model_description.json has it
        def tensors(self, linear): ...     # what the checkpoint holds for a layer
        def process(self, layer, linear): ...    # once, after loading
        def apply(self, layer, x, bias): ...     # at each call

    @hookimpl
    def ascend_overlay_quantization_schemes():
        return [MyScheme()]

The built-in schemes are contributed in the same way. Importing this package imports neither torch nor vLLM.
"""

from __future__ import annotations

from ascend_overlay.quantization.registry import find_experts, find_linear, schemes
from ascend_overlay.quantization.scheme import CheckpointTensor, ExpertsScheme, Linear, LinearScheme

__all__ = ["CheckpointTensor", "ExpertsScheme", "Linear", "LinearScheme", "find_experts", "find_linear", "schemes"]
