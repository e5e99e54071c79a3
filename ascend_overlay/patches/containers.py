"""Containers: a tuple that is made anew and followed by its copies, an entry that goes back to its place."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ascend_overlay.patches.base import Applied, Context
from ascend_overlay.places import modules
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute, Item
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING, Place


@dataclass(frozen=True, eq=False)
class Answered(Item):
    """An entry of a mapping from which its module's `__getattr__` may answer, and remember what it answered."""

    module: ModuleType

    def put(self, value: Any) -> None:
        """Set the entry, and have the module forget its answers."""
        super().put(value)
        self._forget()

    def delete(self) -> None:
        """Remove the entry, and have the module forget its answers."""
        super().delete()
        self._forget()

    def _forget(self) -> None:
        forget = getattr(vars(self.module).get("__getattr__"), "cache_clear", None)
        if callable(forget):
            forget()


@dataclass(eq=False, kw_only=True, slots=True)
class Edition(Change):
    """Another edition of an immutable container. The same inner one gives the same outer one again.

    Attributes:
        edit: makes the outer one.
        made: every one that was made, to know them again.
    """

    edit: Callable[[Any], Any]
    made: list[Any] = field(default_factory=list)
    _inner: Any = MISSING

    def value(self, inner: Any) -> Any:
        if self._inner is not inner or not self.made:
            # In this order: what was made is known before it is in place.
            self.made.append(self.edit(inner))
            self._inner = inner
        return self.made[-1]


def install(place: Place, edition: Edition, context: Context, applied: Applied) -> None:
    """Put the new edition in place, and under the same name in every module that copied the old one."""
    slot = context.slots.at(Attribute(place.owner, place.name))
    applied.undo.append(functools.partial(_take_out, slot, edition, place.name))
    applied.change(slot, edition, shared=place.shared)
    old, new = place.raw, slot.installed
    for module in modules.loaded():
        names = [name for name, value in list(vars(module).items()) if value is old]
        for name in names:
            if not old:
                # There is one empty tuple, and one empty frozenset, in the whole process.
                if name == place.name:
                    applied.stale.append(f"{module.__name__}.{name} (as empty as what was copied, perhaps a copy)")
                continue
            if name == place.name:
                setattr(module, name, new)
                applied.copies.append(f"{module.__name__}.{name}")
            else:
                applied.stale.append(f"{module.__name__}.{name} (the same object under another name)")


def _take_out(slot: Slot, edition: Edition, name: str) -> None:
    """Take the edition out of the slot, and out of the modules that have it by the name."""
    editions = {edition, *(change for change in slot.changes if isinstance(change, Edition))}
    slot.remove(edition)
    ours = [made for other in editions for made in other.made if made is not slot.installed]
    for module in modules.loaded():
        held = vars(module).get(name, MISSING)
        if any(held is made for made in ours):
            setattr(module, name, slot.installed)


@dataclass(eq=False)
class ListEntry:
    """An entry of a list or deque that is put in, or taken out, and can be had back as it was.

    Attributes:
        found: the list.
        value: the entry.
        index: where it is, or goes.
        behind: the entry before it.
        count: how often the list has this very object before anything is done.
        done: whether it is as it was again.
    """

    found: Any
    value: Any
    index: int
    behind: Any = MISSING
    count: int = 0
    done: bool = False

    def __post_init__(self) -> None:
        self.count = len(self._places())
        if self.index:
            self.behind = self.found[self.index - 1]

    def take_out(self) -> None:
        """Take out what was put in: where it is now, or the nearest that is it; what others entered stays."""
        places = self._places()
        if len(places) > self.count and not self.done:
            del self.found[self._nearest(places)]
        self.done = True

    def put_back(self) -> None:
        """Put back what was taken out, behind the entry that it stood behind."""
        if len(self._places()) < self.count and not self.done:
            behind = [at + 1 for at, entry in enumerate(self.found) if entry is self.behind]
            self.found.insert(self._nearest(behind) if behind else min(self.index, len(self.found)), self.value)
        self.done = True

    def _places(self) -> list[int]:
        return [at for at, entry in enumerate(self.found) if entry is self.value]

    def _nearest(self, places: list[int]) -> int:
        return min(places, key=lambda at: abs(at - self.index))


def reorder(found: dict[Any, Any], keys: Iterable[Any]) -> None:
    """Let `keys` come last in a mapping, in this order, with no entry missing if an interruption comes in between."""
    keys = list(keys)
    # One call that runs no Python in between.
    collections.deque(map(found.setdefault, keys, map(found.pop, keys)), maxlen=0)
