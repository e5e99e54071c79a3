"""Stands for vllm.model_executor.layers.sampler."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.model_executor.layers.sampler",
    {
        "Sampler": "vllm.v1.sample.sampler:Sampler",
        "SamplerOutput": "vllm.v1.outputs:SamplerOutput",
        "get_sampler": "vllm.v1.sample.sampler:Sampler",
    },
)
