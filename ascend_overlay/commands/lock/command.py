"""`ascend-overlay lock`: write down what overlays rest on, so that what changes is noticed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ascend_overlay import api
from ascend_overlay.commands.check.command import chosen
from ascend_overlay.commands.check.judgement import uncollected
from ascend_overlay.commands.watching import Onlooker
from ascend_overlay.couplings.locking import locked_release
from ascend_overlay.engine.plan import OWN
from ascend_overlay.errors import ConfigError
from ascend_overlay.lockfile import Lock, public
from ascend_overlay.releases import find
from ascend_overlay.settings import Settings


def run(wanted: Sequence[str], path: Path, settings: Settings, *, only: Sequence[str], anew: bool) -> str:
    """Lock what overlays rest on in the releases `wanted`, beside what the file has of others; return what was done.

    Raises:
        OverlayError: a release is not to be had, a plugin or a name is wrong, the file cannot be read or written.
    """
    api.check_settings(settings)
    named = chosen(only)
    overlays = [overlay for overlay, _ in named.values()]
    seen = _written(path)
    before = Lock.read(path) if seen is not None and not anew else Lock()
    with Onlooker(Console(stderr=True)) as watcher:
        releases = find(wanted or ["installed"], watcher=watcher)
    nameless = next((release for release in releases if not release.version), None)
    if nameless is not None:
        raise ConfigError(
            f"{nameless.label!r} does not say which release it is, and a lock is by release; name another."
        )
    # The library's own version is not what a plugin's author locks.
    plugins = {name: version for name, version in api.distributions(list(named) if only else ()).items() if name != OWN}
    if only and before.releases.keys() - {public(release.version) for release in releases}:
        # What the file has of other releases may be theirs.
        plugins = {**before.plugins, **plugins}
    now = dataclasses.replace(before, plugins=plugins)
    with uncollected(), Onlooker(Console(stderr=True)) as watcher:
        for done, release in enumerate(releases):
            watcher.step("releases", done, len(releases))
            now = now.with_release(release.version, locked_release(overlays, release))
    if seen == now.text().encode():
        return f"{path} is as it was."
    if _written(path) != seen:
        raise ConfigError(f"somebody else wrote the lock {os.fspath(path)!r} meanwhile, and nothing is; run it again.")
    now.write(path)
    numbers = [public(release.version) for release in releases]
    newest = now.releases[numbers[-1]]
    return (
        f"{path}: {len(newest.targets)} targets and {len(newest.leans_on)} names that are leaned on in "
        f"{numbers[-1]}; locked: {', '.join(numbers)}."
    )


def _written(path: Path) -> bytes | None:
    """Return what the file has; None where there is none, or a link to none; nothing of what cannot be read."""
    if not path.is_file():
        # A device or a pipe is not waited for.
        return b"" if path.exists() else None
    try:
        return path.read_bytes()
    except OSError:
        return b""
