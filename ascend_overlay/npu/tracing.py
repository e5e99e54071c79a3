"""Counting the calls of NPU operators, where the setting `trace` (ASCEND_OVERLAY_TRACE=1) asks for it.

What is counted: each run of a kernel of an operator that has a reference kernel, in this process. Counting sits in the
kernel, so tracing by torch.compile does not count and running the compiled graph does. That holds for the CPU kernels
and, where torch_npu is present, for its NPU kernels, with one limit: an operator inside a captured NPU graph is counted
when it is captured, not when the graph is replayed.

Where counting is off, the kernels are registered bare: it costs nothing.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ascend_overlay import api, settings

_DEVICES = ("CPU", "PrivateUse1")
_DELAY = 0.5
"""Seconds after a call until the ledger file has it. A worker that is killed does not get to its exit handlers."""

_counts: dict[str, int] = {}
_active = False
_lock = threading.Lock()
_writing: threading.Timer | None = None


def counts() -> dict[str, int]:
    """Return how often each operator ran that something in this process calls; empty where counting is off."""
    with _lock:
        return dict(sorted(_counts.items())) if _active else {}


def reset() -> None:
    """Start again from zero."""
    global _writing
    with _lock:
        _counts.update(dict.fromkeys(_counts, 0))
        _writing = None


def active() -> bool:
    """Tell whether calls are counted."""
    return _active


def follow_settings() -> bool:
    """Switch counting on or off as the settings in force say; return whether that changed anything."""
    global _active
    wanted = settings.current().trace
    changed = wanted != _active
    if changed:
        _active = wanted
        reset()
    return changed


def expect(operators: Iterable[str]) -> None:
    """List `operators` among the counted ones even if they never run."""
    with _lock:
        for name in operators:
            _counts.setdefault(name, 0)


def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with each call counted for the operator `name`."""

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _count(name)
        return function(*args, **kwargs)

    return counted


def count_others(library: Any, name: str, *, ours: bool) -> None:
    """Count the calls of the kernels of the operator `name` that are not ours, by registering around them."""
    import torch

    qualified = f"npu::{name}"
    for device in _DEVICES:
        if (ours and device == "CPU") or not torch._C._dispatch_has_kernel_for_dispatch_key(qualified, device):
            continue
        kernel = torch.library.get_kernel(qualified, device)

        def call(keys: Any, *args: Any, _kernel: Any = kernel, **kwargs: Any) -> Any:
            return _kernel.call_boxed(keys, *args, **kwargs)

        library.impl(name, counting(name, call), device, with_keyset=True)


def _count(name: str) -> None:
    global _writing
    with _lock:
        _counts[name] = _counts.get(name, 0) + 1
        if _writing is not None:
            return
        _writing = timer = threading.Timer(_DELAY, _write)
    timer.daemon = True
    timer.start()


def _write() -> None:
    global _writing
    with _lock:
        _writing = None
    api.write_ledger()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    reset()


os.register_at_fork(after_in_child=_after_fork)
