"""The patch that gives an enumeration one more member."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.patches.base import Applied, Context, Patch, loaded, shown
from ascend_overlay.patches.reach import led_to_another, seen
from ascend_overlay.places import enumerations, pydantic_models
from ascend_overlay.places.storages import Attribute
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING, Place, Target, find


@dataclass(eq=False, kw_only=True, slots=True)
class _Missing(Change):
    """`_missing_` of an enumeration, which those ask who compiled the table of its values earlier (msgspec)."""

    member: Any

    def value(self, inner: Any) -> Any:
        member, owner = self.member, type(self.member)

        def missing(cls: Any, value: object) -> Any:
            if type(value) is type(member._value_) and value == member._value_:
                return member
            if inner is MISSING:
                above: Any = super(owner, cls)
                return above._missing_(value)
            return inner.__get__(None, cls)(value)

        return classmethod(missing)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Member(Patch):
    """Add a member to an enumeration: by name, by value, in iteration, in pickles, in compiled decoders and validators.

    Code that names the members it knows (a chain of `if`, a table by value) is not changed.
    """

    value: Any

    kind: ClassVar[str] = "member"

    def load(self) -> Any:
        return loaded(self.value)

    def resolve(self, module: ModuleType, context: Context) -> Place:
        return find(module, Target.parse(self.target), alias=context.stand_ins)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        owner, name = place.owner, place.name
        enumerations.refuse(self.target, owner, name, implementation)
        member = enumerations.made(owner, name, implementation)
        applied.seam = "enumeration"
        had_table = "__msgspec_cache__" in vars(owner)
        change = _Missing(rank=context.rank, whose=context.whose, member=member)
        applied.undo.append(functools.partial(pydantic_models.release, change))
        if not had_table:
            applied.undo.append(functools.partial(_forget_table, owner))
        applied.undo.append(functools.partial(enumerations.leave, member))
        enumerations.enter(member)
        slot = context.slots.at(Attribute(owner, "_missing_"))
        applied.change(slot, change, shared=False)
        if rebuilt := pydantic_models.rebuild_classes(change, [owner]):
            applied.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")

    def effect(self, applied: Applied) -> str | None:
        """Return why the users of the enumeration do not meet the member, or None."""
        return seen(self.target, functools.partial(self._unmet, applied))

    def _unmet(self, applied: Applied, module: ModuleType, target: Target) -> str | None:
        members = [change.member for _, change in applied.changed if isinstance(change, _Missing)]
        if not all(map(enumerations.in_force, members)):
            return f"{self.target} is no longer the member that was added"
        owner = find(module, target).owner
        if members and owner is not type(members[0]):
            return led_to_another(self.target, owner)
        return None

    def describe(self) -> str:
        return f"member = {shown(self.value)}"


def _forget_table(owner: type) -> None:
    # msgspec builds it, with the member in it, when the first decoder is made.
    if "__msgspec_cache__" in vars(owner):
        type.__delattr__(owner, "__msgspec_cache__")
