"""Applying patches to loaded modules and taking them back, with the copies that others hold."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType

from ascend_overlay import versions
from ascend_overlay.engine import earlier, plan
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.journal import logger
from ascend_overlay.engine.plan import Item
from ascend_overlay.engine.state import State
from ascend_overlay.engine.sweeper import Sweeper
from ascend_overlay.errors import ForeignError, OverlayError, told
from ascend_overlay.ledgers.entries import EARLIER, IN_FORCE
from ascend_overlay.patches import Applied, Context
from ascend_overlay.places import caches, frames, importing, pydantic_models, savers
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.slots import Slot, Slots
from ascend_overlay.places.storages import Attribute


class Patcher:
    """Changes the patched places.

    Attributes:
        slots: the places that are changed now.
        sweeper: re-binds what others hold of them.
        covered: places that are changed no more, where somebody else's change was found: they may have saved ours.
        tell: called where what was put in place runs for the first time.
    """

    def __init__(self, state: State, complaints: Complaints) -> None:
        self.slots = Slots()
        self.covered: list[Slot] = []
        self.tell: Callable[[], object] | None = None
        self._state = state
        self._complaints = complaints
        self.sweeper = Sweeper(state)
        self._stand_ins: dict[int, type] = {}
        self._calls = threading.local()
        # Changed by whoever holds the lock only.
        self._now: set[int] = set()

    def apply(self, items: Sequence[Item], *, late: bool, executed: str | None = None) -> None:
        """Apply `items` of loaded modules and re-bind the copies of what they replaced.

        Args:
            items: what to apply, where it is still pending.
            late: the modules were imported some time ago, rather than just now.
            executed: the module that has executed just now, if it is one.

        Raises:
            OverlayError: one does not apply, and the settings are strict. Its overlay is taken back.
        """
        if not items:
            return
        outer = self._coming
        self._calls.coming = outer | {id(item) for item in items}
        try:
            applied = self._apply_each(items, executed)
        finally:
            self._calls.coming = outer
        applied = [item for item in applied if item.applied is not None]
        with self._state.lock.held():
            self._note_running(applied, late=late)
            self.sweeper.sweep(_slots_of(applied), late=late, on_behalf_of=applied)
            if late:
                for item, text in _remembering(applied, "the original"):
                    item.entry.notes.append(text)
        for item in applied:
            self._complaints.tell("ascend_overlay_applied", entry=item.entry)

    def is_coming(self, item: Item) -> bool:
        """Tell whether a call of apply() in this thread is going to apply `item`."""
        return id(item) in self._coming

    @property
    def _coming(self) -> frozenset[int]:
        return getattr(self._calls, "coming", frozenset())

    def _apply_each(self, items: Sequence[Item], executed: str | None) -> list[Item]:
        """Apply `items`, and those that are taken back because of them, one by one; return what was applied."""
        applied: list[Item] = []
        todo = sorted(items, key=_turn)
        while todo:
            item = todo.pop(0)
            if item.entry.state != "pending":
                continue
            started = time.perf_counter()
            try:
                moved = self._apply_one(item, executed)
                applied.append(item)
                todo = sorted([*todo, *moved], key=_turn)
            except OverlayError as error:
                self.fail(item, error)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                unexpected = OverlayError(f"the target {item.entry.target}: {told(error)}")
                unexpected.__cause__ = error
                self.fail(item, unexpected)
            finally:
                item.entry.seconds += time.perf_counter() - started
        return applied

    def revert(self, items: Sequence[Item], state: str, reason: str, *, cause: str = "") -> list[Exception]:
        """Take `items` back; return what refused, and what the plugins that were told of it raised.

        `cause` is that of a state "skipped".

        What was interrupted is done by the next call: nothing is forgotten before it is certain to be taken back.
        """
        told: list[Item] = []
        errors: list[Exception] = []
        with self._state.lock.held():
            # By id: a set of the classes would be a holder like any other, and be re-bound.
            before = {id(stand_in) for stand_in in self._stand_ins.values()}
            touched = [item for item in reversed(items) if item.done]
            members = _members(applied for item in touched for applied in item.done)
            with savers.together():
                refused = {id(item): [e for made in reversed(item.done) for e in made.revert()] for item in touched}
            for item in touched:
                item.entry.copies, item.entry.stale, item.entry.notes = [], [], []
            self.sweeper.sweep(_slots_of(touched), late=True, on_behalf_of=touched)
            pydantic_models.restore(members)
            remembered = _remembering(touched, "the patch")
            for item in touched:
                item.entry.copies, item.entry.notes, item.foreign = [], [], []
                item.entry.stale.extend(text for applied in item.done for text in applied.kept)
                item.entry.stale.extend(text for each, text in remembered if each is item)
                if refused[id(item)]:
                    errors.extend(self._cannot_be_taken_back(item, refused[id(item)]))
                    continue
                if item.entry.state in IN_FORCE:
                    told.append(item)
                for applied in item.done:
                    self.covered.extend(slot for slot, _ in applied.changed if slot.foreign() is not None)
                    applied.forget()
                if lost := "; ".join(text for applied in item.done for text in applied.lost):
                    logger.error("overlay %r (%s), %s: %s", item.unit.name, item.unit.origin, item.entry.target, lost)
                # What is to be applied again is, whatever was lost.
                failed = lost and state != "pending"
                item.entry.state, item.entry.reason = ("failed", lost) if failed else (state, reason)
                item.entry.cause = "" if failed else cause
                item.applied, item.earlier = None, []
            self.slots.release_free()
            for item in items:
                if not item.done and item.entry.state == "pending":
                    item.entry.state, item.entry.reason, item.entry.cause = state, reason, cause
            moved = self._patched_on(before - {id(stand_in) for stand_in in self._stand_ins.values()})
        for item in told:
            errors.extend(self._complaints.told("ascend_overlay_reverted", entry=item.entry))
        if moved:
            self.back(moved)
            self.apply(moved, late=True)
        return errors

    def revert_quietly(self, items: Sequence[Item], state: str, reason: str, *, cause: str = "") -> None:
        """Take `items` back because of an error, which no other may hide."""
        for error in self.revert(items, state, reason, cause=cause):
            self._complaints.warn(error)

    def back(self, items: Sequence[Item]) -> None:
        """Take `items` back so that they can be applied again."""
        if not items:
            return
        reasons = [item.entry.reason for item in items]
        self.revert_quietly(items, "pending", "")
        for item, reason in zip(items, reasons, strict=True):
            item.entry.reason = reason

    def renew(self, items: Sequence[Item], *, late: bool, executed: str | None = None) -> None:
        """Apply `items` to what their targets lead to now: the modules have executed again since."""
        self.back([item for item in items if item.patch.once])
        with self._state.lock.held():
            for item in items:
                if item.applied is None:
                    continue
                for slot, _ in item.applied.changed:
                    if not slot.is_met():
                        self.slots.detach(slot)
                item.earlier.append(item.applied)
                item.applied = None
                item.entry.state = "pending"
                item.foreign = []
        self.apply(items, late=late, executed=executed)

    def fail(self, item: Item, error: OverlayError) -> None:
        """Take the whole overlay back, note it, and raise or warn."""
        unit = item.unit
        found = versions.installed("vllm")
        where = f" to vLLM {found}" if found is not None else ""
        text = str(error)
        if item.entry.target not in text:
            text = f"{item.entry.kind} of {item.entry.target}: {text}"
        described = type(error)(f"overlay {unit.name!r} ({unit.origin}) does not apply{where}: {text}")
        described.__cause__ = error.__cause__
        self.revert_quietly(unit.items, "reverted", f"taken back: {item.entry.target} failed")
        item.entry.become("failed", str(error))
        self._complaints.tell("ascend_overlay_failed", entry=item.entry, error=described)
        self._complaints.complain(described, unit.name)

    def _apply_one(self, item: Item, executed: str | None) -> list[Item]:
        """Apply one patch; return those that were taken back because they must now go elsewhere."""
        if ruling := plan.ruled_out(item):
            item.entry.skip(*ruling)
            return []
        if any(module != executed and _is_executing(module) for module in item.patch.needs):
            # Its import has led to that of the target; it is applied when it is done.
            return []
        implementation = item.patch.load()
        with self._state.lock.held():
            # Applying a patch may call what imports modules, and the import leads here again.
            if item.entry.state != "pending" or id(item) in self._now:
                return []
            target = importing.loaded(item.module)
            module = sys.modules[__name__] if target is None else target
            whose = f"overlay {item.unit.name!r} ({item.unit.origin})"
            replaced = set(self._stand_ins)
            item.true_name = item.patch.true_name(target, self.slots) if target is not None else None
            item.applied = Applied(self.slots, target)
            context = Context(self.slots, item.unit.rank, whose, self._stand_ins, self.tell)
            self._now.add(id(item))
            try:
                with savers.together():
                    item.patch.apply(module, implementation, context, item.applied)
            finally:
                self._now.discard(id(item))
            self._note_earlier(item, item.applied)
            item.entry.seam, item.entry.notes = item.applied.seam, item.applied.notes
            item.entry.copies, item.entry.stale = item.applied.copies, item.applied.stale
            if rebuilt := pydantic_models.rebuild(_members([item.applied])):
                item.entry.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")
            item.entry.state = "applied"
            moved = self._patched_on(set(self._stand_ins) - replaced)
        # Members of a class that has just been replaced are patched on what stands for it now.
        self.back(moved)
        return moved

    def _note_earlier(self, item: Item, applied: Applied) -> None:
        """Note who put something in the places before this patch, which is the first that changes them."""
        for slot, change in applied.changed:
            if any(other is not change for other in slot.changes) or len(slot.storeys) > 1:
                continue
            if (who := earlier.put_there_before(slot)) is None:
                continue
            text = f"in place of {who}, {EARLIER}"
            applied.notes.append(text)
            sentence = earlier.sentence(item.entry.target, text)
            if self._complaints.settings.foreign == "error":
                raise ForeignError(sentence)
            if self._complaints.settings.foreign == "warn":
                logger.warning("overlay %r (%s): %s", item.unit.name, item.unit.origin, sentence)

    def _cannot_be_taken_back(self, item: Item, refused: Sequence[Exception]) -> list[Exception]:
        why = "; ".join(told(error) for error in refused)
        text = f"{item.entry.target} refuses to be changed back ({why}); the next disable() tries again"
        item.entry.state, item.entry.reason = "failed", text
        return [OverlayError(f"overlay {item.unit.name!r} ({item.unit.origin}): {text}.")]

    def _note_running(self, items: Sequence[Item], *, late: bool) -> None:
        """Note which targets are being called right now: those calls go on as they were."""
        if not late:
            return
        codes = {frame.f_code for frame in frames.outside()}
        for item in items:
            for slot, _ in item.applied.changed if item.applied is not None else ():
                function = function_of(slot.original)
                if isinstance(function, FunctionType) and function.__code__ in codes:
                    item.entry.stale.append("a call of it that runs right now, and goes on as it was")

    def _patched_on(self, classes: set[int]) -> list[Item]:
        """Return the patches of members of certain classes, given by id."""
        if not classes:
            return []
        return [
            item
            for item in self._state.items()
            if item.applied is not None and any(id(owner) in classes for owner, _ in _members([item.applied]))
        ]


def _turn(item: Item) -> tuple[int, int]:
    return item.patch.phase, item.unit.rank


def _is_executing(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and importing.is_initializing(module)


def _slots_of(items: Iterable[Item]) -> list[Slot]:
    slots = {id(slot): slot for item in items for applied in item.done for slot, _ in applied.changed}
    return list(slots.values())


def _remembering(items: Sequence[Item], whose: str) -> list[tuple[Item, str]]:
    """Return who remembers what the functions that these have changed gave, in words."""
    found = caches.remembering(_slots_of(items), whose)
    slots = [(item, id(slot)) for item in items for applied in item.done for slot, _ in applied.changed]
    return [(item, text) for item, slot in dict.fromkeys(slots) for text in found.get(slot, ())]


def _members(results: Iterable[Applied]) -> list[pydantic_models.Member]:
    storages = [slot.storage for result in results for slot, _ in result.changed]
    # An object that owns a patched attribute need not be hashable.
    return [(s.owner, s.name) for s in storages if isinstance(s, Attribute) and isinstance(s.owner, type)]
