"""What a lock says of one release: the targets of overlays, and what their implementations lean on."""

from __future__ import annotations

from collections.abc import Iterable

from ascend_overlay import versions
from ascend_overlay.couplings.leaning import Leaning
from ascend_overlay.errors import ConfigError
from ascend_overlay.lock_comparison import locked, look
from ascend_overlay.lockfile import Locked, LockedRelease
from ascend_overlay.overlay import Overlay
from ascend_overlay.releases import Release
from ascend_overlay.source.atlas import Atlas
from ascend_overlay.source.beside import Beside
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

_LOCKED = frozenset({"override", "super call", "call", "registration", "attribute", "patch"})
"""Uses whose source is locked. A class that is only imported, derived from or made changes with each of its members;
what somebody leans on of these is a use of its own."""


def locked_release(overlays: Iterable[Overlay], release: Release, *beside: Tree) -> LockedRelease:
    """Return what is to be locked of a release for the overlays that are declared for it.

    Args:
        overlays: all that are locked together.
        release: the release.
        beside: packages with implementations that this process cannot import.

    Raises:
        ConfigError: a module with what is to be locked is not read.
    """
    every = list(overlays)
    chosen = [
        overlay
        for overlay in every
        if versions.in_range(overlay.ranges.get(release.package), release.version, whose=f"overlay {overlay.name!r}")
    ]
    patches = [
        patch
        for overlay in chosen
        for patch in overlay.patches
        if versions.in_range(patch.vllm, release.version, whose=patch.target)
    ]
    atlas = Atlas(Sources(Beside(release.tree, *beside)), release.package)
    leaning = Leaning(atlas, release.package, every)
    by: dict[str, set[str]] = {}
    for overlay in chosen:
        for use in leaning.of(overlay, release.version):
            if use.kind in _LOCKED and not use.guarded and ":" in use.target:
                by.setdefault(use.target, set()).add(overlay.name)
    leans: dict[str, Locked] = {}
    for target, names in by.items():
        found = look(atlas.sources, target, release.package)
        if found is not None:
            leans[target] = Locked(found.fingerprint, found.signature, found.kind, tuple(sorted(names)))
    targets = locked(patches, release)
    for module in dict.fromkeys(target.partition(":")[0] for target in (*targets, *leans)):
        if (unread := atlas.sources.unread(module)) is not None:
            raise ConfigError(
                f"{release.package} {release.version} cannot be locked: {unread}, and overlays rest on what is in it. "
                f"Use a Python that takes it, or correct the file."
            )
    return LockedRelease(targets, leans)
