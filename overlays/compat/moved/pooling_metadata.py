"""Stands for vllm.model_executor.pooling_metadata."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.model_executor.pooling_metadata",
    {
        "PoolingMetadata": "vllm.v1.pool.metadata:PoolingMetadata",
    },
)
