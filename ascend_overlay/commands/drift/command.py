"""`ascend-overlay drift`: what happened to all that overlays change and lean on, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ascend_overlay import api
from ascend_overlay.commands.check.command import chosen
from ascend_overlay.commands.check.items import items
from ascend_overlay.commands.check.judgement import judged
from ascend_overlay.commands.drift import data, html_page, page
from ascend_overlay.commands.html import writing
from ascend_overlay.commands.json_output import Write
from ascend_overlay.commands.watching import Onlooker
from ascend_overlay.errors import ConfigError, printable
from ascend_overlay.releases import Release, find
from ascend_overlay.settings import Settings


def run(
    old: str,
    new: str,
    settings: Settings,
    *,
    only: Sequence[str],
    everything: bool,
    diffs: bool,
    write: Write | None,
    html: Path | None,
    console: Console,
) -> None:
    """Tell what became, from the release `old` to `new`, of what the overlays of all plugins change and lean on.

    Args:
        old: the release that the overlays are known to work with.
        new: the other.
        settings: which plugins there are.
        only: the overlays to look at; empty: all.
        everything: in the terminal, show what nothing is to be done about, too.
        diffs: in the terminal, show how the source differs.
        write: prints a JSON document in place of tables.
        html: a file to write a page to.
        console: where tables are printed.

    Raises:
        OverlayError: a release is not to be had, both are the same, a plugin or a name is wrong, or the page cannot be
            written.
    """
    api.check_settings(settings)
    overlays = chosen(only)
    if not overlays:
        raise ConfigError("no plugin contributes an overlay, so nothing can drift; name a plugin's module by --load.")
    writing.see(html)
    with Onlooker(Console(stderr=True)) as watcher:
        before, after = _one(old, "OLD", watcher), _one(new, "NEW", watcher)
    if before.folder.resolve() == after.folder.resolve():
        raise ConfigError(f"OLD {old!r} and NEW {new!r} are the same source; name two releases.")
    for found in watcher.over(judged([after], before, overlays), "overlays and plugins", 1):
        todo = items(found)
        if html is not None:
            writing.save(html, html_page.rendered(found, todo))
        if write is not None:
            write(data.of(found, todo))
        elif html is None or everything or diffs:
            page.show(found, todo, console, everything=everything, diffs=diffs)
        else:
            console.print(Text(printable(f"{page.title(found)}: {page.summary(todo)}")))


def _one(wanted: str, which: str, watcher: Onlooker) -> Release:
    found = find([wanted], watcher=watcher)
    if len(found) != 1:
        names = ", ".join(release.version or release.label for release in found)
        raise ConfigError(f"{which} {wanted!r} is several releases: {names}; name one.")
    return found[0]
