"""Stands for vllm.model_executor.sampling_metadata."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.model_executor.sampling_metadata",
    {
        "SamplingMetadata": "vllm.v1.sample.metadata:SamplingMetadata",
    },
)
