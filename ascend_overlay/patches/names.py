"""The patches that change a function or method: wrap, replace."""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, SignatureError, TargetError
from ascend_overlay.patches import flavours, replacements, signatures, wrappers
from ascend_overlay.patches.abstract import make_concrete
from ascend_overlay.patches.base import Applied, Context, Patch, Ref, definer, loaded, shown
from ascend_overlay.patches.first_calls import Calls
from ascend_overlay.patches.generated import once, own_generated, reach_captured, wrap_derived
from ascend_overlay.patches.reach import led_elsewhere
from ascend_overlay.places import declared
from ascend_overlay.places.definitions import edited_by
from ascend_overlay.places.functions import Redirection, dressed_like, function_of, twin
from ascend_overlay.places.homes import homes_of, parts_of
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING, Place
from ascend_overlay.places.type_slots import storage
from ascend_overlay.settings import advice


@dataclass(eq=False, kw_only=True, slots=True)
class Decision(Change):
    """A value that does not depend on what it replaces."""

    new: Any
    decides: bool = True

    def value(self, inner: Any) -> Any:
        return self.new

    def step_aside(self, value: Any, inner: Any) -> bool:
        # A function of our own making: see replacements.copied().
        function, instead = function_of(value), function_of(inner)
        if self.borrowed or not isinstance(function, types.FunctionType) or not callable(instead):
            return False
        Redirection(function).lead_to(instead)
        return True

    def make_anew(self) -> None:
        function = function_of(self.new)
        if not self.borrowed and isinstance(function, types.FunctionType):
            self.new = dressed_like(self.new, twin(function))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Wrap(Patch):
    """Run `wrapper(wrapped, instance, args, kwargs)` in place of each call (wrapt's convention).

    For control paths: each call pays for the wrapper.
    """

    wrapper: Any

    kind: ClassVar[str] = "wrap"
    decides: ClassVar[bool] = False

    def check(self) -> None:
        super().check()
        if not isinstance(self.wrapper, Ref):
            self._check_wrapper(self.wrapper)

    def load(self) -> Any:
        return loaded(self.wrapper)

    def refuse(self, place: Place, implementation: Any) -> None:
        self._check_wrapper(implementation)
        raw = place.raw
        if isinstance(raw, type):
            raise TargetError(
                f"the target {self.target} is a class, and a wrapper in its place would break isinstance and "
                f"subclassing; wrap {self.target}.__init__, or use overlay.subclass."
            )
        if not callable(raw) and not isinstance(raw, (property, staticmethod, classmethod, functools.cached_property)):
            raise TargetError(
                f"the target {self.target} is {shown(raw)}, which is not callable; use overlay.attribute to set it."
            )
        _refuse_bound(self.target, place)
        if replacements.is_subscripted(raw):
            raise TargetError(
                f"the target {self.target} is a {type(raw).__name__} object, which is called as "
                f"{place.name}[...](...), past a wrapper of its calls; wrap the function that calls it."
            )
        if flavours.of(implementation) != flavours.PLAIN and (
            why := flavours.mismatch(function_of(raw), implementation)
        ):
            raise SignatureError(f"{shown(implementation)} cannot wrap {self.target}: {why}.")
        declared.refuse_uncalled(self.target, place)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        self.refuse(place, implementation)
        raw = place.raw
        written = place.own and declared.is_generated(place.owner, place.name, raw)
        calls = applied.calls = Calls(tell=context.tell)
        make = functools.partial(
            wrappers.Layer,
            calls=calls,
            rank=context.rank,
            whose=context.whose,
            wrapper=once(implementation) if written else implementation,
            member=isinstance(place.owner, type),
            homes=homes_of(implementation, module.__name__),
        )
        slot = context.slots.at(storage(place.owner, place.name))
        if slot.under is MISSING:
            slot.under = replacements.inherited(place.owner, place.name, raw)
        applied.change(slot, make(), shared=place.shared)
        if written:
            wrap_derived(place, make, context, applied)
        if declared.is_captured(place):
            reach_captured(slot, applied)

    def _check_wrapper(self, wrapper: Any) -> None:
        if not callable(wrapper):
            raise TargetError(f"{shown(wrapper)} cannot wrap {self.target}: it is not callable.")
        signature = signatures.of(wrapper)
        try:
            if signature is not None:
                signature.bind(None, None, (), {})
        except TypeError:
            raise SignatureError(
                f"{shown(wrapper)} cannot wrap {self.target}: it has the signature {signature}, and is called as "
                f"wrapper(wrapped, instance, args, kwargs)."
            ) from None

    def effect(self, applied: Applied) -> str | None:
        return led_elsewhere(self.target, applied)

    def describe(self) -> str:
        return f"wrapped by {shown(self.wrapper)}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Replace(Patch):
    """Put another function in place of a function or method; calls cost what they cost by hand."""

    replacement: Any

    kind: ClassVar[str] = "replace"

    def load(self) -> Any:
        return loaded(self.replacement)

    def refuse(self, place: Place, implementation: Any) -> None:
        self._replacement(place, implementation)

    def _replacement(self, place: Place, implementation: Any) -> Any:
        if isinstance(place.raw, type):
            raise TargetError(
                f"the target {self.target} is a class; overlay.subclass puts a subclass in its place, everywhere."
            )
        _refuse_bound(self.target, place)
        declared.refuse_uncalled(self.target, place)
        declared.refuse(self.target, place, implementation)
        return replacements.replacement(self.target, place.owner, place.raw, implementation)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        new = self._replacement(place, implementation)
        if place.own and declared.is_generated(place.owner, place.name, place.raw):
            applied.stale.extend(
                f"{cls.__module__}.{cls.__qualname__}.{place.name} (generated, does not call that of its base)"
                for cls in own_generated(place)
            )
        slot = context.slots.at(storage(place.owner, place.name))
        refuse_second(slot, self.target, context)
        if isinstance(function := function_of(new), functools._lru_cache_wrapper):
            applied.notes.append(f"with a cache, as the original: {function.cache_parameters()}")
        note_hash(place, applied)
        homes = homes_of(implementation, module.__name__) | parts_of(new)
        # What is no plain function is put in place as it is, and its own module goes on to have it.
        borrowed = function_of(new) is function_of(implementation)
        change = Decision(rank=context.rank, whose=context.whose, new=new, borrowed=borrowed, homes=homes)
        applied.change(slot, change, shared=place.shared)
        make_concrete(place, applied)
        if declared.is_captured(place):
            reach_captured(slot, applied)

    def effect(self, applied: Applied) -> str | None:
        return led_elsewhere(self.target, applied)

    def describe(self) -> str:
        return f"replaced by {shown(self.replacement)}"


