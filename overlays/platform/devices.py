"""Which device a rank has."""

from __future__ import annotations

import os
from typing import Any

import torch
from vllm.platforms import current_platform
from vllm.platforms.interface import set_assigned_physical_gpu_ids

from ascend_overlay.errors import ConfigError


def of_rank(parallel: Any, local_rank: int) -> int:
    """Return the number by which torch_npu knows the device of a rank of this machine.

    Data parallelism, Ray and --device-ids assign devices to a replica by the numbers that the driver gives them; its
    ranks count from 0.

    Args:
        parallel: vLLM's ParallelConfig of the replica.
        local_rank: of the rank among those of the replica on this machine.

    Raises:
        ConfigError: this process does not see the device.
    """
    assigned = parallel.assigned_physical_gpu_ids
    if assigned is not None:
        set_assigned_physical_gpu_ids(assigned)
    devices = torch.accelerator.device_count()
    visible = os.environ.get(current_platform.device_control_env_var, "")
    # What is set later, as Ray's workers get what the driver has, changes the numbers and not what is seen.
    if visible and len(visible.split(",")) != devices:
        raise ConfigError(
            f"on the NPU platform, rank {local_rank} of this machine cannot tell which device it has: "
            f"{current_platform.device_control_env_var}={visible!r}, and the process sees {devices}; set it before "
            f"Python starts, to devices that there are."
        )
    try:
        index: int = current_platform.logical_device_id_to_visible_device_id(local_rank)
    except (IndexError, RuntimeError, ValueError) as error:
        raise ConfigError(_unseen(local_rank, assigned, devices)) from error
    if index >= devices:
        raise ConfigError(_unseen(local_rank, assigned, devices))
    return index


def _unseen(local_rank: int, assigned: list[int] | None, devices: int) -> str:
    given = f" of {assigned}" if assigned is not None else ""
    return (
        f"on the NPU platform, rank {local_rank} of this machine has no device: device {local_rank}{given} is asked "
        f"for, and the process sees {devices}; see to {current_platform.device_control_env_var} or --device-ids."
    )
