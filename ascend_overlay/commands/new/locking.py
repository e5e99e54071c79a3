"""The lock of a new plugin: of the release that its workflow tests with, which is known, and of the one here."""

from __future__ import annotations

import runpy
from pathlib import Path

from ascend_overlay.couplings.locking import locked_release
from ascend_overlay.errors import ReleaseError
from ascend_overlay.lockfile import NAME, Lock, LockedRelease
from ascend_overlay.overlay import Overlay
from ascend_overlay.releases import Release, find
from ascend_overlay.source.modules import Tree


def add_installed(name: str, folder: Path) -> None:
    """Add the installed vLLM to the lock of the plugin `name` in `folder`, where one is installed and has a number."""
    release = installed()
    if release is not None:
        path = folder / NAME
        Lock.read(path).with_release(release.version, of(name, folder, release)).write(path)


def installed() -> Release | None:
    """Return the vLLM that is installed here."""
    try:
        (release,) = find(["installed"])
    except ReleaseError:
        return None
    return release if release.version else None


def of(name: str, folder: Path, release: Release) -> LockedRelease:
    """Return what the plugin `name` in `folder` rests on in a release."""
    source = folder / "src" / name
    # It imports neither torch nor vLLM, and is not left among the modules of this process.
    declared: Overlay = runpy.run_path(str(source / "plugin.py"), run_name=f"{name}.plugin")["overlay"]
    return locked_release([declared], release, Tree(source, name))
