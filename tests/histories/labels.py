"""Who is who: the objects of the watched modules get names when they are made, and the world is told in those names.

Only ids are kept: a reference from here would itself be a holder of what overlays replace.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

_LEFT_OUT = {"__builtins__", "__cached__", "__spec__", "__loader__", "__weakref__", "__dict__", "history_labels"}
_FROZEN = (tuple, frozenset, staticmethod, classmethod, property)
_KEEPERS = "Keeper"
"""Classes of this name are walked into: the live instances that a history makes."""


class Labels:
    """The names of objects, and where containers stood when their module was made.

    Attributes:
        generations: how often each module was executed.
        given: paths out of reach where a patch was put in by who made them.
    """

    def __init__(self) -> None:
        self.given: set[str] = set()
        self._names: dict[int, str] = {}
        self._identities: dict[int, tuple[str, int]] = {}
        self._codes: dict[int, int] = {}
        self._containers: dict[str, int] = {}
        self.generations: collections.Counter[str] = collections.Counter()

    def noted(self, module: str) -> None:
        """Give names to what `module`, which has just been executed, defines."""
        self.generations[module] += 1
        self._modules_name(sys.modules[module], f"{module}#{self.generations[module]}")
        found = list(_walk(module, vars(sys.modules[module]), module))
        named: set[int] = set()
        for path, value in found:
            if id(value) not in named:
                named.add(id(value))
                self.note(value, f"{module}#{self.generations[module]}{path.removeprefix(module)}", module)
        for path, value in found:
            self.note_container(value, path)
            if "(key" in path and self.of(value).startswith("unknown"):
                self.given.add(path)

    def note(self, value: Any, name: str, module: str | None = None) -> None:
        """Give `value` a name, where it is something that has one."""
        if isinstance(value, (types.FunctionType, type)) and module in (None, value.__module__):
            self._names[id(value)] = name
            self._identities[id(value)] = _identity(value)
            self._codes[id(value)] = id(getattr(value, "__code__", None))

    def note_container(self, value: Any, path: str) -> None:
        """Remember which container stands where, to see later whether it is still that one."""
        if not _is_container(value):
            return
        self._containers.pop(path, None)
        # What cannot be changed is built anew without the patches that were in it from the beginning.
        if not (isinstance(value, _FROZEN) and self._has_unknown(value)):
            self._containers[path] = id(value)

    def _has_unknown(self, value: Any) -> bool:
        if self.of(value).startswith("unknown") or (isinstance(value, type) and id(value) not in self._names):
            return True
        return isinstance(value, _FROZEN) and any(self._has_unknown(held) for _, held in _held(value, ""))

    def _modules_name(self, module: types.ModuleType, name: str) -> None:
        self._names[id(module)] = name

    def of(self, value: Any) -> str:
        """Return the name of an object, or what it looks like."""
        if isinstance(value, types.ModuleType):
            return self._names.get(id(value), f"module {value.__name__}")
        if isinstance(value, (types.FunctionType, type)):
            name = self._names.get(id(value))
            # An object may have come where one was that has gone.
            if name is None or self._identities[id(value)] != _identity(value):
                # A wrapper of ours around what the program made says that it is of the program's module.
                code = getattr(value, "__code__", None)
                ours = code is not None and not code.co_filename.startswith("<")
                foreign = not isinstance(value, type) and (ours or value.__module__ != "history_program")
                return f"unknown {value.__qualname__}" if foreign else f"{value.__module__}.{value.__qualname__}"
            changed = self._codes[id(value)] != id(getattr(value, "__code__", None))
            return f"{name} with other code" if changed else name
        if _is_container(value):
            return type(value).__name__
        if isinstance(value, (str, int, float, bool, type(None))):
            return repr(value)
        return type(value).__name__

    def world(self, modules: Iterable[str]) -> dict[str, str]:
        """Tell all that certain modules hold: path -> name."""
        told: dict[str, str] = {}
        for name in sorted(modules):
            module = sys.modules[name]
            told[f"sys.modules[{name!r}]"] = self.of(module)
            if name != module.__name__:
                continue
            for path, value in _walk(name, vars(module), name):
                told[path] = self._told(path, value)
        return told

    def _told(self, path: str, value: Any) -> str:
        if isinstance(value, type):
            return f"{self.of(value)} of {', '.join(self.of(base) for base in value.__bases__)}"
        if _is_container(value) and path in self._containers:
            return f"{self.of(value)}, {'the same' if self._containers[path] == id(value) else 'ANOTHER ONE'}"
        if isinstance(value, types.FunctionType) and value.__dict__:
            return f"{self.of(value)} with {sorted(value.__dict__)}"
        return self.of(value)


def _identity(value: types.FunctionType | type) -> tuple[str, int]:
    """Return what an object keeps for as long as it lives, and another one with its id seldom has."""
    return value.__qualname__, id(getattr(value, "__globals__", None))


def _is_container(value: Any) -> bool:
    return isinstance(
        value,
        (
            *(list, dict, set, tuple, frozenset, collections.deque, functools.partial),
            *(staticmethod, classmethod, property, weakref.WeakSet, weakref.WeakValueDictionary),
        ),
    )


def _walk(path: str, value: Any, module: str, depth: int = 6) -> Iterator[tuple[str, Any]]:
    """Yield what `value` holds, and what that holds, by path; what belongs to other modules only as a whole."""
    for step, held in _held(value, module):
        below = f"{path}{step}"
        yield below, held
        if depth:
            yield from _walk(below, held, module, depth - 1)


def _held(value: Any, module: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, types.FunctionType):
        if value.__module__ == module:
            yield from _of_function(value)
    elif isinstance(value, type):
        if value.__module__ == module:
            yield from ((f".{name}", held) for name, held in vars(value).items() if name not in _LEFT_OUT)
    elif isinstance(value, dict):
        if "__builtins__" in value:
            yield from ((f".{name}", held) for name, held in list(value.items()) if name not in _LEFT_OUT)
            return
        for index, (key, held) in enumerate(list(value.items())):
            # An entry by its place where the key is an object, not by what the object looks like.
            yield f"[{key!r}]" if isinstance(key, str) else f"[{index}]", held
            if not isinstance(key, str):
                yield f"(key {index})", key
    elif isinstance(value, (list, tuple, collections.deque)):
        yield from ((f"[{index}]", held) for index, held in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        ordered = sorted(value, key=lambda held: str(getattr(held, "__qualname__", held)))
        yield from ((f"{{{index}}}", held) for index, held in enumerate(ordered))
    elif isinstance(value, (functools.partial, staticmethod, classmethod, property, contextvars.ContextVar)):
        yield from _of_descriptor(value)
    elif type(value).__name__ == _KEEPERS:
        yield from ((f".{name}", held) for name, held in vars(value).items())


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    yield from ((f"(default {index})", held) for index, held in enumerate(function.__defaults__ or ()))
    yield from ((f"(default {name})", held) for name, held in (function.__kwdefaults__ or {}).items())
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        if name != "__class__":
            yield f"(closure {name})", cell.cell_contents


def _of_descriptor(value: Any) -> Iterator[tuple[str, Any]]:
    for name in ("func", "args", "__func__", "fget", "fset"):
        if (held := getattr(value, name, None)) is not None:
            yield f".{name}", held
    if isinstance(value, contextvars.ContextVar):
        yield "(value)", value.get(None)
