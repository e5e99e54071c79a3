"""The NPU's streams, events and graphs for vLLM's model runner and its graphs, which ask torch.cuda for them.

Their modules get a `torch` of their own, with another `cuda`; torch itself stays as it is for everybody else. vLLM's
own runner for XPUs changes torch.cuda for the whole process instead.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import torch

_RUNNER = "vllm.v1.worker.gpu_model_runner"
MODULES = (_RUNNER, "vllm.compilation.cuda_graph", "vllm.compilation.breakable_cudagraph")
"""Whose `torch.cuda` is the NPU."""
_NAMES = (
    "Stream",
    "set_stream",
    "current_stream",
    "default_stream",
    "graph_pool_handle",
    "is_current_stream_capturing",
)
_WEAK_REFERENCE = "weak_ref_tensor"

Before = dict[tuple[str, str], Any]
"""What a name of a module was."""


class _Cuda(ModuleType):
    """torch.cuda, but for streams, events and graphs."""

    def __init__(self) -> None:
        from ascend_overlay.overlays.platform import current, graphs

        super().__init__("torch.cuda")
        npu: Any = torch.npu  # type: ignore[attr-defined, unused-ignore]
        for name in _NAMES:
            setattr(self, name, getattr(npu, name))
        self.stream = current.Current
        self.CUDAGraph = graphs.Graph
        self.graph = graphs.Capturing

    @staticmethod
    def Event(*args: Any, blocking: bool | None = None, **kwargs: Any) -> Any:
        """Make an event. The NPU's has no `blocking`, a hint on how the host waits."""
        return torch.npu.Event(*args, **kwargs)  # type: ignore[attr-defined, unused-ignore]

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cuda, name)


class _Torch(ModuleType):
    """torch, with another `cuda`."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.cuda = _Cuda()

    def __getattr__(self, name: str) -> Any:
        value = getattr(torch, name)
        # Asked once: the runner names torch thousands of times a second.
        if isinstance(value, (type, torch.dtype)):
            setattr(self, name, value)
        return value


def give() -> tuple[Before, Any]:
    """Give the modules what the NPU has; return what they had, and the library of the operator that was defined."""
    from ascend_overlay.overlays.platform import graphs

    ours = _Torch()
    names = {(module, "torch"): ours for module in MODULES} | {(_RUNNER, "graph_capture"): graphs.capture}
    before = {}
    for (module, name), value in names.items():
        before[module, name] = vars(sys.modules[module])[name]
        vars(sys.modules[module])[name] = value
    return before, _weak_references()


def take_back(given: tuple[Before, Any]) -> None:
    """Give the modules back what they had."""
    before, library = given
    for (module, name), value in before.items():
        if module in sys.modules:
            vars(sys.modules[module])[name] = value
    library._destroy()


def _weak_references() -> Any:
    """Define the one operator of vLLM's compiled kernels that its graphs need; return the library that has it.

    ``_C::weak_ref_tensor(Tensor input) -> Tensor``: the same memory, which the result does not keep.
    """
    kind: Any = torch.library.Library
    library = kind("_C", "FRAGMENT")
    if not hasattr(torch.ops._C, _WEAK_REFERENCE):
        library.define(f"{_WEAK_REFERENCE}(Tensor input) -> Tensor")
    import torch_npu

    library.impl(_WEAK_REFERENCE, torch_npu._C._weak_ref_tensor, "PrivateUse1")
    return library
