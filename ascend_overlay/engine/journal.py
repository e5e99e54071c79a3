"""Keeping the ledger of this process, and its file in the ledger folder."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ascend_overlay import process, settings, versions
from ascend_overlay.engine.plan import Item
from ascend_overlay.engine.state import State
from ascend_overlay.errors import printable
from ascend_overlay.ledgers import Entry, Ledger, LedgerFolder
from ascend_overlay.ledgers.entries import IN_FORCE, INEFFECTIVE
from ascend_overlay.places import importing, running
from ascend_overlay.places.holders import member_name

logger = logging.getLogger("ascend_overlay")

_PYTHON = ".".join(map(str, sys.version_info[:3]))
_PACKAGES = ("ascend_overlay", "vllm", "torch", "torch_npu", "vllm_ascend")
_RUN_BY_NAME = (
    "runpy.run_module() has executed a second copy of this module, in a namespace of its own, which no patch reaches; "
    "import the module and call what it has, or start it as a program: python -m NAME"
)
_MADE_BY_HAND = (
    "somebody has made a second object of this module (importlib.util.module_from_spec) and executed it, which no "
    "patch reaches; import the module instead: importlib.import_module(NAME)"
)
_RUN_AS_MAIN = (
    "the program runs this module as __main__: a second copy of it, which executed before it could be patched; start "
    "the program by another module or command that imports this one"
)


class Journal:
    """The ledger of this process.

    Args:
        state: what is enabled.
        look: sets the states of the entries of some patches, or of all, to what is so.

    Attributes:
        folder: where it is written at every change; None: nowhere.
    """

    def __init__(self, state: State, look: Callable[[Sequence[Item] | None], None]) -> None:
        self.folder: LedgerFolder | None = None
        self._state = state
        self._look = look
        self._process = process.describe()
        self._snapshots = itertools.count(1)
        self._writing = threading.RLock()
        self._written = 0
        self._unwritten = False

    def open(self, folder: str | None, whose: str) -> None:
        """Write to `folder`, which `whose` names, from now on, or nowhere.

        Raises:
            ConfigError: it cannot be written to; then nothing is written.
        """
        self.folder = None
        if folder:
            opened = LedgerFolder(folder)
            opened.check(whose)
            self.folder = opened

    def describe_process(self) -> None:
        """Look anew at what this process is, as after a fork."""
        self._process = process.describe()

    def note_roles(self) -> None:
        """Note the roles that this process plays now."""
        self._process["roles"] = sorted(process.roles())

    def after_fork(self) -> None:
        """Take a fresh lock and the child's own description."""
        self._writing = threading.RLock()
        self.describe_process()

    def note(self, overlay: str, text: str) -> None:
        """Add a remark, once."""
        with self._state.lock.held():
            remark = printable(overlay), printable(text)
            if remark in self._state.notes:
                return
            self._state.notes.append(remark)
        self.write()

    def snapshot(self) -> Ledger:
        """Return what happened so far."""
        with self._state.lock.held():
            entries = [as_it_is(item) for item in self._state.items()]
            entries.extend(dataclasses.replace(entry) for entry in self._state.past)
            return Ledger(self._described(), tuple(entries), tuple(self._state.notes), _operator_counts())

    def write(self, changed: Sequence[Item] | None = None) -> None:
        """Write the file of this process, if there is a ledger folder.

        Args:
            changed: what may be otherwise than it was; None: all. Where nothing is written, nothing else is looked at.
        """
        self._look(changed if self.folder is None else None)
        if self.folder is None:
            return
        number, ledger = next(self._snapshots), self.snapshot()
        with self._writing:
            # Another thread may have been quicker with a later one.
            if self.folder is None or number < self._written:
                return
            self._written = number
            try:
                self.folder.write(ledger)
                self._unwritten = False
            except OSError as error:
                self._miss(self.folder, error)

    def write_if_free(self) -> None:
        """Write, unless another thread is at it, which may wait for what the caller holds: the next change does."""
        if self.folder is None:
            return
        try:
            with self._state.lock.held(0):
                self.write()
        except TimeoutError:
            return

    def _miss(self, folder: LedgerFolder, error: OSError) -> None:
        """Say that the file was not written, once; the next change tries again."""
        if self._unwritten:
            return
        self._unwritten = True
        why = error.strerror or str(error)
        text = f"the ledger of this process could not be written to {str(folder.folder)!r} at once: {why}"
        logger.warning("%s; the next change of it tries again", text)
        # Not by note(), which would write.
        if ("", text) not in self._state.notes:
            self._state.notes.append(("", text))

    def _described(self) -> dict[str, Any]:
        """Return what this process is, what is installed, and the settings in force."""
        found = {name: versions.installed(name) for name in _PACKAGES}
        return {
            **process.shown(self._process),
            "versions": {"python": _PYTHON} | {name: text for name, text in found.items() if text},
            "settings": in_force.to_env() if (in_force := settings.in_force()) is not None else {},
        }


