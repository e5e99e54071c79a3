"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Mapping

# The child of a fork would wait for ever for a module that another thread was importing.
_loading = threading.RLock()
_awaited: list[bool] = []
_PATIENCE = 5.0
"""Seconds that a fork waits for another thread, which may itself wait for what the forking one imports."""


def load(package: str, homes: Mapping[str, str], name: str) -> object:
    """Return what `package` has under `name`, and have it there from now on; for a `__getattr__` of that package.

    What is imported here imports modules of ascend_overlay only, none of which waits for a name that is loaded so.

    Args:
        package: the package.
        homes: the module below it that defines a name, by name.
        name: the name.

    Raises:
        AttributeError: it is none of those.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    with _loading:
        value: object = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
    setattr(sys.modules[package], name, value)
    return value


def _before_fork() -> None:
    _awaited.append(_loading.acquire(timeout=_PATIENCE))


def _after_fork() -> None:
    if _awaited.pop():
        _loading.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
