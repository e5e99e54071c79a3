"""Whether one function can stand in for another at every call that the other accepts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORD = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def of(function: Callable[..., Any]) -> Signature | None:
    """Return the signature, or None where the function (a C function, say) does not tell."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def mismatch(original: Signature, replacement: Signature, *, narrowing: bool = False) -> str | None:
    """Return why `replacement` cannot take every call that `original` takes, or None where it can.

    Annotations and default values may differ; only the ways to call matter.

    Args:
        original: the one that callers know.
        replacement: the other.
        narrowing: where the original takes whatever comes, the replacement may say what that is.
    """
    theirs = list(original.parameters.values())
    ours = list(replacement.parameters.values())
    if narrowing and any(_has(theirs, kind) for kind in _VARIADIC):
        return _positional_mismatch(theirs, ours) or _keyword_mismatch(theirs, ours)
    return (
        _positional_mismatch(theirs, ours)
        or _keyword_mismatch(theirs, ours)
        or _variadic_mismatch(theirs, ours)
        or _required_extra(theirs, ours)
    )


def _positional_mismatch(theirs: list[Parameter], ours: list[Parameter]) -> str | None:
    slots = [p for p in ours if p.kind in _POSITIONAL]
    variadic = _has(ours, Parameter.VAR_POSITIONAL)
    for index, wanted in enumerate(p for p in theirs if p.kind in _POSITIONAL):
        # The first parameter of a method is bound: its name is nobody's business.
        bound = index == 0 and wanted.name in ("self", "cls")
        by_keyword = wanted.kind is Parameter.POSITIONAL_OR_KEYWORD and not bound
        if index >= len(slots):
            if not variadic:
                return f"it takes no positional argument {wanted.name!r}"
            if by_keyword and not _has(ours, Parameter.VAR_KEYWORD):
                return f"it takes {wanted.name!r} by position only, the original by name, too"
            continue
        got = slots[index]
        if by_keyword and got.name != wanted.name:
            return f"its argument {index} is {got.name!r} where the original has {wanted.name!r}"
        if by_keyword and got.kind is Parameter.POSITIONAL_ONLY:
            return f"it takes {wanted.name!r} by position only, the original by name, too"
        if wanted.default is not Parameter.empty and got.default is Parameter.empty:
            return f"its argument {got.name!r} has no default, the original's has one"
    return None


def _keyword_mismatch(theirs: list[Parameter], ours: list[Parameter]) -> str | None:
    if _has(ours, Parameter.VAR_KEYWORD):
        return None
    accepted = {p.name: p for p in ours if p.kind in _KEYWORD}
    for wanted in theirs:
        if wanted.kind is not Parameter.KEYWORD_ONLY:
            continue
        got = accepted.get(wanted.name)
        if got is None:
            return f"it takes no keyword argument {wanted.name!r}"
        if wanted.default is not Parameter.empty and got.default is Parameter.empty:
            return f"its argument {wanted.name!r} has no default, the original's has one"
    return None


def _variadic_mismatch(theirs: list[Parameter], ours: list[Parameter]) -> str | None:
    for kind, stars in ((Parameter.VAR_POSITIONAL, "*args"), (Parameter.VAR_KEYWORD, "**kwargs")):
        if _has(theirs, kind) and not _has(ours, kind):
            return f"it takes no {stars}, the original does"
    return None


def _required_extra(theirs: list[Parameter], ours: list[Parameter]) -> str | None:
    known = {p.name for p in theirs}
    positions = sum(p.kind in _POSITIONAL for p in theirs)
    for index, parameter in enumerate(ours):
        if parameter.default is not Parameter.empty or parameter.kind in _VARIADIC:
            continue
        if parameter.kind in _POSITIONAL and index < positions:
            continue
        if parameter.name not in known:
            return f"it needs an argument {parameter.name!r} that no caller passes"
    return None


def _has(parameters: list[Parameter], kind: Any) -> bool:
    return any(p.kind is kind for p in parameters)
