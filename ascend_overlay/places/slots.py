"""Slots: one per place that patches change, whatever the number of patches.

A slot knows what was there first, the one patch that decides the place (a replacement) and the wrappers around it in
order. What is installed is always computed from those, so patches can come and go in any order and the last one to
leave restores the very object that was there.

Somebody else may change the place, too. What they put there is never lost: patches that come later go around it, as the
next storey of a house, and patches below it go out from under it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from types import CodeType
from typing import Any

from ascend_overlay.places import savers
from ascend_overlay.places.bindings import Swap, rebindable
from ascend_overlay.places.functions import Redirection, dressed_like, function_of
from ascend_overlay.places.storages import Attribute, Detached, Item, Storage, fill
from ascend_overlay.places.storeys import Change, Given, Storey, Stray
from ascend_overlay.places.target import MISSING


class Slot:
    """One changed place and the changes that are in force on it.

    Attributes:
        storage: the place.
        storeys: the lowest stands on what was there first, each other one on what somebody else put there later.
        strays: what others may hold although something else is in place; see `swaps`.
        made: every value that the changes ever came to.
    """

    __slots__ = ("__weakref__", "made", "storage", "storeys", "strays")

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.storeys = [Storey(storage.get())]
        self.strays: list[Stray] = []
        self.made: list[Any] = []

    @property
    def original(self) -> Any:
        """What was there first."""
        return self.storeys[0].ground

    @property
    def under(self) -> Any:
        """What the wrappers of the highest storey go around where nothing decides."""
        return self.storeys[-1].base

    @under.setter
    def under(self, value: Any) -> None:
        self.storeys[-1].base = value

    @property
    def installed(self) -> Any:
        """What is in place where nobody else changed it."""
        return self.storeys[-1].installed

    @property
    def changes(self) -> list[Change]:
        """All changes in force, the lowest first."""
        return [change for storey in self.storeys for change in storey.changes]

    @property
    def decider(self) -> Change | None:
        """The change that gives the value, if any."""
        return next((change for change in self.changes if change.decides), None)

    @property
    def wrappers(self) -> list[Change]:
        """The changes that wrap, the innermost first."""
        return [given.change for storey in self.storeys for given in storey.inners if not given.change.decides]

    @property
    def is_free(self) -> bool:
        """Whether nothing is in force here, and nothing that was is to be looked for."""
        return not self.strays and not self.changes and not any(storey.redirection for storey in self.storeys)

    def add(self, change: Change, *, shared: bool = True) -> None:
        """Bring `change` into force, around what is there now.

        Args:
            change: what comes.
            shared: somebody beside the place may hold what it holds now.
        """
        if (foreign := self.foreign()) is not None:
            self.storeys.append(Storey(foreign))
        storey = self.storeys[-1]
        shared = shared or bool(storey.changes)
        storey.changes = [*storey.changes, change]
        self._settle(storey, shared=shared)

    def remove(self, change: Change) -> None:
        """Take `change` out of force; no harm where it is not in force."""
        for storey in reversed(self.storeys):
            if change in storey.changes:
                if change.busy:
                    self._note(storey, self.storage.get())
                storey.changes = [other for other in storey.changes if other is not change]
            # Also where it was taken out before: that may have been interrupted right here.
            self._settle(storey)
        while len(self.storeys) > 1 and not self.storeys[-1].changes:
            self.storeys = self.storeys[:-1]

    def foreign(self) -> Any:
        """Return what somebody else put in place (MISSING: removed it), or None where what is there is ours."""
        holds = self.storage.get()
        return None if self._is_ours(holds) else holds

    def foreign_code(self) -> CodeType | None:
        """Return the code that somebody else gave a function that was led to the changes, or None."""
        redirections = [storey.redirection for storey in self.storeys if storey.redirection is not None]
        return next((code for redirection in redirections if (code := redirection.foreign) is not None), None)

    def is_met(self) -> bool:
        """Tell whether what the changes come to is in place."""
        return self.storage.get() is self.installed

    def fold(self) -> bool:
        """Let changes come down where what somebody else had put below them has gone; return whether it has.

        Whoever saves what is there, puts something in its place, and restores it later, restores what a lower storey
        had installed.
        """
        holds = self.storage.get()
        for index, storey in enumerate(self.storeys[:-1]):
            if holds is storey.installed:
                for above in self.storeys[index + 1 :]:
                    self._fold(above, storey)
                self.storeys = self.storeys[: index + 1]
                self._settle(storey)
                return True
        return False

    def redirect(self, storey: Storey) -> bool:
        """Have the function that the storey stands on lead to its changes, for those who hold it; tell if that went."""
        function = function_of(storey.ground)
        if storey.base is not storey.ground or storey.redirection is not None or not storey.changes:
            return storey.redirection is not None
        if not isinstance(function, types.FunctionType):
            return False
        redirection = Redirection(function)
        storey.base = dressed_like(storey.ground, redirection.stand_in)
        storey.redirection = redirection
        self._settle(storey)
        return True

    def put_aside(self, stray: Stray) -> bool:
        """Have a value of ours that somebody keeps do what is installed, from now on; tell if that went.

        Also where the change that made it is still in force: what is installed then goes around another value of it.
        """
        if not stray.changes or stray.value is stray.storey.installed:
            return False
        change, storey = stray.changes[-1], stray.storey
        if any(given.value is stray.value for given in storey.aside):
            return True
        if change in storey.changes:
            change.make_anew()
            self._settle(storey)
        if not change.step_aside(stray.value, storey.installed):
            return False
        storey.aside.append(Given(change, stray.value))
        return True

    def swaps(self) -> list[Swap]:
        """Return what whoever holds a value that is not in place shall have instead."""
        found: list[Swap] = []
        if isinstance(self.storage, Item):
            return found
        for stray in self.strays:
            storey = stray.storey
            kept = frozenset[str]().union(*(change.homes for change in storey.changes))
            found.extend(self._swaps_of(stray, storey.installed, kept=kept))
            for given in storey.inners:
                lent = given.change.borrowed and given.change in stray.changes
                if given.change.homes and not lent:
                    found.extend(self._swaps_of(stray, given.value, only=given.change.homes))
        return found

    def stand_on(self, value: Any) -> None:
        """Have `value` be what was there first: what was there goes on elsewhere."""
        storey = self.storeys[0]
        before = storey.ground
        if storey.base is before:
            storey.base = value
        storey.inners = [
            Given(given.change, value if given.value is before else given.value) for given in storey.inners
        ]
        self.strays = [stray for stray in self.strays if stray.value is not before]
        storey.ground = value
        if not storey.changes:
            storey.installed = value

    def take_back(self) -> bool:
        """Put in place what was there first where something of ours has come back; tell if it had.

        Whoever saved what was there while it was ours, and restores it when it is ours no more, restores it.
        """
        holds = self.storage.get()
        if self.changes or holds is self.original or not any(holds is made for made in self.made):
            return False
        fill(self.storage, self.original)
        return True

    def swept(self) -> None:
        """Note that nobody holds a stray any more."""
        self.strays = []

    def mend(self) -> bool:
        """Put in place what the changes come to where an earlier value of ours is; return whether that is so."""
        if self.is_met() or not self._is_ours(self.storage.get()):
            return False
        self._settle(self.storeys[-1])
        return True

    def _is_ours(self, holds: Any) -> bool:
        if holds is self.installed or any(holds is stray.value for stray in self.strays):
            return True
        return rebindable(holds) and any(holds is made for made in self.made)

    def _settle(self, storey: Storey, *, shared: bool = True) -> None:
        """Put in place what the changes of a storey come to, unless that is there.

        Each value is noted as a stray before it is put anywhere: what an interruption leaves behind is ours to take.
        """
        value, inners = storey.computed()
        if value is not storey.installed or (storey is self.storeys[-1] and value is not self.storage.get()):
            before = tuple(given.change for given in storey.inners)
            self._note(storey, storey.installed, before, shared=shared)
            for index, given in enumerate(storey.inners):
                self._note(storey, given.value, before[:index], shared=shared)
            self._note(storey, value, tuple(given.change for given in inners), shared=shared)
            if inners and not any(value is made for made in self.made):
                self.made.append(value)
            free = storey is self.storeys[-1] and self._is_ours(self.storage.get())
            if free:
                fill(self.storage, value)
            # Of a mapping, whoever has saved one item has saved them all, ours among them. The search goes through the
            # heap, and before the first change there is nothing of ours to be found.
            if not free or (isinstance(self.storage, Item) and storey.installed is not storey.base):
                savers.correct(self.storage.owner, self._key, storey.installed, value)
        storey.installed, storey.inners = value, inners
        for given in storey.aside:
            given.change.step_aside(given.value, value)
        if storey.redirection is None:
            return
        if storey.changes:
            storey.redirection.lead_to(function_of(value))
            return
        storey.redirection.undo()
        self._note(storey, storey.base)
        storey.base, storey.redirection = storey.ground, None

    @property
    def _key(self) -> Any:
        return self.storage.key if isinstance(self.storage, Item) else self.storage.name

    def _note(self, storey: Storey, value: Any, changes: tuple[Change, ...] = (), *, shared: bool = True) -> None:
        for stray in self.strays:
            if stray.value is value and stray.storey is storey:
                stray.shared = stray.shared or shared
                return
        self.strays.append(Stray(value, storey, changes, shared))

    def _fold(self, above: Storey, storey: Storey) -> None:
        self._note(storey, above.installed, tuple(above.changes))
        moved = [change for change in above.changes if change not in storey.changes]
        storey.changes = [*storey.changes, *moved]
        if above.redirection is not None:
            above.redirection.undo()

    def _swaps_of(
        self, stray: Stray, new: Any, *, kept: frozenset[str] = frozenset(), only: frozenset[str] | None = None
    ) -> Iterator[Swap]:
        pairs = [(stray.value, new)]
        if type(stray.value) is type(new) and isinstance(new, (staticmethod, classmethod)):
            # `f = K.f` copies what is inside a staticmethod.
            pairs.append((function_of(stray.value), function_of(new)))
        changes = [*stray.changes, *stray.storey.changes]
        for old, instead in pairs:
            if old is instead or old is MISSING or instead is MISSING or not rebindable(old):
                continue
            yield Swap(
                old,
                instead,
                self.storage.name,
                self.storage.owner,
                by_name=any(change.by_name for change in changes),
                borrowed=any(change.borrowed for change in stray.changes),
                restoring=not stray.storey.changes,
                shared=stray.shared,
                kept=kept,
                only=only,
                stray=stray,
            )


class Slots:
    """The slots in force in this process."""

    def __init__(self) -> None:
        self._slots: dict[tuple[int, Any], Slot] = {}

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))

    def has(self, storage: Storage) -> bool:
        """Tell whether a place has a slot."""
        return _key(storage) in self._slots

    def at(self, storage: Storage) -> Slot:
        """Return the slot of a place.

        Another name of an object that a slot has changed leads to that slot, whether it was re-bound yet or not.
        """
        slot = self._slots.get(_key(storage)) or self._under_another_name(storage)
        if slot is None:
            slot = self._slots[_key(storage)] = Slot(storage)
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

    def detach(self, slot: Slot) -> None:
        """Leave the place of `slot` to another: its module has executed again, and what is there is new."""
        if not isinstance(slot.storage, Detached):
            slot.storage = Detached(slot.storage.owner, slot.storage.name, [slot.installed])
        self._forget(slot)

    def move(self, slot: Slot, module: types.ModuleType) -> None:
        """Let `slot` be that of the same name in `module`, which was imported in place of another one."""
        if isinstance(slot.storage, Attribute):
            slot.storage = Attribute(module, slot.storage.name)
            others = {key: other for key, other in self._slots.items() if other is not slot}
            self._slots = {**others, _key(slot.storage): slot}

    def release(self, slot: Slot) -> None:
        """Forget `slot` once nothing is in force on it."""
        if slot.is_free:
            self._forget(slot)

    def release_free(self) -> None:
        """Forget every slot on which nothing is in force: somebody may have looked at its place and come no further."""
        self._slots = {key: slot for key, slot in self._slots.items() if not slot.is_free}

    def _forget(self, slot: Slot) -> None:
        self._slots = {key: other for key, other in self._slots.items() if other is not slot}


def _key(storage: Storage) -> tuple[int, Any]:
    return id(storage.owner), storage.key if isinstance(storage, Item) else storage.name
