"""What @dataclass writes for a class, written again for other fields."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ascend_overlay.places.declared import GENERATED, is_generated

_DEPTH = 5
"""Frames between pydantic's call of @dataclass and what is called here."""
_PARAMETERS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")


def methods(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the methods that @dataclass writes for `cls`, as it would write them for `fields`.

    Raises:
        TypeError: dataclasses does not accept these fields, such as one without a default after one with.
        ValueError: it does not accept a default, such as a list.
    """
    namespace: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__annotations__": {name: field.type for name, field in fields.items()},
    }
    for name, field in fields.items():
        namespace[name] = _fresh(field)
    if hasattr(cls, "__post_init__"):
        namespace["__post_init__"] = cls.__post_init__
    parameters = {name: getattr(cls.__dataclass_params__, name) for name in _PARAMETERS}  # type: ignore[attr-defined]
    model: Any = type(cls.__name__, (), namespace)
    dataclasses.dataclass(**parameters)(model)
    found = {name: vars(model)[name] for name in GENERATED if is_generated(model, name, vars(model).get(name))}
    for name in found:
        # The model lives on until the garbage collector comes; nobody shall find copies in it.
        delattr(model, name)
    return found


def field(cls: type, name: str, annotation: Any, made: Any) -> Any:
    """Return the dataclass field `made` with its name and type, as @dataclass completes it for a class like `cls`."""
    namespace = {"__module__": cls.__module__, "__annotations__": {name: annotation}, name: made}
    model: Any = type(cls.__name__, (), namespace)
    dataclasses.dataclass(model)
    return model.__dataclass_fields__[name]


def set_default(function: Any, name: str, default: Any) -> None:
    """Give an argument of a generated function another default, in the function itself."""
    function = inspect.unwrap(function)
    code, defaults = function.__code__, list(function.__defaults__ or ())
    positional = code.co_varnames[: code.co_argcount]
    if name in (function.__kwdefaults__ or ()):
        function.__kwdefaults__ = {**function.__kwdefaults__, name: default}
    elif name in positional[len(positional) - len(defaults) :]:
        defaults[positional.index(name) - len(positional)] = default
        function.__defaults__ = tuple(defaults)


def derived(cls: type) -> list[type]:
    """Return `cls` and what is derived from it, bases first."""
    found = [cls]
    for step in found:
        children: list[type] = type.__subclasses__(step)
        found.extend(child for child in children if child not in found)
    return sorted(found, key=lambda step: len(step.__mro__))


def _fresh(made: Any) -> Any:
    """Return a copy that @dataclass completes as it would a new one."""
    fresh = copy.copy(made)
    fresh._field_type = None
    return fresh


_watched: list[Callable[[type], None]] = []
_process: list[Callable[..., Any]] = []


def watch(callback: Callable[[type], None]) -> None:
    """Call `callback` with each class that @dataclass completes from now on, except for pydantic."""
    _watched.append(callback)
    module: Any = dataclasses
    if not _process:
        _process.append(module._process_class)
    module._process_class = _processed


def unwatch(callback: Callable[[type], None]) -> None:
    """Undo `watch`; harmless where it was not, or is undone already."""
    _watched[:] = [other for other in _watched if other is not callback]
    module: Any = dataclasses
    if not _watched and _process and module._process_class is _processed:
        module._process_class = _process[0]


def _processed(*args: Any, **kwargs: Any) -> Any:
    cls = _process[0](*args, **kwargs)
    if not _for_pydantic():
        for callback in list(_watched):
            callback(cls)
    return cls


def _for_pydantic() -> bool:
    """Tell whether pydantic is calling @dataclass: it goes on to compile the class."""
    frame = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if frame.f_globals.get("__name__", "").startswith("pydantic"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
