"""Knowing when a module has executed: whoever imports it, from whichever thread, and each time that it does so.

A module executes again when it is reloaded, and when it was deleted from sys.modules and is imported once more.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from types import FrameType, ModuleType
from typing import Any

from ascend_overlay.finders import ask_others
from ascend_overlay.places import running

Callback = Callable[[str, ModuleType], None]

_watched: dict[str, list[Callback]] = {}
_run: dict[str, ModuleType] = {}
_unfinished: list[tuple[str, Callback]] = []
_looking = threading.local()


def is_complete(name: str) -> bool:
    """Tell whether the module is loaded and has finished executing."""
    module = sys.modules.get(name)
    return isinstance(module, ModuleType) and not is_initializing(module)


def is_initializing(module: ModuleType) -> bool:
    """Tell whether the module is executing right now."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def watch(name: str, callback: Callback) -> None:
    """Call `callback(name, module)` each time that the module `name` has executed, from its next import on."""
    callbacks = _watched.setdefault(name, [])
    if callback not in callbacks:
        callbacks.append(callback)
    _keep_finder()


def unwatch(name: str, callback: Callback) -> None:
    """Undo `watch`; no harm where nothing is watched."""
    callbacks = [other for other in _watched.get(name, ()) if other != callback]
    if callbacks:
        _watched[name] = callbacks
    else:
        _watched.pop(name, None)
    _keep_finder()


copied: set[str] = set()
"""Modules that runpy.run_module() has executed in a namespace of its own, which no patch reaches."""
_apart: dict[str, list[weakref.ref[ModuleType]]] = {}
"""Second objects of modules, which somebody made of a spec and executed without having them in sys.modules."""


def main_is_ready(name: str) -> None:
    """Call back for the module `name` that is run as the program: it has executed up to where its work begins."""
    _run[name] = sys.modules["__main__"]
    _tell(name, _run[name])


def loaded(name: str) -> ModuleType | None:
    """Return the module, or what runs as the program in its place."""
    return sys.modules.get(name) or _run.get(name)


def has_another(name: str) -> bool:
    """Tell whether there is a second object of the module, beside the one in sys.modules, which no patch reaches."""
    return any((module := held()) is not None and module is not loaded(name) for held in _apart.get(name, ()))


def watched_by(callback: Callback) -> list[str]:
    """Return the names of the modules that `callback` is called for."""
    return [name for name, callbacks in list(_watched.items()) if callback in callbacks]


def when_complete(name: str, callback: Callback) -> None:
    """Call `callback` once the module `name`, which is executing already, is complete; at once where it is.

    A module that another thread is executing is waited for. One that this very thread is executing (the caller runs
    inside its import) tells by its spec when it is complete; where it has none, the next import looks at it again.
    """
    if not is_complete(name) and isinstance(sys.modules.get(name), ModuleType):
        # Blocks while another thread holds the module's import lock; returns at once inside the import itself.
        importlib.import_module(name)
    if is_complete(name):
        callback(name, sys.modules[name])
    else:
        _unfinished.append((name, callback))
        _keep_finder()
        spec = getattr(sys.modules[name], "__spec__", None)
        if type(spec) is importlib.machinery.ModuleSpec:
            spec.__class__ = _TellingSpec


class _TellingSpec(importlib.machinery.ModuleSpec):
    """The spec of a module that is executing: the import system notes in it that it is done."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "_initializing" and not value:
            object.__setattr__(self, "__class__", importlib.machinery.ModuleSpec)
            sweep()


def sweep() -> None:
    """Call back for the modules that were executing when they were asked for and are complete now."""
    for item in list(_unfinished):
        name, callback = item
        if item not in _unfinished:
            continue
        if name not in sys.modules:
            # Its import failed; the next one is watched.
            _unfinished.remove(item)
        elif is_complete(name):
            _unfinished.remove(item)
            callback(name, sys.modules[name])
    _keep_finder()


def _keep_finder() -> None:
    """Have the finder asked first as long as there is something to look for, and not at all otherwise."""
    needed = bool(_watched or _unfinished)
    if needed and _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    elif not needed and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds what the others find, and has the loaders of watched modules tell when they are done."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _unfinished and fullname not in _watched:
            return None
        if fullname in _names_looked_for():
            # Another finder asks all finders in its turn.
            return None
        _names_looked_for().add(fullname)
        try:
            sweep()
            spec = ask_others(self, fullname, path, target)
        finally:
            _names_looked_for().discard(fullname)
        if spec is not None and fullname in _watched and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """Executes a module by its own loader, gives it that loader back, and calls whoever waits for it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def get_code(self, name: str) -> Any:
        """Return the code of the module; who runs it as the program gets it with a call back where its work begins."""
        code = self._loader.get_code(name)
        if code is None or (entered := _entered_runpy(sys._getframe(1))) is None:
            return code
        if not _runs_the_program(entered):
            # runpy.run_module() in a program: the copy lives in a namespace that nobody else sees.
            copied.add(name)
            return code
        return running.prepared(code, self._loader, name, f"{__name__}:{main_is_ready.__name__}")

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then call back."""
        name = module.__spec__.name if module.__spec__ is not None else module.__name__
        imported = sys.modules.get(name) is module
        # What reads a module's source or data by its loader must find the one that it knows.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        # A module may have put something else in its own place, or itself, where it was executed by hand.
        if imported or sys.modules.get(name) is module:
            _tell(name, sys.modules.get(name, module))
        else:
            _apart.setdefault(name, []).append(weakref.ref(module))

    def load_module(self, fullname: str) -> Any:
        """Import the module in the old way, then call back."""
        module = self._loader.load_module(fullname)
        _tell(fullname, sys.modules.get(fullname, module))
        return module


def _tell(name: str, module: ModuleType) -> None:
    for callback in list(_watched.get(name, ())):
        callback(name, module)


def _entered_runpy(frame: FrameType | None) -> FrameType | None:
    """Return the call by which runpy was entered; None where the frame is none of it."""
    entered = None
    while frame is not None and frame.f_globals.get("__name__") == "runpy":
        entered, frame = frame, frame.f_back
    return entered


def _runs_the_program(entered: FrameType) -> bool:
    """Tell whether what runpy executes is sys.modules["__main__"] meanwhile."""
    if entered.f_code.co_name == "_run_module_as_main":
        return True
    arguments = entered.f_locals
    return bool(arguments.get("alter_sys")) and arguments.get("run_name") == "__main__"


def _names_looked_for() -> set[str]:
    if not hasattr(_looking, "names"):
        _looking.names = set()
    names: set[str] = _looking.names
    return names


_finder = _Finder()