def refuse_second(slot: Slot, target: str, context: Context) -> None:
    """Raise a ConflictError where another patch decides the value of `slot` already.

    Equal targets are found out before anything is applied; this is for two names of one thing.
    """
    if editors := edited_by(slot.original, slot.storage.name):
        raise ConflictError(
            f"{context.whose} puts something else in the place of {target}, which {' and '.join(editors)} edits; leave "
            f"one of the two overlays out with {advice('exclude')}."
        )
    decider = slot.decider
    if decider is None:
        return
    raise ConflictError(
        f"the target {target} is the same thing as {_place_name(slot)}, which {decider.whose} decides already; "
        f"leave one of the two overlays out with {advice('exclude')}."
    )


def _refuse_bound(target: str, place: Place) -> None:
    """Raise a TargetError where an object has a method from its class: nothing binds what the object itself has."""
    binds = hasattr(type(place.raw), "__get__") and not isinstance(place.raw, staticmethod)
    if place.own or isinstance(place.owner, (type, ModuleType)) or not binds:
        return
    raise TargetError(
        f"the target {target} is something that an object has from its class, and what the object itself has under the "
        f"name is not given the object; name {definer(place)}, for all objects of the class, or set a function of the "
        f"object's own with overlay.attribute."
    )


def note_hash(place: Place, applied: Applied) -> None:
    """Note what a class body with `__eq__` does and a patch of it does not."""
    if place.name == "__eq__" and isinstance(place.owner, type) and "__hash__" not in vars(place.owner):
        applied.notes.append("__hash__ stays as it is: only a class body with __eq__ and without it sets it to None")


def _place_name(slot: Slot) -> str:
    owner = slot.storage.owner
    if isinstance(owner, ModuleType):
        return f"{owner.__name__}:{slot.storage.name}"
    if isinstance(owner, type):
        return f"{owner.__module__}:{owner.__qualname__}.{slot.storage.name}"
    return f"the entry {slot.storage.name}"
