"""Changes that somebody else made: who it was, and whether what they put there still leads to what was there."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

from ascend_overlay.errors import represented
from ascend_overlay.places.bindings import CONSTANTS
from ascend_overlay.places.functions import content_of, function_of, insides_of
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute
from ascend_overlay.places.target import MISSING

_DEPTH = 5


def described(value: Any) -> str:
    """Return what is known of a value that somebody put in a place: its name, and where it was written."""
    if value is MISSING:
        return "nothing (it was removed)"
    function = function_of(value)
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None) or getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):
        text = represented(value)
        kind = type(value).__qualname__
        return f"{text if len(text) <= 60 else text[:57] + '...'}, {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    own = getattr(function, "__code__", code)
    where = f" ({own.co_filename}, line {own.co_firstlineno})" if isinstance(own, types.CodeType) else ""
    return f"{getattr(function, '__module__', '?')}.{name}{where}"


def is_native(slot: Slot, value: Any) -> bool:
    """Tell whether the module that a place is in made `value` itself: by executing again, or before anybody patched it.

    Something like that appears where somebody who patched the place before us takes their patch back.
    """
    if not isinstance(slot.storage, Attribute):
        return False
    owner, name = slot.storage.owner, slot.storage.name
    module = owner.__name__ if isinstance(owner, types.ModuleType) else getattr(owner, "__module__", None)
    qualified = name if isinstance(owner, types.ModuleType) else f"{getattr(owner, '__qualname__', '')}.{name}"
    function = function_of(value)
    if not isinstance(function, (types.FunctionType, type)):
        return False
    if isinstance(function, types.FunctionType) and function.__globals__.get("__name__") != module:
        return False
    return function.__module__ == module and function.__qualname__ == qualified


def leads_to(value: Any, target: Any) -> bool:
    """Tell whether `value` holds `target`, as a wrapper holds what it wraps: in a closure, a global, a part."""
    if isinstance(target, CONSTANTS):
        # Whoever holds one, None above all, need not have it from there.
        return value is target
    seen: set[int] = set()
    level = [value]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for item in level:
            if item is target:
                return True
            if id(item) not in seen:
                seen.add(id(item))
                below.extend(_held(item))
        level = below
    return any(item is target for item in level)


def _held(value: Any) -> Iterator[Any]:
    # Not isinstance(): a proxy says that it is of the class of what it wraps, and answers for it.
    kind = type(value)
    yield from insides_of(value)
    if issubclass(kind, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif issubclass(kind, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif issubclass(kind, types.FunctionType):
        yield from _held_by_function(value)
    elif issubclass(kind, (list, tuple)):
        yield from value
    elif issubclass(kind, dict):
        yield from value.values()
    elif issubclass(kind, type):
        yield from value.__bases__
    elif not issubclass(kind, (types.ModuleType, str, bytes, int, float)):
        yield getattr(value, "__wrapped__", None)
        yield from list(getattr(value, "__dict__", {}).values())


def _held_by_function(function: types.FunctionType) -> Iterator[Any]:
    yield from map(content_of, function.__closure__ or ())
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()
    for name in function.__code__.co_names:
        if name in function.__globals__ and not isinstance(function.__globals__[name], types.ModuleType):
            yield function.__globals__[name]
