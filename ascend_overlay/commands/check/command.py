"""`ascend-overlay check`: which overlays a release of vLLM breaks, without importing vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ascend_overlay import api
from ascend_overlay.commands.check import data, github, html_page, page
from ascend_overlay.commands.check.judgement import judged
from ascend_overlay.commands.check.locked import AgainstLock
from ascend_overlay.commands.html import writing
from ascend_overlay.commands.json_output import Write
from ascend_overlay.commands.watching import Onlooker
from ascend_overlay.engine.plan import OWN
from ascend_overlay.errors import ConfigError, ReleaseError
from ascend_overlay.lockfile import Lock
from ascend_overlay.overlay import Overlay
from ascend_overlay.releases import Release, find
from ascend_overlay.settings import Settings


def run(
    wanted: Sequence[str],
    base: str | None,
    settings: Settings,
    *,
    only: Sequence[str],
    ranges: bool,
    everything: bool,
    diffs: bool,
    form: str,
    write: Write | None,
    html: Path | None,
    console: Console,
) -> int:
    """Judge the overlays of all plugins on the releases `wanted`; return 1 where one breaks or is left out.

    With a lock in the settings, what is not as in it is told, too, and is a failure unless the settings say otherwise.

    Raises:
        OverlayError: a release is not to be had, a plugin or a name is wrong, or the lock cannot be read.
    """
    api.check_settings(settings)
    overlays = chosen(only)
    lock = None
    if settings.lock is not None:
        lock = AgainstLock(
            settings.lock,
            Lock.read(settings.lock),
            api.distributions(list(overlays)),
            frozenset(name for name in overlays if OWN in api.distributions([name])),
            settings.drift == "error",
        )
    writing.see(html)
    failed, drift = False, "error" if lock is None or lock.fails else "notice"
    documents: list[dict[str, Any]] = []
    columns: list[page.Column] = []
    cells: list[html_page.Release] = []
    with Onlooker(Console(stderr=True)) as watcher:
        releases = find(wanted or ["installed"], watcher=watcher)
        if lock is not None:
            lock.see(releases)
        start = base_of(base, releases, watcher)
        for each in watcher.over(judged(releases, start, overlays, lock), "releases", len(releases)):
            failed |= each.fails(ranges=ranges) or (lock is not None and lock.fails and each.drifts)
            if html is not None:
                cells.append(html_page.release(each))
            if form == "github":
                for line in github.lines(each, ranges=ranges, drift=drift):
                    click.echo(line)
            elif write is not None:
                documents.append(data.of(each, diffs=diffs))
            else:
                columns.append(page.column(each))
                if len(releases) == 1 or everything or diffs:
                    page.show(each, console, everything=everything, diffs=diffs)
    if html is not None:
        writing.save(html, html_page.grid(cells, releases[0].package))
    if write is not None:
        write({"releases": documents})
    elif len(columns) > 1:
        page.grid(columns, console)
    return int(failed)


def chosen(only: Sequence[str]) -> dict[str, tuple[Overlay, str]]:
    """Return the overlays of all plugins, or those of them that are named, each with who contributes it.

    Raises:
        ConfigError: a name is none.
    """
    known = dict(api.contributed())
    for name in only:
        api.see_known(name, "--only")
    return {name: found for name, found in known.items() if not only or name in only}


def base_of(wanted: str | None, releases: Sequence[Release], watcher: Onlooker) -> Release | None:
    """Return what the releases are compared with: what was asked for, what is installed, or nothing."""
    if wanted is not None:
        found = find([wanted], watcher=watcher)
        if len(found) != 1:
            names = ", ".join(release.version or release.label for release in found)
            raise ConfigError(f"--base {wanted!r} is several releases: {names}; name one.")
        return found[0]
    try:
        return find(["installed"], watcher=watcher)[0]
    except ReleaseError:
        if len(releases) > 1:
            watcher.note(f"No vLLM is installed here: compared with {releases[0].label}, the oldest of those named.")
            return releases[0]
        watcher.note("No vLLM is installed here: --base RELEASE says what to compare with.")
        return None
