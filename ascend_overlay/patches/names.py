"""The patches that change a name: wrap, replace, attribute, add."""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, SignatureError, TargetError
from ascend_overlay.patches import flavours, overrides, replacements, signatures, values, wrappers
from ascend_overlay.patches.abstract import make_concrete
from ascend_overlay.patches.base import Applied, Context, Patch, Ref, definer, loaded, shown
from ascend_overlay.patches.generated import once, own_generated, reach_captured, wrap_derived
from ascend_overlay.patches.reach import led_elsewhere
from ascend_overlay.places import declared, modules
from ascend_overlay.places.bindings import rebindable
from ascend_overlay.places.definitions import edited_by
from ascend_overlay.places.functions import Redirection, dressed_like, function_of, twin
from ascend_overlay.places.homes import homes_of, parts_of
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING, Place, Target, find
from ascend_overlay.places.type_slots import storage


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


@dataclass(frozen=True, kw_only=True)
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

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        self._check_wrapper(implementation)
        place = self.resolve(module, context)
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
        written = place.own and declared.is_generated(place.owner, place.name, raw)
        make = functools.partial(
            wrappers.Layer,
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


@dataclass(frozen=True, kw_only=True)
class Replace(Patch):
    """Put another function in place of a function or method; calls cost what they cost by hand."""

    replacement: Any

    kind: ClassVar[str] = "replace"

    def load(self) -> Any:
        return loaded(self.replacement)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        if isinstance(place.raw, type):
            raise TargetError(
                f"the target {self.target} is a class; overlay.subclass puts a subclass in its place, everywhere."
            )
        _refuse_bound(self.target, place)
        declared.refuse_uncalled(self.target, place)
        declared.refuse(self.target, place, implementation)
        new = replacements.replacement(self.target, place.owner, place.raw, implementation)
        if place.own and declared.is_generated(place.owner, place.name, place.raw):
            applied.stale.extend(
                f"{cls.__module__}.{cls.__qualname__}.{place.name} (generated, does not call that of its base)"
                for cls in own_generated(place)
            )
        slot = context.slots.at(storage(place.owner, place.name))
        refuse_second(slot, self.target, context)
        if isinstance(function := function_of(new), functools._lru_cache_wrapper):
            applied.notes.append(f"with a cache, as the original: {function.cache_parameters()}")
        _note_hash(place, applied)
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


@dataclass(frozen=True, kw_only=True)
class SetAttribute(Patch):
    """Give an attribute that exists another value.

    The value is of the type that is there (see `values.mismatch`), and no text where an object was meant, unless it is
    said to be right as it is.
    """

    value: Any
    as_is: bool = False

    kind: ClassVar[str] = "attribute"

    def load(self) -> Any:
        return loaded(self.value)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        adding = isinstance(self, AddAttribute)
        # A field that is no attribute is declared all the same.
        place = find(module, Target.parse(self.target), alias=context.stand_ins)
        declared.refuse(self.target, place, implementation, adding=adding)
        place = self.resolve(module, context)
        new = replacements.at_home(place.owner, place.name, implementation, self.target)
        self._check_value(place, implementation, new)
        slot = context.slots.at(storage(place.owner, place.name))
        refuse_second(slot, self.target, context)
        if isinstance(place.owner, ModuleType) and place.raw is not MISSING and not rebindable(place.raw):
            # Nothing tells for sure that it was imported from here.
            suspects = namesakes(place)
            applied.stale.extend(f"{name} (a constant of the same name, perhaps a copy)" for name in suspects)
        _note_hash(place, applied)
        change = Decision(rank=context.rank, whose=context.whose, new=new, by_name=True, borrowed=True)
        applied.change(slot, change, shared=place.shared)
        make_concrete(place, applied)

    def _check_value(self, place: Place, value: Any, new: Any) -> None:
        if self.as_is:
            return
        raw = place.raw
        values.refuse_quoted(self.target, value, beside=[raw])
        if raw is MISSING:
            return
        if why := values.mismatch(raw, value) or _other_kind(self.target, raw, value) or _unfit(place, new):
            raise TargetError(
                f"the target {self.target} cannot be set to {shown(value)}: {why}. If that is right, say as_is=True."
            )

    def effect(self, applied: Applied) -> str | None:
        return led_elsewhere(self.target, applied)

    def describe(self) -> str:
        return f"set to {shown(self.value)}"


@dataclass(frozen=True, kw_only=True)
class AddAttribute(SetAttribute):
    """Give an object an attribute that it does not have."""

    kind: ClassVar[str] = "add"

    def check(self) -> None:
        super().check()
        if not self.as_is:
            values.refuse_quoted(self.target, self.value)

    def resolve(self, module: ModuleType, context: Context) -> Place:
        target = Target.parse(self.target)
        place = find(module, target, alias=context.stand_ins)
        if place.raw is not MISSING:
            raise TargetError(
                f"the target {target} exists already ({shown(place.raw)}), so it cannot be added; "
                f"use overlay.attribute, overlay.replace or overlay.wrap to change it."
            )
        return place

    def describe(self) -> str:
        return f"added: {shown(self.value)}"


def refuse_second(slot: Slot, target: str, context: Context) -> None:
    """Raise a ConflictError where another patch decides the value of `slot` already.

    Equal targets are found out before anything is applied; this is for two names of one thing.
    """
    if editors := edited_by(slot.original, slot.storage.name):
        raise ConflictError(
            f"{context.whose} puts something else in the place of {target}, which {' and '.join(editors)} edits; leave "
            f"one of the two overlays out with exclude=."
        )
    decider = slot.decider
    if decider is None:
        return
    raise ConflictError(
        f"the target {target} is the same thing as {_place_name(slot)}, which {decider.whose} decides already; "
        f"leave one of the two overlays out with exclude=."
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


def _other_kind(target: str, raw: Any, value: Any) -> str | None:
    """Return which kind of patch is meant for what is defined at `target`, or None where its name is but a variable."""
    if value is None or isinstance(value, types.ModuleType):
        return None
    if isinstance(raw, type) and not isinstance(value, type):
        return "what is there is a class; overlay.factory lets a function answer its calls"
    function = function_of(raw)
    named = f"{getattr(function, '__module__', None)}:{getattr(function, '__qualname__', None)}"
    if named != target or not callable(function) or isinstance(raw, (property, functools.cached_property)):
        return None
    if isinstance(raw, type):
        return (
            "it is the class of that name, and what holds it under another name, or is derived from it, would keep it; "
            "overlay.subclass puts a subclass in its place, everywhere"
        )
    return (
        "it is the function of that name, and what holds it under another name would keep it; overlay.replace puts "
        "another in its place, everywhere"
    )


def _unfit(place: Place, new: Any) -> str | None:
    """Return why a function or method cannot be called as what is there, or None."""
    called = callable(place.raw) or isinstance(place.raw, replacements.DESCRIPTORS)
    if not called or isinstance(place.raw, type) or not (callable(new) or isinstance(new, replacements.DESCRIPTORS)):
        return None
    return overrides.mismatch(place.owner, place.name, place.raw, new)


def _note_hash(place: Place, applied: Applied) -> None:
    if place.name == "__eq__" and isinstance(place.owner, type) and "__hash__" not in vars(place.owner):
        applied.notes.append("__hash__ stays as it is: only a class body with __eq__ and without it sets it to None")


def _place_name(slot: Slot) -> str:
    owner = slot.storage.owner
    if isinstance(owner, ModuleType):
        return f"{owner.__name__}:{slot.storage.name}"
    if isinstance(owner, type):
        return f"{owner.__module__}:{owner.__qualname__}.{slot.storage.name}"
    return f"the entry {slot.storage.name}"


def namesakes(place: Place) -> list[str]:
    """Return the globals of other modules that have the place's name and hold what it holds."""
    return [
        f"{module.__name__}.{place.name}"
        for module in modules.loaded()
        if module is not place.owner and vars(module).get(place.name, MISSING) is place.raw
    ]
