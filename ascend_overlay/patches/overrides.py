"""Whether what a subclass overrides, or an attribute is set to, can be used as what was there, as `replace` looks."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

from ascend_overlay.errors import SignatureError
from ascend_overlay.patches import flavours, signatures
from ascend_overlay.patches.base import shown
from ascend_overlay.patches.replacements import DESCRIPTORS, WORDS
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.target import MISSING

_READ, _METHOD, _STATIC, _CLASS = "read", "a method", WORDS[staticmethod], WORDS[classmethod]
_METHODS = (
    types.FunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    functools._lru_cache_wrapper,
)
_SLOTS = (types.GetSetDescriptorType, types.MemberDescriptorType)


def refuse(target: str, original: type, implementation: type, *, of_objects: bool = False) -> None:
    """See that callers of the class can use what stands in for it.

    A wider signature is fine, and so is what narrows one that takes anything.

    Args:
        target: the name of the class, for the error.
        original: the class.
        implementation: the subclass that is to stand in for it.
        of_objects: its members are asked of its objects alone, as those of a layer are, whose name goes on to lead to
            the class: so a method may take the place of a staticmethod.

    Raises:
        SignatureError: a member of the subclass is of another kind, or cannot be called as the one that it overrides.
    """
    for name, theirs, ours in _overridden(original, implementation):
        if of_objects and _kind(theirs) == _STATIC and _kind(ours) == _METHOD and name != "__new__":
            theirs, ours = staticmethod(function_of(theirs)), staticmethod(types.MethodType(ours, original))
        if why := mismatch(original, name, theirs, ours):
            raise SignatureError(
                f"{shown(implementation)} cannot stand in for {target}: its {name} overrides "
                f"{original.__qualname__}.{name}, and {why}. If that is right, say as_is=True."
            )


def _overridden(original: type, implementation: type) -> Iterator[tuple[str, Any, Any]]:
    steps = implementation.__mro__[: implementation.__mro__.index(original)]
    members = {name: ours for step in reversed(steps) for name, ours in vars(step).items()}
    for name, ours in members.items():
        theirs = next((vars(base)[name] for base in original.__mro__ if name in vars(base)), MISSING)
        if theirs is not MISSING and theirs is not ours:
            yield name, theirs, ours


def mismatch(owner: Any, name: str, theirs: Any, ours: Any) -> str | None:
    """Return why callers of a function or method cannot use another in its place, or None where they can.

    Args:
        owner: the class that has it; for a function, its module.
        name: its name there.
        theirs: what is there, as it is in the namespace.
        ours: what is to be there.
    """
    if not isinstance(owner, type):
        # What a module or an object has is called as it is.
        return flavours.mismatch(theirs, ours) or _call_mismatch(owner, name, theirs, ours)
    there, here = _kind(theirs), _kind(ours)
    if there is None or here is None or theirs is None:
        return None
    if there == here == _READ:
        return _accessors_mismatch(theirs, ours) if isinstance(ours, property) else None
    if there != here:
        return f"the original is {_words(theirs)}, and it is {_words(ours)}"
    function, instead = function_of(theirs), function_of(ours)
    return flavours.mismatch(function, instead) or _call_mismatch(owner, name, function, instead)


def _kind(raw: Any) -> str | None:
    """Return how a member is used: read, or called as one of three kinds of method; None: that is not to be told."""
    if isinstance(raw, (*_METHODS, types.BuiltinFunctionType)):
        return _METHOD if isinstance(raw, _METHODS) else _STATIC
    if isinstance(raw, types.ClassMethodDescriptorType):
        return _CLASS
    for kind in DESCRIPTORS:
        if isinstance(raw, kind):
            return WORDS[kind] if kind in (staticmethod, classmethod) else _READ
    if isinstance(raw, _SLOTS):
        return _READ
    # A class, an object with __call__, a descriptor of somebody's own: they may be used in either way.
    return None if callable(raw) or hasattr(type(raw), "__get__") else _READ


def _words(raw: Any) -> str:
    kind = next((WORDS[kind] for kind in DESCRIPTORS if isinstance(raw, kind)), _kind(raw))
    if kind != _READ and kind is not None:
        return kind
    return f"the value {shown(raw)}" if not callable(raw) and not isinstance(raw, _SLOTS) else shown(raw)


def _accessors_mismatch(theirs: Any, ours: property) -> str | None:
    if not isinstance(theirs, property):
        return None
    lacking = [
        word
        for word, there, here in (("setter", theirs.fset, ours.fset), ("deleter", theirs.fdel, ours.fdel))
        if there is not None and here is None
    ]
    return f"the original has a {' and a '.join(lacking)}, and it has none" if lacking else None


def _call_mismatch(owner: Any, name: str, theirs: Any, ours: Any) -> str | None:
    if name in ("__init__", "__new__") and theirs in (object.__init__, object.__new__):
        other: Any = getattr(owner, "__new__" if name == "__init__" else "__init__")
        # Of a class that has neither, no object is made with arguments.
        theirs = _bare if other in (object.__init__, object.__new__) else other
    there, here = signatures.of(theirs), signatures.of(ours)
    if there is None or here is None or (why := signatures.mismatch(there, here, narrowing=True)) is None:
        return None
    return f"{why} (the original: {name}{there}, this one: {name}{here})"


def _bare(self: object) -> None:
    """Stand for the constructor of a class that has none."""
