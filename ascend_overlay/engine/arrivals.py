"""Modules that patches wait for: those that are changed, and those that implementations are in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

from ascend_overlay.engine.journal import Journal
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plan import Item, Unit
from ascend_overlay.engine.review import in_force
from ascend_overlay.engine.state import State
from ascend_overlay.errors import OverlayError
from ascend_overlay.places import importing
from ascend_overlay.source.modules import locate, remembered


class Arrivals:
    """Has patches applied when their modules are there, and applied again when these execute again."""

    def __init__(self, state: State, patcher: Patcher, journal: Journal) -> None:
        self._state = state
        self._patcher = patcher
        self._journal = journal

    def start(self, units: Sequence[Unit]) -> list[str]:
        """Check the targets statically, apply what is loaded already, and have all imports watched.

        Returns the modules that are being imported right now.
        """
        with remembered():
            for unit in units:
                self._check_statically(unit)
        items = [item for unit in units for item in unit.items if item.entry.state == "pending"]
        for item in items:
            for module in (*item.modules, *item.patch.later):
                importing.watch(module, self.on_import)
        self._patcher.apply([item for item in items if _is_due(item)], late=True)
        waiting = [m for item in items if item.entry.state == "pending" for m in item.modules]
        return [module for module in dict.fromkeys(waiting) if module in sys.modules]

    def _check_statically(self, unit: Unit) -> None:
        for item in unit.items:
            if item.entry.state != "pending":
                continue
            try:
                if item.module:
                    locate(item.module)
                item.patch.check()
            except OverlayError as error:
                self._patcher.fail(item, error)
                return

    def on_import(self, name: str, module: ModuleType) -> None:
        """A module that a patch changes, or that implements one, has executed."""
        self._arrived(name, module, self._to_renew(name, module))

    def on_complete(self, name: str, module: ModuleType) -> None:
        """A module that a patch changes is there; it need not have executed since what is in force was applied."""
        again = [item for item in self._to_renew(name, module) if item.applied and not item.applied.has_seen(module)]
        self._arrived(name, module, again)

    def _to_renew(self, name: str, module: ModuleType) -> list[Item]:
        with self._state.lock.held():
            concerned = [item for item in self._state.items() if item.module == name]
            return [item for item in in_force(concerned) if not item.is_kept_by(module)]

    def _arrived(self, name: str, module: ModuleType, again: list[Item]) -> None:
        with self._state.lock.held():
            concerned = [item for item in self._state.items() if name in item.modules]
            due = [item for item in concerned if _is_due(item, now=name)]
            served = [item for item in in_force(self._state.items()) if name in item.patch.later]
        if not due and not again and not served:
            return
        try:
            self._patcher.renew(again, late=False, executed=name)
            self._patcher.apply([item for item in due if item.module == name], late=False, executed=name)
            # Where applying a patch has led to this import, of its implementation, it goes on with it.
            others = [item for item in due if item.module != name and not self._patcher.is_coming(item)]
            self._patcher.apply(others, late=True, executed=name)
            for item in served:
                self._examine(item)
        except BaseException:
            # The import fails with this error; whoever catches it and tries again must find the patches applied.
            self._patcher.back(in_force(due))
            raise
        finally:
            self._journal.write([*due, *again, *served])

    def _examine(self, item: Item) -> None:
        try:
            item.patch.examine(executed=True)
        except OverlayError as error:
            self._patcher.fail(item, error)

    def forget_unneeded(self) -> None:
        """Stop watching for the modules that no enabled overlay waits for any more."""
        still = {module for item in self._state.items() for module in (*item.modules, *item.patch.later)}
        for module in importing.watched_by(self.on_import):
            if module not in still:
                importing.unwatch(module, self.on_import)

    def catch_up(self) -> None:
        """Apply what is still pending although its module is there: another finder went past ours."""
        for name in {item.module for item in self._state.items() if item.entry.state == "pending"}:
            if name and importing.is_complete(name):
                self.on_complete(name, sys.modules[name])


def _is_due(item: Item, now: str | None = None) -> bool:
    """Tell whether a pending patch can be applied; the module `now` has just executed."""
    if item.entry.state != "pending":
        return False
    module = item.module
    return not module or module == now or importing.is_complete(module)
