"""Abstract methods that a patch gives a body: the class, and what is derived from it, can be built."""

from __future__ import annotations

import abc
import functools
from typing import Any

from ascend_overlay.patches.base import Applied
from ascend_overlay.places.target import Place

_ABSTRACT = "__abstractmethods__"


def make_concrete(place: Place, applied: Applied) -> None:
    """Have Python look anew which methods of the owner, and of the classes derived from it, are abstract."""
    if not isinstance(place.owner, type) or not getattr(place.raw, "__isabstractmethod__", False):
        return
    for cls in _family(place.owner):
        before: frozenset[str] | None = vars(cls).get(_ABSTRACT)
        if before is not None:
            applied.undo.append(functools.partial(_set, cls, before))
            abc.update_abstractmethods(cls)


def _set(cls: Any, names: frozenset[str]) -> None:
    if vars(cls).get(_ABSTRACT) is not names:
        cls.__abstractmethods__ = names


def _family(cls: type) -> list[type]:
    children: list[type] = type.__subclasses__(cls)
    return [cls, *(step for child in children for step in _family(child))]
