"""The backend hccl of torch.distributed, by gloo."""

from __future__ import annotations

from typing import Any

import torch

from ascend_overlay.npu.software.native_calls import Native


def install(native: Native) -> None:
    """Let groups named hccl be gloo's, and their collectives see NPU tensors as CPU tensors; see native/groups.h."""
    import torch.distributed as dist

    if not dist.is_available():
        return
    dist.Backend.register_backend("hccl", _gloo, extended_api=True, devices=["npu"])
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
