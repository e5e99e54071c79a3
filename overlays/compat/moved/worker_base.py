"""Stands for vllm.worker.worker_base."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.worker.worker_base",
    {
        "WorkerBase": "vllm.v1.worker.worker_base:WorkerBase",
    },
)
