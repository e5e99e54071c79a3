"""Whether what overlays rest on is, in the vLLM that is here, what a lock has of it: read from source, not imported."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from packaging.version import InvalidVersion, Version

from ascend_overlay import process, versions
from ascend_overlay.engine import plan
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.journal import Journal, logger
from ascend_overlay.engine.plan import Item, Ruling, Unit
from ascend_overlay.engine.plugins import Failure, Origin, Plugins
from ascend_overlay.errors import LockError, PluginError, some_of
from ascend_overlay.settings import Settings

if TYPE_CHECKING:
    from ascend_overlay.lockfile import Lock, Locked, LockedRelease
    from ascend_overlay.source.sources import Sources

_ANY_LATER = "99999"
"""A release that only a range without an end admits."""
_SHOWN = 4
"""Differences that a sentence has."""


class Standing(NamedTuple):
    """How an overlay stands on a release of vLLM that is newer than all that it is declared for.

    Attributes:
        taken_for: the newest release that its lock has.
        changed: what the overlay rests on that differs since then, as phrases.
    """

    taken_for: str
    changed: tuple[str, ...]


class Drift:
    """Compares overlays with locks, during one enable(): with the one that the settings name, and those of plugins."""

    def __init__(self, plugins: Plugins, complaints: Complaints, journal: Journal) -> None:
        self._plugins, self._complaints, self._journal = plugins, complaints, journal
        self._seen: _Seen | None = None
        self._strangers: dict[Origin, str] = {}

    @contextlib.contextmanager
    def looking(self, settings: Settings) -> Iterator[None]:
        """Remember what is read until the block is left; see the plugins first, where the settings name a lock.

        Raises:
            LockError: the lock cannot be read, or does not have a plugin that is here.
        """
        self._seen, self._strangers = _Seen(), {}
        try:
            if settings.lock is not None:
                self._see_plugins(settings.lock, self._seen.lock(settings.lock), settings.drift)
            yield
        finally:
            self._seen, self._strangers = None, {}

    def ruling(self, unit: Unit, settings: Settings) -> Ruling | None:
        """Return why the lock of the settings rules a unit out, or None; what differs is complained of or noted.

        Raises:
            LockError: something differs, and the settings say that this is an error.
        """
        if settings.lock is None or self._seen is None:
            return None
        if stranger := self._strangers.get(unit.origin):
            return Ruling("drift", stranger)
        differing = self._differences(unit, settings.lock, self._seen)
        if not differing:
            return None
        reason = f"it rests on what is not as in the lock {settings.lock!r}: {some_of(differing, '; ', limit=_SHOWN)}"
        text = f"overlay {unit.name!r} ({unit.origin}) is not safe here: {reason}"
        error = LockError(
            f"{text}. Look at the changes (`ascend-overlay check`), then lock what is right (`ascend-overlay lock`), "
            f"or go on with {settings.advice('drift', 'warn')}."
        )
        return self._tell(error, unit.name, reason, settings.drift)

    def standing(self, unit: Unit) -> Standing | None:
        """Return how a unit stands on a vLLM that is newer than its plugin's lock; None where that is not the case."""
        installed = versions.release("vllm")
        if installed is None or self._seen is None or not _outside(unit, installed):
            return None
        path = self._shipped(unit.origin)
        if path is None:
            return None
        lock = self._seen.lock(path)
        number = lock.newest
        if number is None or not _newer(installed, number):
            return None
        if not versions.in_range(unit.overlay.ranges.get("vllm"), number, whose=f"overlay {unit.name!r}"):
            return None
        release = lock.releases[number]
        items = [item for item in unit.items if versions.in_range(item.patch.vllm, number, whose=item.patch.target)]
        changed = self._seen.changed([item.patch.target for item in items], unit.name, release)
        # A registration has no place in vLLM's source, and a call only a module; both lean on more.
        if not any(unit.name in each.by for each in release.leans_on.values()):
            bare = [item.patch.target for item in items if self._seen.is_bare(item.patch.target)]
            changed += [f"the lock has nothing of what {target} leans on" for target in bare]
        return Standing(number, tuple(changed))

    def note_standing(self, unit: Unit, standing: Standing) -> None:
        """Note that a unit applies to a release that it is not declared for."""
        self._journal.note(
            unit.name,
            f"vllm {versions.installed('vllm')} is newer than the releases that it is declared for; what it rests on "
            f"is as in {standing.taken_for}, so it applies",
        )

    def _differences(self, unit: Unit, path: str, seen: _Seen) -> list[str]:
        lock, installed = seen.lock(path), versions.release("vllm")
        items = [item for item in unit.items if item.entry.cause != "release"]
        if installed is None:
            return []
        found = lock.of(installed)
        if found is None:
            of_vllm = any(seen.look(item.patch.target) for item in items)
            return [f"vllm {installed} is here, and the lock has neither it nor an earlier one"] if of_vllm else []
        number, release = found
        targets, less = seen.asked_for(items, release, own=unit.origin.distribution == plan.OWN)
        if less:
            self._journal.note(
                unit.name,
                f"the lock {path!r} does not have all of its targets: ascend_overlay says for which releases it is",
            )
        differing = seen.changed(targets, unit.name, release)
        if not _newer(installed, number):
            return differing
        if not differing:
            self._journal.note(
                unit.name, f"the lock does not have vllm {installed}; what the overlay rests on is as in {number}"
            )
        return [f"{each} since {number}" for each in differing]

    def _see_plugins(self, path: str, lock: Lock, drift: str) -> None:
        from ascend_overlay.lock_comparison import stranger

        for origin in self._plugins.origins():
            name = origin.distribution
            reason = stranger(name, origin.version, lock.plugins, own=name == plan.OWN)
            if reason is None:
                continue
            error = LockError(
                f"{origin} is not what the lock {path!r} has: {reason}. Lock it (`ascend-overlay lock`), leave it out "
                f"with ASCEND_OVERLAY_PLUGINS=-{origin.plugin}, or go on with "
                f"{self._complaints.settings.advice('drift', 'warn')}."
            )
            if self._tell(error, "", f"{origin}: {reason}", drift):
                self._strangers[origin] = reason

    def _tell(self, error: LockError, overlay: str, reason: str, drift: str) -> Ruling | None:
        if drift == "error":
            self._complaints.complain(error, overlay)
            return Ruling("drift", reason)
        # The children would say it again.
        if drift == "warn" and process.role() == "main":
            logger.warning(str(error))
        self._journal.note(overlay, reason)
        return None

    def _shipped(self, origin: Origin) -> str | None:
        """Return the path of the lock that a plugin comes with."""
        assert self._seen is not None
        if self._seen.shipped is None:
            self._seen.shipped = {}
            for whose, answer in self._plugins.each("ascend_overlay_lock"):
                if isinstance(answer, Failure):
                    self._complaints.complain(answer.error)
                elif isinstance(answer, (str, os.PathLike)):
                    self._seen.shipped[whose] = os.fspath(answer)
                else:
                    text = f"{whose} returns {answer!r} from its hook ascend_overlay_lock; return the path of a lock."
                    self._complaints.complain(PluginError(text))
        return self._seen.shipped.get(origin)


