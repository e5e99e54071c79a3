"""The function that a definition made, behind whatever its decorators made of it."""

from __future__ import annotations

import functools
from types import FunctionType, MethodType
from typing import Any

from ascend_overlay.places import code
from ascend_overlay.places.functions import content_of

_COMPILERS = {"numba", "triton"}
"""Packages whose decorators compile a function: what its code is afterwards is nobody's business."""


def innermost(raw: Any, name: str) -> FunctionType | None:
    """Return the function that was defined as `name`, given what its owner holds under that name now.

    Descriptors, partials and wrappers are looked through: by `__wrapped__`, else by the one function of that name in a
    closure. None: there is none, or something compiled stands in front of it. Where the calls of the function are sent
    on, what is found is a twin of it, and the function itself is returned.
    """
    seen: set[int] = set()
    while id(raw) not in seen:
        seen.add(id(raw))
        inner = _inside(raw, name)
        if inner is None:
            break
        raw = inner
    return code.behind(raw) if isinstance(raw, FunctionType) else None


def _inside(raw: Any, name: str) -> Any:
    if isinstance(raw, (staticmethod, classmethod, MethodType)):
        return raw.__func__
    if isinstance(raw, property):
        return raw.fget
    if isinstance(raw, (functools.cached_property, functools.partial, functools.partialmethod)):
        return raw.func
    if isinstance(raw, type) or type(raw).__module__.partition(".")[0] in _COMPILERS:
        return None
    try:
        wrapped = getattr(raw, "__wrapped__", None)
    except Exception:  # a placeholder for a package that is not installed raises whatever it likes
        return None
    if wrapped is not None:
        return wrapped
    if isinstance(raw, FunctionType) and raw.__code__.co_name != name:
        return _in_closure(raw, name)
    return None


def _in_closure(function: FunctionType, name: str) -> FunctionType | None:
    found = [
        value
        for value in map(content_of, function.__closure__ or ())
        if isinstance(value, FunctionType) and name.endswith(value.__code__.co_name)
    ]
    return found[0] if len(found) == 1 else None


def edited_by(raw: Any, name: str) -> list[str]:
    """Return the overlays, in words, that have edited the function behind `raw`."""
    function = innermost(raw, name)
    changed = code.known(function) if function is not None else None
    return list(changed.owners) if changed is not None else []
