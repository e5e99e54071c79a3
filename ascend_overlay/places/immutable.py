"""Holders that cannot be changed, and are built anew with other parts: tuples, frozensets, descriptors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class _Origin:
    built: Any
    origin: Any


# What was built anew, by id, and what it was built from: taking a patch back restores the very object.
_origins: dict[int, _Origin] = {}


def is_rebuildable(found: Any) -> bool:
    """Tell whether `found` can be built anew."""
    return type(found) in _KINDS


def rebuilt(found: Any, new_for: Callable[[Any, str], Any]) -> Any:
    """Return `found` with other parts: the object that it was once built from where those are its parts again.

    Args:
        found: the holder.
        new_for: given a part and "[its index]", returns what shall be there.
    """
    parts, made = _KINDS[type(found)]
    before = parts(found)
    # What a descriptor consists of goes by the descriptor's own name.
    numbered = isinstance(found, (tuple, frozenset))
    after = [new_for(value, f"[{index}]" if numbered else "") for index, value in enumerate(before)]
    if all(old is new for old, new in zip(before, after, strict=True)):
        return found
    known = _origins.get(id(found))
    origin = found if known is None else known.origin
    was = parts(origin)
    if type(found) is frozenset:
        same = {id(part) for part in was} == {id(part) for part in after}
    else:
        same = len(was) == len(after) and all(old is new for old, new in zip(was, after, strict=True))
    if same:
        return origin
    fresh = made(found, after)
    _origins[id(fresh)] = _Origin(fresh, origin)
    return fresh


def forget_unheld() -> None:
    """Forget what nobody holds any more.

    It would live on here, be found by the next search as a holder that wants to be built anew, and so on: each enable()
    would find several times as many as the one before.
    """
    # What goes may have been the last to hold another.
    while unheld := [key for key, entry in list(_origins.items()) if _references(entry) <= _HELD_HERE]:
        for key in unheld:
            _origins.pop(key, None)


def _made(kind: type) -> Callable[[Any, list[Any]], Any]:
    return lambda found, parts: kind(*parts)


_KINDS: dict[type, tuple[Callable[[Any], list[Any]], Callable[[Any, list[Any]], Any]]] = {
    tuple: (list, lambda found, parts: tuple(parts)),
    frozenset: (list, lambda found, parts: frozenset(parts)),
    staticmethod: (lambda found: [found.__func__], _made(staticmethod)),
    classmethod: (lambda found: [found.__func__], _made(classmethod)),
    property: (
        lambda found: [found.fget, found.fset, found.fdel],
        lambda found, parts: property(parts[0], parts[1], parts[2], found.__doc__),
    ),
}


def _references(entry: _Origin) -> int:
    return sys.getrefcount(entry.built)


# Asked of Python itself: how many references a call of sys.getrefcount() adds is up to its release.
_HELD_HERE = _references(_Origin(object(), None))
"""References to what nobody but its _Origin holds."""
