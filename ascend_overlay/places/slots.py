"""Slots: one per place that patches change, whatever the number of patches.

A slot knows what was there first, the one patch that decides the place (a replacement) and the wrappers around it in
order. What is installed is always computed from those, so patches can come and go in any order and the last one to
leave restores the very object that was there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ascend_overlay.places.bindings import Swap, rebindable
from ascend_overlay.places.target import MISSING


@dataclass(eq=False, kw_only=True)
class Change:
    """What a patch contributes to a slot.

    Attributes:
        rank: order among wrappers: the higher, the further out.
        whose: the overlay and plugin that it comes from, in words.
        decides: it gives the value itself (at most one a slot), rather than wrapping the value that it is given.
        by_name: only who calls the old value by the target's name has a copy of it.
        borrowed: the value exists in its own right, elsewhere.
    """

    rank: int
    whose: str
    decides: bool = False
    by_name: bool = False
    borrowed: bool = False

    def value(self, inner: Any) -> Any:
        """Return the value to install, given the one below."""
        raise NotImplementedError


class Storage(Protocol):
    """Where a slot's value is kept."""

    @property
    def name(self) -> str: ...

    @property
    def owner(self) -> Any: ...

    def put(self, value: Any) -> None: ...

    def delete(self) -> None: ...

    def get(self) -> Any: ...


@dataclass(frozen=True)
class Attribute:
    """An attribute of a module, class or object."""

    owner: Any
    name: str

    def get(self) -> Any:
        """Return what the owner itself holds, or MISSING."""
        return vars(self.owner).get(self.name, MISSING)

    def put(self, value: Any) -> None:
        """Set the attribute, past any `__setattr__` of a metaclass."""
        if isinstance(self.owner, type):
            type.__setattr__(self.owner, self.name, value)
        else:
            setattr(self.owner, self.name, value)

    def delete(self) -> None:
        """Remove the attribute from the owner itself."""
        if isinstance(self.owner, type):
            type.__delattr__(self.owner, self.name)
        else:
            delattr(self.owner, self.name)


@dataclass(frozen=True)
class Item:
    """An entry of a mapping."""

    owner: Any
    key: Any

    @property
    def name(self) -> str:
        """The key, as text."""
        return repr(self.key)

    def get(self) -> Any:
        """Return the entry, or MISSING."""
        return self.owner.get(self.key, MISSING)

    def put(self, value: Any) -> None:
        """Set the entry."""
        self.owner[self.key] = value

    def delete(self) -> None:
        """Remove the entry."""
        del self.owner[self.key]


class Slot:
    """One changed place and the changes that are in force on it."""

    __slots__ = ("_installed", "changes", "original", "storage", "under")

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.original = storage.get()
        # What wrappers go around where nothing decides; whoever wraps an inherited attribute puts it here.
        self.under = self.original
        self.changes: list[Change] = []
        self._installed: Any = self.original

    @property
    def installed(self) -> Any:
        """What the slot has put in place, or the original."""
        return self._installed

    @property
    def decider(self) -> Change | None:
        """The change that gives the value, if any."""
        return next((change for change in self.changes if change.decides), None)

    @property
    def wrappers(self) -> list[Change]:
        """The changes that wrap, the innermost first."""
        return sorted((change for change in self.changes if not change.decides), key=lambda change: change.rank)

    def add(self, change: Change) -> Swap | None:
        """Bring `change` into force; return the swap that copies of the old value need."""
        return self._install([*self.changes, change])

    def remove(self, change: Change) -> Swap | None:
        """Take `change` out of force; return the swap that copies need."""
        return self._install([other for other in self.changes if other is not change])

    def _install(self, changes: list[Change]) -> Swap | None:
        value = self._compute(changes)
        before = self._installed
        if value is MISSING:
            if self.storage.get() is not MISSING:
                self.storage.delete()
        else:
            self.storage.put(value)
        earlier, self.changes = self.changes, changes
        self._installed = value
        if isinstance(self.storage, Item) or before is value or not rebindable(before):
            return None
        if before is MISSING or value is MISSING:
            return None
        return Swap(
            before,
            value,
            self.storage.name,
            self.storage.owner,
            by_name=any(change.by_name for change in (*earlier, *changes)),
            borrowed=any(change.borrowed for change in earlier),
            restoring=not changes,
        )

    def _compute(self, changes: list[Change]) -> Any:
        if not changes:
            return self.original
        value = self.under
        for change in sorted(changes, key=lambda change: (not change.decides, change.rank)):
            value = change.value(value)
        return value


class Slots:
    """The slots in force in this process."""

    def __init__(self) -> None:
        self._slots: dict[tuple[int, Any], Slot] = {}

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def at(self, storage: Storage) -> Slot:
        """Return the slot of a place.

        Another name of an object that a slot has changed leads to that slot, whether it was re-bound yet or not.
        """
        key = (id(storage.owner), storage.key if isinstance(storage, Item) else storage.name)
        slot = self._slots.get(key) or self._under_another_name(storage)
        if slot is None:
            slot = self._slots[key] = Slot(storage)
        return slot

    def _under_another_name(self, storage: Storage) -> Slot | None:
        value = storage.get()
        if not isinstance(storage, Attribute) or not rebindable(value):
            return None
        for slot in self._slots.values():
            if not isinstance(slot.storage, Attribute) or any(change.by_name for change in slot.changes):
                continue
            # Two names in one class body are two members.
            apart = isinstance(storage.owner, type) and storage.name != slot.storage.name
            if slot.installed is value or (slot.original is value and not apart):
                return slot
        return None

    def release(self, slot: Slot) -> None:
        """Forget `slot` once nothing is in force on it."""
        if not slot.changes:
            self._slots = {key: other for key, other in self._slots.items() if other is not slot}
