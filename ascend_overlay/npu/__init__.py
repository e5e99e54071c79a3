"""torch_npu's operators, with or without an NPU.

Overlays call ``torch.ops.npu.*`` everywhere. On an NPU that is torch_npu's own kernel; elsewhere a reference kernel
with real numerics stands behind the very same schema:

    from ascend_overlay import npu

    npu.load("npu_rms_norm")                       # once, at module level of whatever calls the operator
    y, rstd = torch.ops.npu.npu_rms_norm(x, gamma, 1e-6)

Importing this package imports neither torch nor torch_npu; `load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ascend_overlay.npu.kernel import ReferenceKernel
    from ascend_overlay.npu.registration import kernels, load

__all__ = ["ReferenceKernel", "kernels", "load"]

_HOMES = {"ReferenceKernel": "kernel", "kernels": "registration", "load": "registration"}


def __getattr__(name: str) -> Any:
    # Lazy, because availability.py must be importable where `import torch` itself fails.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
