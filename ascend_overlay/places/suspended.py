"""Generators and coroutines that are suspended: they go on with the code that they began, and with their variables."""

from __future__ import annotations

import types
from typing import Any

from ascend_overlay.places import frames
from ascend_overlay.places.holders import is_ours_by_file

_KINDS = {types.GeneratorType: "gi", types.CoroutineType: "cr", types.AsyncGeneratorType: "ag"}


def is_suspended(found: Any) -> bool:
    """Tell whether `found` is one that waits to go on, rather than one that runs right now or is done."""
    return type(found) in _KINDS and _part(found, "frame") is not None and not _part(found, "running")


def is_call_of(found: Any, function: Any) -> bool:
    """Tell whether it is for certain a call of `function`, whose code nobody has exchanged meanwhile."""
    return getattr(function, "__code__", None) is _part(found, "frame").f_code


def is_ours(found: Any) -> bool:
    """Tell whether it is a step of what changes places, which has in variables what it is about."""
    return is_ours_by_file(_part(found, "frame").f_code)


def variables(found: Any, value: Any) -> list[str]:
    """Return the names of its variables that hold `value`; none where it is a call of `value`."""
    return [name for name, held in frames.variables(_part(found, "frame")).items() if held is value]


def described(found: Any) -> str:
    """Return words for it."""
    kind = "coroutine" if isinstance(found, types.CoroutineType) else "generator"
    # A shell around a wrapper goes by the name of what it stands for.
    module = "" if is_ours(found) else f"{_part(found, 'frame').f_globals.get('__name__', '?')}."
    return f"the suspended {kind} {module}{found.__qualname__}"


def _part(found: Any, name: str) -> Any:
    return getattr(found, f"{_KINDS[type(found)]}_{name}")
