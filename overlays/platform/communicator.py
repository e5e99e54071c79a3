"""Collectives of a group of processes."""

from __future__ import annotations

from vllm.distributed.device_communicators.base_device_communicator import DeviceCommunicatorBase


class NPUCommunicator(DeviceCommunicatorBase):  # type: ignore[misc, unused-ignore]
    """torch.distributed as it is: torch_npu brings its backend hccl, and vLLM's base class asks for nothing else."""
