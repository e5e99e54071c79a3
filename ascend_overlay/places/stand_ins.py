"""A class that stands in for another, and what somebody sets on it by hand while the other's name leads to it.

`module.Class.method = theirs` means the class that the program knows; the attribute ends up on the stand-in. It stays
in force when the stand-in goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ascend_overlay.places import savers
from ascend_overlay.places.bindings import Swap, rebind_everywhere, unfrozen
from ascend_overlay.places.foreign import leads_to
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.slots import Slots
from ascend_overlay.places.storages import Attribute
from ascend_overlay.places.target import MISSING
from ascend_overlay.places.type_slots import storage


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A member of a stand-in that somebody has set or removed by hand.

    Attributes:
        name: its name.
        value: what is there; MISSING: they removed it.
        before: what was there, the latest first; empty: the stand-in had no such member of its own.
    """

    name: str
    value: Any
    before: tuple[Any, ...]

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
        """Yield the members that somebody has changed since.

        Args:
            slots: the places that patches change, which may be members of the stand-in, too.
        """
        now = dict(vars(self.implementation))
        for name in dict.fromkeys([*self._was, *now]):
            before, value = self._before(name, slots), now.get(name, MISSING)
            if value is not (before[0] if before else MISSING) and self._is_by_hand(name, value):
                yield Member(name, value, before)

    def hand_over(self, slots: Slots) -> None:
        """Give the original what was set on the stand-in by hand, and the stand-in what it had."""
        members = list(self.changed(slots))
        if not members:
            return
        # Who changes a class keeps it, in a closure or an object, to change it back.
        name, owner = self.place.name, self.place.owner
        lent = Swap(self.implementation, self.original, name, owner, borrowed=True, lent=True, restoring=True)
        rebind_everywhere([lent])
        with unfrozen():
            for member in members:
                self._hand_over(member)

    def _hand_over(self, member: Member) -> None:
        beneath = inspect.getattr_static(self.original, member.name, MISSING)
        own = vars(self.original).get(member.name, MISSING)
        savers.move(self.implementation, self.original, member.name, own, member.before)
        if beneath is not MISSING:
            rebind_everywhere(list(self._swaps(member, beneath)))
        _put(self.original, member.name, member.value)
        # Last: as long as it is not as it was, an interrupted call is done again.
        _put(self.implementation, member.name, next(iter(member.before), MISSING))

    def _before(self, name: str, slots: Slots) -> tuple[Any, ...]:
        place = storage(self.implementation, name)
        installed = [slots.at(place).installed] if slots.has(place) else []
        return tuple(value for value in (*installed, self._was.get(name, MISSING)) if value is not MISSING)

    def _is_by_hand(self, name: str, value: Any) -> bool:
        """Tell a program's change from what Python, pydantic and the implementation's own code do to a class."""
        special = name.startswith("__") and name.endswith("__")
        function = function_of(value)
        if value is not MISSING and (callable(function) or hasattr(type(function), "__get__")):
            return bool(getattr(function, "__module__", None) != self.implementation.__module__)
        return not special and inspect.getattr_static(self.original, name, MISSING) is not MISSING

    def _swaps(self, member: Member, beneath: Any) -> Iterator[Swap]:
        for old in member.before:
            # A method of the stand-in cannot be called with an instance of the original.
            pairs = {id(old): (old, beneath), id(function_of(old)): (function_of(old), function_of(beneath))}
            for held, instead in pairs.values():
                kept = frozenset({self.implementation.__module__})
                yield Swap(held, instead, member.name, self.implementation, restoring=True, kept=kept)


def _put(owner: type, name: str, value: Any) -> None:
    place = storage(owner, name)
    if value is not MISSING:
        place.put(value)
    elif place.get() is not MISSING:
        place.delete()
