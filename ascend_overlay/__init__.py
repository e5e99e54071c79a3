"""A runtime overlay for vLLM on Ascend NPU: stock vLLM, stock torch_npu, no fork.

    import ascend_overlay
    ascend_overlay.enable()

Importing this package imports neither vLLM nor torch, and nothing of it but this file until a name is used.

PYTEST_DONT_REWRITE: where it is in every process before pytest is, pytest would warn that it comes too late to do so.
"""

# Every Python process of an activated environment imports this package: typing alone would be most of what that costs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ascend_overlay.api import disable, enable, enabled, ledger, note, register, unregister
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
    "unregister",
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
    "unregister": "api",
}


def __getattr__(name: str) -> "Any":
    # Every Python process of an activated environment imports this package; most never need more than that.
    from ascend_overlay.lazily import load

    return load(__name__, _HOMES, name)


def __dir__() -> "list[str]":
    return sorted([*globals(), *__all__])
