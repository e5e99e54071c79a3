"""The backend hccl of torch.distributed, by gloo."""

from __future__ import annotations

from typing import Any

import torch

from ascend_overlay.npu.software.native_calls import Native


def install(native: Native) -> None:
    """Let groups named hccl be gloo's, and their collectives see NPU tensors as CPU tensors."""
    import torch.distributed as dist

    if not dist.is_available():
        return
    # For both devices: a collective on an NPU tensor is run as one on a CPU tensor of the same group.
    dist.Backend.register_backend("hccl", _gloo, extended_api=True, devices=["npu", "cpu"])
    # Registering has made hccl the choice for CPU tensors of groups without a name.
    dist.Backend.default_device_backend_map["cpu"] = "gloo"
    native.install("c10d", _with_cpu_kernel())


def _with_cpu_kernel() -> list[str]:
    return [
        name.partition("::")[2]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("c10d::") and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
    ]


def _gloo(options: Any, _: Any) -> Any:
    from torch.distributed import ProcessGroupGloo

    return ProcessGroupGloo(options.store, options.group_rank, options.group_size, timeout=options.timeout)
