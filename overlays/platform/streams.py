"""The NPU's streams and events for vLLM's model runner, which asks torch.cuda for them.

The runner's module gets a `torch` of its own, with another `cuda`; torch itself stays as it is for everybody else.
vLLM's own runner for XPUs changes torch.cuda for the whole process instead.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import torch

MODULES = ("vllm.v1.worker.gpu_model_runner",)
"""Whose `torch.cuda` is the NPU. Captured graphs will need more of them."""
_NAMES = ("Stream", "stream", "set_stream", "current_stream", "default_stream")


class _Cuda(ModuleType):
    """torch.cuda, but for streams and events."""

    def __init__(self) -> None:
        super().__init__("torch.cuda")
        npu: Any = torch.npu  # type: ignore[attr-defined, unused-ignore]
        for name in _NAMES:
            setattr(self, name, getattr(npu, name))

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


def give() -> dict[str, Any]:
    """Give the modules a torch with the NPU's streams; return what they had."""
    ours = _Torch()
    before = {}
    for name in MODULES:
        before[name] = vars(sys.modules[name])["torch"]
        vars(sys.modules[name])["torch"] = ours
    return before


def take_back(before: dict[str, Any]) -> None:
    """Give the modules back what they had."""
    for name, value in before.items():
        if name in sys.modules:
            vars(sys.modules[name])["torch"] = value
