"""Knowing when a module has been imported, whoever imports it and from whichever thread."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType

Callback = Callable[[ModuleType], None]

_unfinished: list[tuple[str, Callback]] = []
_registering = threading.local()


def is_complete(name: str) -> bool:
    """Tell whether the module is loaded and has finished executing."""
    module = sys.modules.get(name)
    return isinstance(module, ModuleType) and not _initializing(module)


def when_imported(name: str, callback: Callback) -> None:
    """Call `callback(module)` once, after the module `name` has executed: at its import, or at once if that is past.

    A module that another thread is executing right now is waited for. One that this very thread is executing (the
    caller runs inside its import) is looked at again at the next import, since nothing tells when it is complete.
    """
    if is_complete(name):
        callback(sys.modules[name])
    elif isinstance(sys.modules.get(name), ModuleType):
        _wait(name, callback)
    else:
        _hook(name, callback)


def watch_again(name: str, callback: Callback) -> None:
    """Call `callback` when the module `name`, whose import is failing right now, is imported once more."""
    _unfinished.append((name, callback))
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)


def sweep() -> None:
    """Call back for the modules that were incomplete when they were asked for and are complete now."""
    for item in list(_unfinished):
        name, callback = item
        if item not in _unfinished:
            continue
        if name not in sys.modules:
            _unfinished.remove(item)
            _hook(name, callback)
        elif is_complete(name):
            _unfinished.remove(item)
            callback(sys.modules[name])
    if not _unfinished and _watcher in sys.meta_path:
        sys.meta_path.remove(_watcher)


def _initializing(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _hook(name: str, callback: Callback) -> None:
    import wrapt

    def notified(module: ModuleType) -> None:
        # wrapt calls at once when the module turned up meanwhile, complete or not.
        if getattr(_registering, "name", None) == name and _initializing(module):
            _wait(name, callback)
        else:
            callback(module)

    _registering.name = name
    try:
        wrapt.register_post_import_hook(notified, name)
    finally:
        _registering.name = None


def _wait(name: str, callback: Callback) -> None:
    # Blocks while another thread holds the module's import lock; returns at once inside the import itself.
    importlib.import_module(name)
    if is_complete(name):
        callback(sys.modules[name])
    else:
        watch_again(name, callback)


class _Watcher(importlib.abc.MetaPathFinder):
    """Finds nothing; uses the occasion of an import to look at unfinished modules again."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        sweep()
        # sweep() may have changed sys.meta_path, and the import system, in the middle of it, would skip a finder.
        for finder in list(sys.meta_path):
            if finder is not self and (spec := finder.find_spec(fullname, path, target)):
                return spec
        return None


_watcher = _Watcher()
