"""Applying patches to loaded modules and taking them back, with the copies that others hold."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from ascend_overlay import settings as settings_module
from ascend_overlay import versions
from ascend_overlay.engine import plan
from ascend_overlay.engine.complaints import complain, tell, warn
from ascend_overlay.engine.plan import Item
from ascend_overlay.engine.plugins import Failure, Plugins
from ascend_overlay.engine.state import State
from ascend_overlay.errors import OverlayError, PluginError
from ascend_overlay.patches import Applied, Context
from ascend_overlay.places import pydantic_models
from ascend_overlay.places.bindings import Swap, names_used, rebind_everywhere
from ascend_overlay.places.slots import Attribute, Slots
from ascend_overlay.settings import Settings


class Patcher:
    """Changes the patched places.

    Attributes:
        slots: the places that are changed now.
    """

    def __init__(self, state: State, plugins: Plugins) -> None:
        self.slots = Slots()
        self._state = state
        self._plugins = plugins
        self._stand_ins: dict[int, type] = {}

    def apply(self, items: Sequence[Item], settings: Settings, *, late: bool) -> None:
        """Apply `items` of loaded modules and re-bind the copies of what they replaced.

        Args:
            items: what to apply, where it is still pending.
            settings: those of enable().
            late: the modules were imported some time ago, rather than just now.

        Raises:
            OverlayError: one does not apply, and the settings are strict. Its overlay is taken back.
        """
        applied: list[Item] = []
        todo = sorted(items, key=_turn)
        while todo:
            item = todo.pop(0)
            if item.entry.state != "pending":
                continue
            started = time.perf_counter()
            try:
                moved = self._apply_one(item)
                applied.append(item)
                todo = sorted([*todo, *moved], key=_turn)
            except OverlayError as error:
                self.fail(item, error, settings)
            except Exception as error:
                unexpected = OverlayError(f"the target {item.entry.target}: {type(error).__name__}: {error}")
                unexpected.__cause__ = error
                self.fail(item, unexpected, settings)
            finally:
                item.entry.seconds += time.perf_counter() - started
        applied = [item for item in applied if item.applied is not None]
        with self._state.lock:
            self._rebind(applied, late=late)
        for item in applied:
            tell(self._plugins, "ascend_overlay_applied", settings, entry=item.entry)

    def revert(self, items: Sequence[Item], state: str, reason: str) -> list[PluginError]:
        """Take `items` back; return what the plugins that were told of it raised."""
        reverted: list[Item] = []
        with self._state.lock:
            # By id: a set of the classes would be a holder like any other, and be re-bound.
            before = {id(stand_in) for stand_in in self._stand_ins.values()}
            swapped: list[tuple[Item, Swap]] = []
            members: list[pydantic_models.Member] = []
            for item in reversed(items):
                if item.applied is not None:
                    members.extend(_members([item.applied]))
                    swapped.extend((item, swap) for swap in item.applied.revert())
                    item.entry.copies, item.entry.stale, item.entry.notes = [], [], []
                    item.applied = None
                    reverted.append(item)
                if item.entry.state in ("applied", "pending"):
                    item.entry.state, item.entry.reason = state, reason
            swaps = [swap for _, swap in swapped]
            _follow(swaps)
            rebind_everywhere(swaps)
            pydantic_models.restore(members)
            for item, swap in swapped:
                item.entry.stale.extend(swap.stale)
            moved = self._patched_on(before - {id(stand_in) for stand_in in self._stand_ins.values()})
        told = [
            answer for item in reverted for _, answer in self._plugins.each("ascend_overlay_reverted", entry=item.entry)
        ]
        if moved:
            self.back(moved)
            self.apply(moved, settings_module.current(), late=True)
        return [answer.error for answer in told if isinstance(answer, Failure)]

    def revert_quietly(self, items: Sequence[Item], state: str, reason: str) -> None:
        """Take `items` back because of an error, which no plugin's error may hide."""
        for error in self.revert(items, state, reason):
            warn(error)

    def back(self, items: Sequence[Item]) -> None:
        """Take `items` back so that they can be applied again."""
        reasons = [item.entry.reason for item in items]
        self.revert_quietly(items, "pending", "")
        for item, reason in zip(items, reasons, strict=True):
            item.entry.reason = reason

    def fail(self, item: Item, error: OverlayError, settings: Settings) -> None:
        """Take the whole overlay back, note it, and raise or warn."""
        unit = item.unit
        found = versions.installed("vllm")
        described = type(error)(f"overlay {unit.name!r} ({unit.origin}) does not apply to vLLM {found}: {error}")
        described.__cause__ = error.__cause__
        self.revert_quietly(unit.items, "reverted", f"taken back: {item.entry.target} failed")
        item.entry.state, item.entry.reason = "failed", str(error)
        tell(self._plugins, "ascend_overlay_failed", settings, entry=item.entry, error=described)
        complain(described, settings)

    def _apply_one(self, item: Item) -> list[Item]:
        """Apply one patch; return those that were taken back because they must now go elsewhere."""
        if reason := plan.ruled_out(item):
            item.entry.state, item.entry.reason = "skipped", reason
            return []
        implementation = item.patch.load()
        with self._state.lock:
            if item.entry.state != "pending":
                return []
            module = sys.modules.get(item.patch.module, sys.modules[__name__])
            whose = f"overlay {item.unit.name!r} ({item.unit.origin})"
            replaced = set(self._stand_ins)
            result = Applied(self.slots)
            try:
                context = Context(self.slots, item.unit.rank, whose, self._stand_ins)
                item.patch.apply(module, implementation, context, result)
            except BaseException:
                result.revert()
                raise
            for swap in result.swaps:
                swap.kept = names_used(implementation)
            item.applied, item.entry.state = result, "applied"
            item.entry.seam, item.entry.notes = result.seam, result.notes
            item.entry.copies, item.entry.stale = result.copies, result.stale
            if rebuilt := pydantic_models.rebuild(_members([result])):
                item.entry.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")
            moved = self._patched_on(set(self._stand_ins) - replaced)
        # Members of a class that has just been replaced are patched on what stands for it now.
        self.back(moved)
        return moved

    def _rebind(self, items: Sequence[Item], *, late: bool) -> None:
        started = time.perf_counter()
        swapped = [(item, swap) for item in items for swap in (item.applied.swaps if item.applied is not None else ())]
        # Nobody has a copy of what was made a moment ago.
        fresh = {id(swap.new) for _, swap in swapped}
        _follow([swap for _, swap in swapped])
        # A module that was imported just now has seldom given anything away, and looking for it takes a while.
        rebind_everywhere([swap for _, swap in swapped if late or (swap.shared and id(swap.old) not in fresh)])
        for item, swap in swapped:
            item.entry.copies.extend(swap.copies)
            item.entry.stale.extend(swap.stale)
            item.entry.notes.extend(swap.notes)
            item.entry.seconds += (time.perf_counter() - started) / len(swapped)

    def _patched_on(self, classes: set[int]) -> list[Item]:
        """Return the patches of members of certain classes, given by id."""
        return [
            item
            for item in self._state.items()
            if item.applied is not None and any(id(owner) in classes for owner, _ in _members([item.applied]))
        ]


def _turn(item: Item) -> tuple[int, int]:
    return item.patch.phase, item.unit.rank


def _members(results: Iterable[Applied]) -> list[pydantic_models.Member]:
    storages = [slot.storage for result in results for slot, _ in result.changed]
    return [(storage.owner, storage.name) for storage in storages if isinstance(storage, Attribute)]


def _follow(swaps: Sequence[Swap]) -> None:
    """Let each swap lead to the object that is in place after all of them."""
    final = {id(swap.old): swap for swap in swaps}
    for swap in swaps:
        seen = {id(swap)}
        while (further := final.get(id(swap.new))) is not None and id(further) not in seen:
            seen.add(id(further))
            swap.new = further.new
