"""The patches that set an attribute: attribute, add."""

from __future__ import annotations

import dataclasses
import functools
import types
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import TargetError
from ascend_overlay.patches import overrides, replacements, values
from ascend_overlay.patches.abstract import make_concrete
from ascend_overlay.patches.base import Applied, Context, Patch, Ref, loaded, shown
from ascend_overlay.patches.constants import Copies, follow
from ascend_overlay.patches.names import Decision, note_hash, refuse_second
from ascend_overlay.patches.reach import led_elsewhere
from ascend_overlay.places import declared
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.target import MISSING, Place, Target, find, require
from ascend_overlay.places.type_slots import storage


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SetAttribute(Patch):
    """Give an attribute that exists another value.

    The value is of the type that is there (see `values.mismatch`), and no text where an object was meant, unless it is
    said to be right as it is.
    """

    value: Any
    as_is: bool = False

    kind: ClassVar[str] = "attribute"
    by_name: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        if not self.as_is and not isinstance(self.value, Ref):
            values.judge_early(self.target, self.target, self.value, container=False)

    def load(self) -> Any:
        return loaded(self.value)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        # A field that is no attribute is declared all the same.
        place = find(module, Target.parse(self.target), alias=context.stand_ins)
        self.refuse(place, implementation)
        # The first look told whether anybody else holds it; by now, the place does.
        place = dataclasses.replace(self.resolve(module, context), shared=place.shared)
        new = replacements.at_home(place.owner, place.name, implementation, self.target)
        slot = context.slots.at(storage(place.owner, place.name))
        refuse_second(slot, self.target, context)
        if isinstance(place.owner, ModuleType):
            follow(Copies(place.owner, place.name, place.raw, new, frozenset(self.needs)), applied, shared=place.shared)
        note_hash(place, applied)
        change = Decision(rank=context.rank, whose=context.whose, new=new, by_name=True, borrowed=True)
        applied.change(slot, change, shared=place.shared)
        make_concrete(place, applied)

    def refuse(self, place: Place, implementation: Any) -> None:
        declared.refuse(self.target, place, implementation, adding=isinstance(self, AddAttribute))
        self._expected(place)
        new = replacements.at_home(place.owner, place.name, implementation, self.target)
        if not self.as_is:
            self._check_value(place, implementation, new)

    def _expected(self, place: Place) -> Place:
        """Return the place, or raise a TargetError where it does not have what it is to have."""
        return require(place, Target.parse(self.target))

    def _check_value(self, place: Place, value: Any, new: Any) -> None:
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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AddAttribute(SetAttribute):
    """Give an object an attribute that it does not have."""

    kind: ClassVar[str] = "add"

    def check(self) -> None:
        super().check()
        if not self.as_is:
            values.refuse_quoted(self.target, self.value)

    def resolve(self, module: ModuleType, context: Context) -> Place:
        return self._expected(find(module, Target.parse(self.target), alias=context.stand_ins))

    def _expected(self, place: Place) -> Place:
        if place.raw is not MISSING:
            raise TargetError(
                f"the target {self.target} exists already ({shown(place.raw)}), so it cannot be added; "
                f"use overlay.attribute, overlay.replace or overlay.wrap to change it."
            )
        return place

    def describe(self) -> str:
        return f"added: {shown(self.value)}"


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
    raw, owner = place.raw, place.owner
    if not place.own and not isinstance(owner, (type, ModuleType)) and hasattr(type(raw), "__get__"):
        # An object's own function is called as it is, and what it has from its class, as a method.
        raw = raw.__get__(owner, type(owner))
    return overrides.mismatch(owner, place.name, raw, new)
