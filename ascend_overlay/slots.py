"""Slots: one per place that patches change, whatever the number of patches.

A slot knows what was there first, the one patch that decides the place (a replacement) and the wrappers around it in
order. What is installed is always computed from those, so patches can come and go in any order and the last one to
leave restores the very object that was there.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ascend_overlay.bindings import Swap, rebindable
from ascend_overlay.target import MISSING


class Change(Protocol):
    """What a patch contributes to a slot."""

    decides: bool
    """True: gives the value itself (at most one a slot). False: wraps the value that it is given."""

    rank: int
    """Order among wrappers: the higher, the further out."""

    def value(self, inner: Any) -> Any:
        """Return the value to install, given the one below."""


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

    def __init__(self, storage: Storage, under: Any = MISSING) -> None:
        self.storage = storage
        self.original = storage.get()
        # What the place offers although the owner does not hold it itself: an inherited attribute.
        self.under = under if self.original is MISSING else self.original
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
        self.changes = changes
        self._installed = value
        if before is MISSING or value is MISSING or not rebindable(before) or before is value:
            return None
        if isinstance(self.storage, Item):
            return None
        return Swap(before, value, self.storage.name, self.storage.owner, restoring=not changes)

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

    def at(self, storage: Storage, under: Any = MISSING) -> Slot:
        """Return the slot of a place; names of one object that were re-bound by a slot lead to that slot."""
        key = (id(storage.owner), storage.key if isinstance(storage, Item) else storage.name)
        if key in self._slots:
            return self._slots[key]
        value = storage.get()
        if isinstance(storage, Attribute) and rebindable(value):
            for slot in self._slots.values():
                if slot.installed is value and isinstance(slot.storage, Attribute):
                    return slot
        slot = self._slots[key] = Slot(storage, under)
        return slot

    def release(self, slot: Slot) -> None:
        """Forget `slot` once nothing is in force on it."""
        if not slot.changes:
            self._slots = {key: other for key, other in self._slots.items() if other is not slot}


def as_plain_function(value: Any) -> Callable[..., Any] | None:
    """Return the Python function behind a method descriptor or bound method, or None."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    return value if isinstance(value, types.FunctionType) else None
