"""The patch that lets a function answer the calls of a class, which stays the class that it is."""

from __future__ import annotations

import functools
import inspect
import threading
import types
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, SignatureError, TargetError
from ascend_overlay.patches import flavours, signatures
from ascend_overlay.patches.base import Applied, Context, Patch, loaded, shown, what_is
from ascend_overlay.patches.reach import seen
from ascend_overlay.places import type_slots
from ascend_overlay.places.target import Place, Target, find, require


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Factory(Patch):
    """Let a function answer calls of a class.

    The class gets a metaclass whose `__call__` asks the function. It stays the very class that it was: copies of the
    name, isinstance, except, class attributes, pickling and derived classes are as before.
    """

    implementation: Any

    kind: ClassVar[str] = "factory"

    def load(self) -> Any:
        return loaded(self.implementation)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        self.refuse(place, implementation)
        cls = place.raw
        before = type(cls)
        metaclass = _metaclass(cls, implementation, context.whose)
        applied.seam = "metaclass"
        applied.undo.append(functools.partial(_restore, cls, metaclass, before))
        type_slots.set_metaclass(cls, metaclass)

    def effect(self, applied: Applied) -> str | None:
        """Return why calls of the class do not go to the function, or None where they do."""
        return seen(self.target, self._unasked)

    def _unasked(self, module: ModuleType, target: Target) -> str | None:
        found = require(find(module, target), target).raw
        if hasattr(type(found), _WHOSE):
            return None
        return f"{self.target} is {shown(found)} now, which is called without the function being asked"

    def describe(self) -> str:
        return f"built by {shown(self.implementation)}"

    def refuse(self, place: Place, implementation: Any) -> None:
        cls = place.raw
        if not isinstance(cls, type):
            raise TargetError(f"the target {self.target} is {what_is(cls)}, not a class; use overlay.replace.")
        if (whose := getattr(type(cls), _WHOSE, None)) is not None:
            raise ConflictError(
                f"the calls of {self.target} are answered by {whose} already; leave one of the two out."
            )
        if not callable(implementation):
            raise TargetError(f"{shown(implementation)} cannot build {self.target}: it is not callable.")
        if not cls.__flags__ & _WRITTEN_IN_PYTHON or type(cls).__call__ is not type.__call__:
            what = (
                "was not written in Python" if type(cls).__call__ is type.__call__ else "has a metaclass that builds it"
            )
            raise TargetError(
                f"the target {self.target} {what}, so no function can answer its calls; wrap what calls it, or use "
                f"overlay.subclass."
            )
        if type(cls) is type and not type_slots.can_set_metaclass():
            raise TargetError(
                f"this Python offers no way to let a function answer the calls of {self.target}; use overlay.subclass."
            )
        original, ours = signatures.of(cls), signatures.of(implementation)
        if original is not None and ours is not None and (why := signatures.mismatch(original, ours)):
            raise SignatureError(
                f"{shown(implementation)} cannot build {self.target}: {why}.\n"
                f"  class:    {cls.__name__}{original}\n"
                f"  function: {getattr(implementation, '__name__', '?')}{ours}"
            )
        if (flavour := flavours.of(implementation)) != flavours.PLAIN:
            raise SignatureError(f"{shown(implementation)} cannot build {self.target}: its kind is {flavour}.")


_WRITTEN_IN_PYTHON = 1 << 9
_WHOSE = "__ascend_overlay_factory__"


def _metaclass(cls: type, function: Any, whose: str) -> type:
    """Return a metaclass for `cls` that asks `function`, except where the function itself is calling."""
    building = threading.local()
    base: type = type(cls)

    def call(asked: Any, *args: Any, **kwargs: Any) -> Any:
        if asked is not cls or getattr(building, "now", False):
            return base.__call__(asked, *args, **kwargs)
        building.now = True
        try:
            return function(*args, **kwargs)
        finally:
            building.now = False

    # Of the same layout, and by the same name: it is to be seen by nobody.
    namespace = {
        "__slots__": (),
        "__call__": call,
        "__module__": base.__module__,
        "__doc__": base.__doc__,
        "__signature__": _ClassSignature(),
        _WHOSE: whose,
    }
    return type(base)(base.__name__, (base,), namespace)


class _ClassSignature:
    """The signature of a class, which inspect would otherwise take from the metaclass."""

    def __get__(self, cls: Any, metaclass: Any = None) -> inspect.Signature:
        if cls is None:
            raise AttributeError("__signature__")
        if cls.__new__ is object.__new__ and cls.__init__ is object.__init__:
            return inspect.Signature()
        signature = signatures.of(_built_by(cls))
        if signature is None:
            raise AttributeError("__signature__")
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def _built_by(cls: Any) -> Any:
    """Return what tells how a class is built: of those written in Python, what is defined nearest to it."""
    for base in cls.__mro__:
        for name in ("__new__", "__init__"):
            if name in vars(base) and not isinstance(built := getattr(cls, name), _WRITTEN_IN_C):
                return built
    return None


_WRITTEN_IN_C = (types.BuiltinFunctionType, types.WrapperDescriptorType)


def _restore(cls: type, metaclass: type, before: type) -> None:
    """Give the class, and those derived from it meanwhile, the metaclass that it had."""
    todo = [cls]
    while todo:
        step = todo.pop()
        if type(step) is metaclass:
            type_slots.set_metaclass(step, before)
        todo.extend(type.__subclasses__(step))