def as_it_is(item: Item) -> Entry:
    """Return the entry as it is now, with the place of a wrapper among the others of its target."""
    entry = dataclasses.replace(
        item.entry, copies=[*item.entry.copies], stale=[*item.entry.stale], notes=[*item.entry.notes, *item.foreign]
    )
    if entry.state == "without effect" and item.ineffective:
        entry.notes.append(f"{INEFFECTIVE}{item.ineffective}")
    if item.true_name is not None and item.entry.state in IN_FORCE:
        entry.home = str(item.true_name.home)
        if item.true_name.is_shared():
            entry.shared_with = [*item.true_name.users()]
        else:
            entry.notes.append(f"{entry.home}, of which the target is another name, stays as it is")
            entry.home = ""
    if item.entry.state in IN_FORCE and (calls := [done.calls for done in item.done if done.calls is not None]):
        entry.ran = any(each.ran for each in calls)
    if item.applied is not None and (stand_in := item.applied.stand_in) is not None:
        for name in stand_in.going_with_it(item.applied.slots):
            cls = stand_in.implementation
            name, whose = member_name(cls, name), f"set meanwhile with a function of {cls.__module__}"
            entry.notes.append(f"{name}, {whose}: it counts as the implementation's, and goes with it")
    if _is_missed_by_the_program(item):
        entry.stale.append(_RUN_AS_MAIN)
    if item.module in importing.copied:
        entry.stale.append(_RUN_BY_NAME)
    if importing.has_another(item.module):
        entry.stale.append(_MADE_BY_HAND)
    for slot, change in item.applied.changed if item.applied is not None else ():
        wrappers = slot.wrappers
        if len(wrappers) < 2 or not any(change is wrapper for wrapper in wrappers):
            continue
        index = next(index for index, wrapper in enumerate(wrappers) if wrapper is change)
        if index:
            entry.notes.append(f"around {wrappers[index - 1].whose}")
        if index + 1 < len(wrappers):
            entry.notes.append(f"inside {wrappers[index + 1].whose}")
    return entry


def _is_missed_by_the_program(item: Item) -> bool:
    """Tell whether the module is run as the program, which gets to what is patched and does not meet the patch."""
    if item.entry.state not in IN_FORCE or not item.module or item.module != process.main_module():
        return False
    main = sys.modules["__main__"]
    if any(applied.module is main for applied in item.done):
        return False
    try:
        source = main.__spec__.loader.get_source(item.module)  # type: ignore[union-attr]
    except (AttributeError, ImportError, OSError):
        return True
    used = running.worked_with(source) if source else None
    return used is None or not used.isdisjoint(_names_of(item))


def _names_of(item: Item) -> set[str]:
    """Return the names in its module that lead to what a patch has changed."""
    target = item.patch.target
    if ":" in target:
        return {target.partition(":")[2].partition(".")[0]}
    changed = [slot.storage.owner for applied in item.done for slot, _ in applied.changed]
    return {
        name
        for name, value in (vars(item.applied.module).items() if item.applied and item.applied.module else ())
        if any(owner is part for owner in changed for part in (value, *getattr(value, "__dict__", {}).values()))
    }


def _operator_counts() -> dict[str, int]:
    tracing = sys.modules.get("ascend_overlay.npu.tracing")
    return dict(tracing.counts()) if tracing is not None else {}
