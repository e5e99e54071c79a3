"""A runtime overlay for vLLM on Ascend NPU: stock vLLM, stock torch_npu, no fork.

    import ascend_overlay
    ascend_overlay.enable()

Importing this package imports neither vLLM nor torch, and nothing of it but this file until a name is used.
"""

import _thread
import os

# Every Python process of an activated environment imports this package: typing alone would be most of what that costs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ascend_overlay.api import disable, enable, enabled, ledger, note, register
    from ascend_overlay.conditions import Condition
    from ascend_overlay.overlay import Overlay
    from ascend_overlay.patches.base import ref

__version__ = "0.1.0"

__all__ = [
    "Condition",
    "Overlay",
    "__version__",
    "disable",
    "enable",
    "enabled",
    "ledger",
    "note",
    "ref",
    "register",
]

_HOMES = {
    "Condition": "conditions",
    "Overlay": "overlay",
    "disable": "api",
    "enable": "api",
    "enabled": "api",
    "ledger": "api",
    "note": "api",
    "ref": "patches.base",
    "register": "api",
}


def __getattr__(name: str) -> "Any":
    # Every Python process of an activated environment imports this package; most never need more than that.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    with _loading:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


# The child of a fork would wait for ever for a module that another thread was importing.
_loading = _thread.RLock()
_awaited: "list[bool]" = []
_PATIENCE = 5.0
"""Seconds that a fork waits for another thread, which may itself wait for what the forking one imports."""


def _before_fork() -> None:
    _awaited.append(_loading.acquire(timeout=_PATIENCE))


def _after_fork() -> None:
    if _awaited.pop():
        _loading.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def __dir__() -> "list[str]":
    return sorted([*globals(), *__all__])
