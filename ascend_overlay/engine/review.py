"""Looking whether what was applied is met by the target's users, and mending what can be mended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType

from ascend_overlay import settings
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.journal import as_it_is, logger
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plan import Item
from ascend_overlay.engine.state import State
from ascend_overlay.errors import ForeignError
from ascend_overlay.ledgers.entries import AROUND, COVERING, IN_FORCE, OTHER_CODE, SEEN
from ascend_overlay.places import foreign, importing
from ascend_overlay.places.bindings import rebindable
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.holders import member_name
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute


class Review:
    """Holds the ledger against the world."""

    def __init__(self, state: State, patcher: Patcher, complaints: Complaints) -> None:
        self._state = state
        self._patcher = patcher
        self._complaints = complaints
        self._seen: dict[str, str] = {}
        self._reported: set[tuple[str, str, str, str]] = set()

    def look(self, among: Iterable[Item] | None = None) -> None:
        """Set the state of each entry, or of those of some patches, to what is so, and touch nothing else."""
        with self._state.lock.held():
            for item in self._state.items() if among is None else among:
                if item.applied is not None and item.entry.state in IN_FORCE:
                    self._look_at(item)
        self._report()

    def mend(self) -> None:
        """Have every patch met again that can be, then look.

        Somebody's own change is left in force. What is mended: a module that executed again unnoticed; and what appears
        where a change that was there before ours, or went around ours, has been taken back.
        """
        with self._state.lock.held():
            covered = self._patcher.covered
            covered[:] = [slot for slot in covered if not self._patcher.slots.has(slot.storage)]
            for slot in covered:
                slot.take_back()
            touched = [slot for slot in self._patcher.slots if not slot.is_met() and (slot.fold() or slot.mend())]
            if touched:
                self._patcher.sweeper.sweep(touched, late=True, on_behalf_of=[])
            stale = {id(slot): slot for slot in self._patcher.slots if _is_put_back(slot)}
            again = [item for item in self._state.items() if _is_on(item, stale) or _is_of_an_earlier_module(item)]
        if again:
            self._patcher.renew(again, late=True)
        self.look()

    def demand(self) -> None:
        """Mend and look.

        Raises:
            ForeignError: somebody else's change covers a patch, and the setting `foreign` says that this is an error;
                or a patch of an overlay that is required is not met.
        """
        self.mend()
        for item in list(self._state.items()):
            required = self._complaints.requires(item.unit.name) and item.entry.state != "applied"
            if self._complaints.settings.foreign != "error" and not required:
                continue
            for text in _what_is_wrong(item):
                self._complaints.complain(ForeignError(_sentence(item, text)), item.unit.name if required else "")

    def _look_at(self, item: Item) -> None:
        assert item.applied is not None
        displaced, texts = False, []
        for slot, _ in item.applied.changed:
            if (code := slot.foreign_code()) is not None:
                texts.append(self._described_code(slot, code))
            if slot.is_met() or slot.foreign() is None:
                continue
            holds = slot.foreign()
            around = foreign.leads_to(holds, slot.installed)
            displaced = displaced or not around
            texts.append(self._described(slot.storage.owner, slot.storage.name, holds, around=around))
        if (stand_in := item.applied.stand_in) is not None:
            for member in stand_in.changed(self._patcher.slots):
                if member.before:
                    around = member.is_around
                    displaced = displaced or not around
                    owner = stand_in.implementation
                    texts.append(self._described(owner, member.name, member.value, around=around))
        texts.extend(self._changed_copies(item))
        module, name = item.applied.module, item.module
        if module is not None and (there := sys.modules.get(name, module)) is not module and _is_made_by_hand(there):
            displaced = True
            text = f"a module that was made by hand stands in place of {name} in sys.modules"
            texts.append(self._seen.setdefault(text, f"{text}; {SEEN}{time.strftime('%H:%M:%S')}"))
        item.foreign = texts
        if displaced:
            item.entry.state, item.ineffective = "displaced", None
            return
        why = item.patch.effect(item.applied)
        item.entry.state = "applied" if why is None else "without effect"
        item.ineffective = why

    def _changed_copies(self, item: Item) -> Iterator[str]:
        """Yield what somebody else has put where a module held a copy, a function or class, of what this patch made."""
        assert item.applied is not None
        made = [ours for slot, _ in item.applied.changed for ours in (slot.installed, function_of(slot.installed))]
        for text in item.entry.copies:
            module, _, name = text.rpartition(".")
            holds = vars(sys.modules[module]).get(name) if module in sys.modules else None
            # Nearly always it is one of them, which is told at once.
            if not isinstance(holds, (FunctionType, type)) or any(holds is ours for ours in made):
                continue
            if any(foreign.leads_to(holds, ours) for ours in made):
                continue
            yield self._first_seen(sys.modules[module], name, f"{foreign.described(holds)} {COVERING} at the copy")

    def _described(self, owner: object, name: str, holds: object, *, around: bool) -> str:
        return self._first_seen(owner, name, f"{foreign.described(holds)} {AROUND if around else COVERING} at")

    def _described_code(self, slot: Slot, code: CodeType) -> str:
        where = f"({code.co_filename}, line {code.co_firstlineno})"
        return self._first_seen(slot.storage.owner, slot.storage.name, f"other code {where}, {OTHER_CODE}")

    def _first_seen(self, owner: object, name: str, text: str) -> str:
        text = f"{text} {member_name(owner, name)}"
        return self._seen.setdefault(text, f"{text}; {SEEN}{time.strftime('%H:%M:%S')}")

    def _report(self) -> None:
        """Say once of each patch that is covered, gone around or not met why that is so, and tell the plugins.

        What a plugin raises is a warning: the ledger is read where nothing may be raised, as at exit.
        """
        for item in list(self._state.items()):
            for text in _what_is_wrong(item):
                key = (item.unit.name, item.entry.kind, item.entry.target, text)
                if key in self._reported:
                    continue
                self._reported.add(key)
                if self._complaints.settings.foreign != "accept" or self._complaints.requires(item.unit.name):
                    logger.warning(_sentence(item, text))
                for error in self._complaints.told("ascend_overlay_displaced", entry=as_it_is(item)):
                    self._complaints.warn(error)


def _what_is_wrong(item: Item) -> list[str]:
    """Return what somebody else has done to a patch: where it has no slot, all that is known is that it is not met."""
    if item.entry.state not in IN_FORCE:
        return []
    return [*item.foreign, *([f"without effect: {item.ineffective}"] if item.ineffective else [])]


def _sentence(item: Item, text: str) -> str:
    return (
        f"overlay {item.unit.name!r} ({item.unit.origin}), {item.entry.kind} of {item.entry.target}: {text}. Leave one "
        f"of the two out, or accept it with {settings.advice('foreign', 'accept')}."
    )


def _is_put_back(slot: Slot) -> bool:
    """Tell whether what the module itself made is in place again."""
    if slot.is_met() or not isinstance(slot.storage, Attribute):
        return False
    holds = slot.foreign()
    return rebindable(holds) and (holds is slot.original or foreign.is_native(slot, holds))


def _is_on(item: Item, slots: dict[int, Slot]) -> bool:
    return item.applied is not None and any(id(slot) in slots for slot, _ in item.applied.changed)


def _is_of_an_earlier_module(item: Item) -> bool:
    """Tell whether the module was imported once more since the patch was applied, and is complete."""
    name = item.module
    if item.applied is None or not name or item.applied.module is None:
        return False
    if not importing.is_complete(name):
        return False
    there = sys.modules[name]
    return there is not item.applied.module and not _is_made_by_hand(there) and not item.is_kept_by(there)


def _is_made_by_hand(module: ModuleType) -> bool:
    """Tell whether no import made `module`: a stub, which a test puts into sys.modules for a while."""
    return getattr(module, "__spec__", None) is None and module is not sys.modules.get("__main__")


def in_force(items: Iterable[Item]) -> list[Item]:
    """Return those that have changed their target."""
    return [item for item in items if item.entry.state in IN_FORCE]
