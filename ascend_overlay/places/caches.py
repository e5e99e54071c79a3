"""What was computed by a function and is remembered elsewhere: by a functools.lru_cache, by a cached_property.

A cache of a function that calls another has results of that one; who patches the one cannot empty the other unasked.
"""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Iterable
from typing import Any

from ascend_overlay.places.bindings import unfrozen
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute


def remembering(slots: Iterable[Slot], whose: str) -> dict[int, list[str]]:
    """Return who remembers what the functions of some places gave, as texts by the id of the slot.

    Known are caches of functions that call the function themselves, wherever they are, and objects with a
    cached_property.

    Args:
        slots: the places.
        whose: what they gave it as: "the original", "the patch".
    """
    found: dict[int, list[str]] = {}
    filled: list[Any] | None = None
    slots = [slot for slot in slots if isinstance(slot.storage, Attribute)]
    for slot in slots:
        owner, name, first = slot.storage.owner, slot.storage.name, slot.original
        if isinstance(first, functools.cached_property) and isinstance(owner, type):
            if count := _computed(owner, name):
                objects = f"{count} live object{'s' if count > 1 else ''}"
                found[id(slot)] = [f"{objects} with the {name} that {whose} gave"]
        elif callable(function_of(first)) and not isinstance(first, type):
            filled = _filled() if filled is None else filled
            texts = [_text(cache, whose) for cache in filled if _calls(cache, owner, name)]
            found[id(slot)] = texts
    return {key: texts for key, texts in found.items() if texts}


def _text(cache: Any, whose: str) -> str:
    name = _name(cache)
    return f"the cache of {name}, which calls it, may have results of {whose}: {name}.cache_clear() forgets them"


def _filled() -> list[Any]:
    """Return the caches of this process that have results."""
    kind = functools._lru_cache_wrapper
    with unfrozen():
        # Each refers to its class.
        found = [each for each in gc.get_referrers(kind) if type(each) is kind]
    return sorted((cache for cache in found if cache.cache_info().currsize), key=_name)


def _name(cache: Any) -> str:
    return f"{getattr(cache, '__module__', '?')}.{getattr(cache, '__qualname__', '?')}"


def _calls(cache: Any, owner: Any, name: str) -> bool:
    """Tell whether the code of the function behind a cache names what `owner` has under `name`."""
    function = cache.__wrapped__
    if not isinstance(function, types.FunctionType):
        return False
    names, there = function.__code__.co_names, vars(owner).get(name)
    held = [function.__globals__[each] for each in names if each in function.__globals__]
    # What it has imported was re-bound; a method gets to another by its object or class.
    members = [part for member in list(vars(owner).values()) for part in (member, getattr(member, "__func__", None))]
    near = any(each is owner for each in held) or any(cache is member for member in members)
    return any(each is there for each in held) or (name in names and near)


def _computed(owner: type, name: str) -> int:
    """Return how many live objects of a class, or of one derived from it, have a cached_property's value."""
    with unfrozen():
        found = gc.get_referrers(*_family(owner))
    return sum(_has(each, owner, name) for each in found)


def _has(found: Any, owner: type, name: str) -> bool:
    # Not isinstance(): a proxy says that it is of the class of what it wraps.
    return issubclass(type(found), owner) and name in getattr(found, "__dict__", ())


def _family(cls: type) -> list[type]:
    children: list[type] = type.__subclasses__(cls)
    return [cls, *(step for child in children for step in _family(child))]