class _Seen:
    """What was read during one enable()."""

    def __init__(self) -> None:
        self.shipped: dict[Origin, str] | None = None
        self._locks: dict[str, Lock] = {}
        self._looked: dict[str, Locked | None] = {}

    @functools.cached_property
    def _sources(self) -> Sources:
        from ascend_overlay.source.sources import Sources

        return Sources()

    def lock(self, path: str) -> Lock:
        """Return the lock of that path, read once."""
        if path not in self._locks:
            from ascend_overlay.lockfile import Lock

            self._locks[path] = Lock.read(path)
        return self._locks[path]

    def look(self, target: str) -> Locked | None:
        """Return what a target is in the vLLM that is here; None where it is none of vLLM's."""
        if target not in self._looked:
            from ascend_overlay.lock_comparison import look

            self._looked[target] = look(self._sources, target)
        return self._looked[target]

    def is_bare(self, target: str) -> bool:
        """Tell whether a target has no source of vLLM's that could be compared."""
        found = self.look(target)
        return found is None or found.kind == "module"

    @staticmethod
    def asked_for(items: Iterable[Item], release: LockedRelease, *, own: bool) -> tuple[list[str], bool]:
        """Return the targets that a lock is asked for, and whether there are others."""
        from ascend_overlay.lock_comparison import asked_for

        return asked_for((item.patch.target for item in items), release, own=own)

    def changed(self, targets: Iterable[str], overlay: str, release: LockedRelease) -> list[str]:
        """Return what of `targets`, and of what the overlay leans on, is not as in `release`."""
        from ascend_overlay.lock_comparison import changes
        from ascend_overlay.source.modules import remembered

        with remembered():
            found = list(changes(release, targets, overlay, self.look))
        return [f"{name} {why}" for name, why in found]


def _outside(unit: Unit, installed: str) -> bool:
    """Tell whether the unit, or a patch of it, was not made with the installed release in mind.

    Of an overlay whose range ends, and ends behind it, patches for some releases only are alternatives to each other.
    """
    takes = functools.partial(versions.in_range, whose=f"overlay {unit.name!r}")
    whole = unit.overlay.ranges.get("vllm")
    if not takes(whole, installed):
        return True
    ends = not takes(whole, _ANY_LATER)
    return not ends and not all(takes(item.patch.vllm, installed) for item in unit.items)


def _newer(installed: str, number: str) -> bool:
    """Tell whether the installed release comes after another; a local label does not count."""
    try:
        return Version(Version(installed).public) > Version(number)
    except InvalidVersion:
        return False
