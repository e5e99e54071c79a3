"""A class that stands in for another, and what somebody sets on it by hand while the other's name leads to it.

`module.Class.method = theirs` means the class that the program knows; the attribute ends up on the stand-in. It stays
in force when the stand-in goes.
"""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ascend_overlay.places import immutable, savers
from ascend_overlay.places.bindings import Swap, rebind_everywhere, rebindable, unfrozen
from ascend_overlay.places.foreign import leads_to
from ascend_overlay.places.functions import content_of, function_of, insides_of
from ascend_overlay.places.slots import Slot, Slots
from ascend_overlay.places.storages import Attribute, fill
from ascend_overlay.places.target import MISSING
from ascend_overlay.places.type_slots import storage

_SET_BY_HAND = ("__doc__", "__hash__")
"""What Python gives a class when it is made, and nobody but a program afterwards."""


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A member of a stand-in that somebody has set or removed by hand.

    Attributes:
        name: its name.
        value: what is there; MISSING: they removed it.
        before: what was there, the latest first; empty: the stand-in had no such member of its own.
        under: the slot of a patch that went around it later.
    """

    name: str
    value: Any
    before: tuple[Any, ...]
    under: Slot | None = None

    @property
    def is_around(self) -> bool:
        """Whether what they set leads to what was there, as a wrapper does."""
        return any(leads_to(self.value, part) for old in self.before for part in (old, function_of(old)))


class StandIn:
    """Knows what a stand-in was like when it came.

    Args:
        original: the class.
        implementation: the subclass that stands in for it.
        place: where the one is in place of the other.
    """

    def __init__(self, original: type, implementation: type, place: Attribute) -> None:
        self.original, self.implementation, self.place = original, implementation, place
        self._was = dict(vars(implementation))

    def changed(self, slots: Slots) -> Iterator[Member]:
        """Yield the members that somebody has changed since; of one name, what other patches go around comes first.

        Args:
            slots: the places that patches change, which may be members of the stand-in, too.
        """
        for member in self._differing(slots):
            if self._is_by_hand(member.name, member.value, member.before):
                yield member

    def going_with_it(self, slots: Slots) -> list[str]:
        """Return the names of what was set meanwhile and may be by hand: with functions of the implementation's module.

        They count as what the implementation does to its own class, and go when it goes.
        """
        return [member.name for member in self._differing(slots) if self._is_its_own(member)]

    def _is_its_own(self, member: Member) -> bool:
        special = member.name.startswith("__") and member.name.endswith("__")
        known = _functions(*member.before)
        functions = [part for part in _functions(member.value) if not any(part is old for old in known)]
        return bool(functions) and not special and not self._is_by_hand(member.name, member.value, member.before)

    def _differing(self, slots: Slots) -> Iterator[Member]:
        now = dict(vars(self.implementation))
        for name in dict.fromkeys([*self._was, *now]):
            was, value = self._was.get(name, MISSING), now.get(name, MISSING)
            before = () if was is MISSING else (was,)
            place = storage(self.implementation, name)
            if slots.has(place) and (slot := slots.at(place)).changes:
                if slot.original is not was:
                    yield Member(name, slot.original, before, under=slot)
                before, was = (slot.installed, *before), slot.installed
            if value is not was:
                yield Member(name, value, before)

    def hand_over(self, slots: Slots) -> None:
        """Give the original what was set on the stand-in by hand, and the stand-in what it had."""
        members = list(self.changed(slots))
        if not members:
            return
        # What was removed from the stand-in alone comes back to it, and the original never had it.
        given = [member for member in members if member.value is not MISSING or self._own(member) is not MISSING]
        with unfrozen():
            for member in given:
                savers.move(self.implementation, self.original, member.name, self._own(member), member.before)
            # Who changes a class keeps it, in a closure or an object, to change it back.
            name, owner = self.place.name, self.place.owner
            lent = Swap(self.implementation, self.original, name, owner, borrowed=True, lent=True, restoring=True)
            rebind_everywhere([lent])
            for member in given:
                self._give(member)
            # Last: as long as it is not as it was, an interrupted call is done again.
            for member in members:
                was = next(iter(member.before), MISSING)
                if member.under is not None:
                    member.under.stand_on(was)
                else:
                    fill(storage(self.implementation, member.name), was)

    def _own(self, member: Member) -> Any:
        return vars(self.original).get(member.name, MISSING)

    def _give(self, member: Member) -> None:
        beneath, value = inspect.getattr_static(self.original, member.name, MISSING), member.value
        if beneath is not MISSING:
            swaps = list(self._swaps(member, beneath))
            value = self._leading(value, swaps)
            rebind_everywhere(swaps)
        fill(storage(self.original, member.name), value)

    def _leading(self, value: Any, swaps: Sequence[Swap]) -> Any:
        """Have a function, proxy or descriptor call what it shall, though it goes by the name of what it goes around.

        Returns:
            `value`, or what is made of it where it cannot be changed.
        """
        for swap in swaps:
            for function in _functions(value):
                for cell in function.__closure__ or ():
                    content = content_of(cell)
                    if content is swap.old:
                        cell.cell_contents = swap.new
                    elif type(content) is types.MethodType and content.__func__ is swap.old:
                        bound = content.__self__
                        to = self.original if bound is self.implementation else bound
                        cell.cell_contents = types.MethodType(swap.new, to)
            for holder in (value, *_functions(value)):
                if getattr(holder, "__wrapped__", None) is swap.old:
                    with contextlib.suppress(AttributeError):
                        holder.__wrapped__ = swap.new
        if not immutable.is_rebuildable(value):
            return value
        new = {id(swap.old): swap.new for swap in swaps}
        return immutable.rebuilt(value, lambda part, _: new.get(id(part), part))

    def _is_by_hand(self, name: str, value: Any, before: Sequence[Any]) -> bool:
        """Tell a program's change from what Python, pydantic and the implementation's own code do to a class."""
        there = inspect.getattr_static(self.original, name, MISSING) is not MISSING
        functions = [part for part in _functions(value) if not any(part is old for old in _functions(*before))]
        if any(part.__globals__.get("__name__") != self.implementation.__module__ for part in functions):
            return True
        if name in _SET_BY_HAND:
            return True
        special = name.startswith("__") and name.endswith("__")
        if functions or special:
            return False
        # What is no function does not say who wrote it.
        return there or name not in self._was

    def _swaps(self, member: Member, beneath: Any) -> Iterator[Swap]:
        for old in member.before:
            # A method of the stand-in cannot be called with an instance of the original.
            pairs = {id(old): (old, beneath), id(function_of(old)): (function_of(old), function_of(beneath))}
            for held, instead in pairs.values():
                if not rebindable(held):
                    # Of a text or None, everybody has one.
                    continue
                kept = frozenset({self.implementation.__module__})
                yield Swap(held, instead, member.name, self.implementation, restoring=True, kept=kept)


def _functions(*values: Any) -> list[types.FunctionType]:
    """Return the Python functions that members of a class consist of."""
    parts: list[Any] = []
    for value in values:
        parts += insides_of(value) or (value,)
    # Not isinstance(): a proxy says that it is of the class of what it wraps.
    return [part for part in parts if type(part) is types.FunctionType]
