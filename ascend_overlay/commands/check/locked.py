"""What of a release is not as a lock has it: what enable() would complain of there, before it is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ascend_overlay.couplings.overlays import OverlayFinding
from ascend_overlay.engine.plan import OWN
from ascend_overlay.errors import ConfigError
from ascend_overlay.lock_comparison import asked_for, changes, look, stranger
from ascend_overlay.lockfile import Lock, Locked, public
from ascend_overlay.releases import Release
from ascend_overlay.source.modules import remembered
from ascend_overlay.source.sources import Sources


@dataclass(frozen=True)
class Drifted:
    """A name that is not as the lock has it.

    Attributes:
        target: the name.
        why: how it differs, as a phrase.
    """

    target: str
    why: str


@dataclass(frozen=True)
class Comparison:
    """One release, compared with a lock.

    Attributes:
        file: the path of the lock.
        release: the release in the lock that it is compared with; None: the lock has neither it nor an earlier one.
        troubles: sentences on the lock as a whole: a plugin or a release that it lacks.
        notes: sentences on what differs and is no trouble.
        overlays: what each overlay rests on that differs; those without any are not in it.
    """

    file: str
    release: str | None
    troubles: tuple[str, ...]
    notes: tuple[str, ...]
    overlays: Mapping[str, tuple[Drifted, ...]]

    @property
    def differs(self) -> bool:
        """Whether enable() would complain of anything."""
        return bool(self.troubles or self.overlays)


@dataclass(frozen=True)
class AgainstLock:
    """A lock that releases are compared with.

    Attributes:
        file: its path.
        lock: its contents.
        plugins: the distributions that brought overlays here, each with its version.
        own: the names of those overlays that are the library's own.
        fails: a difference is a failure: the setting `drift` is "error".
    """

    file: str
    lock: Lock
    plugins: Mapping[str, str]
    own: frozenset[str] = frozenset()
    fails: bool = True

    def see(self, releases: Iterable[Release]) -> None:
        """See that each release says which one it is.

        Raises:
            ConfigError: one does not.
        """
        for release in releases:
            if not release.version:
                raise ConfigError(
                    f"{release.label!r} does not say which release it is, and the lock {self.file!r} is by release; "
                    f"name another, or leave --lock out."
                )

    def compared(self, release: Release, overlays: Sequence[OverlayFinding], sources: Sources) -> Comparison:
        """Compare what overlays rest on in a release with the lock."""
        troubles = [
            f"{why}: lock it anew (`ascend-overlay lock`)"
            for name, version in sorted(self.plugins.items())
            if (why := stranger(name, version, self.lock.plugins, own=name == OWN)) is not None
        ]
        looked: dict[str, Locked | None] = {}

        def look_at(target: str) -> Locked | None:
            if target not in looked:
                looked[target] = look(sources, target, release.package)
            return looked[target]

        targets = {
            found.overlay.name: [each.patch.target for each in found.patches if each.in_range]
            for found in overlays
            if found.ruled_out is None
        }
        known = self.lock.of(release.version)
        name = f"{release.package} {release.version}"
        if known is None:
            if any(look_at(target) for each in targets.values() for target in each):
                troubles.append(f"it has neither {name} nor an earlier one: lock it (`ascend-overlay lock`)")
            return Comparison(self.file, None, tuple(troubles), (), {})
        number, locked = known
        absent = set()
        for found in overlays:
            overlay = found.overlay
            if overlay.name in targets:
                targets[overlay.name], less = asked_for(targets[overlay.name], locked, own=overlay.name in self.own)
                absent |= {overlay.name} if less else set()
        with remembered():
            differing = {
                overlay: tuple(Drifted(*each) for each in changes(locked, names, overlay, look_at))
                for overlay, names in targets.items()
            }
        exact = public(release.version) == public(number)
        notes = [] if exact else [f"it does not have {name}: compared with {number}"]
        if absent:
            notes.append(f"it does not have all targets of {', '.join(sorted(absent))}, which {OWN} answers for")
        return Comparison(
            self.file,
            number,
            tuple(troubles),
            tuple(notes),
            {name: found for name, found in differing.items() if found},
        )
