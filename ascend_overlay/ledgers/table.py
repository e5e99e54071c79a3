"""Entries as a table for the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from ascend_overlay.errors import some_of
from ascend_overlay.ledgers.entries import Entry

_STYLES = {"applied": "green", "pending": "cyan", "skipped": "dim", "failed": "bold red", "reverted": "yellow"}


def as_table(title: str, entries: Sequence[Entry]) -> Table:
    """Return the entries of one process as a rich table: one row a patch, one section an overlay."""
    table = Table(
        title=title, title_justify="left", title_style="bold", caption=summary(entries), caption_justify="left"
    )
    table.add_column("patch", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("what, or why not", overflow="fold", ratio=1)
    add_rows(table, entries, lambda entry: [styled(entry.state), escape(_about(entry))], width=38)
    return table


def add_rows(table: Table, entries: Iterable[Entry], cells: Callable[[Entry], list[str]], *, width: int) -> None:
    """Add a row for each entry, in a section for each overlay.

    Args:
        table: its first column is for the patch.
        entries: the rows.
        cells: gives what follows the patch in a row.
        width: columns for a target; a longer one is broken.
    """
    source: tuple[str, ...] | None = None
    for entry in entries:
        if source != (entry.overlay, entry.distribution or entry.plugin, entry.version):
            if source is not None:
                table.add_section()
            source = (entry.overlay, entry.distribution or entry.plugin, entry.version)
            table.add_row(_named(entry))
        table.add_row(_patch(entry, width), *cells(entry))


def as_text(shown: RenderableType, *, width: int = 120) -> str:
    """Return what rich would print as plain text, `width` columns wide at most."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def styled(state: str) -> str:
    """Return a state in its colour."""
    style = _STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state


def _named(entry: Entry) -> str:
    source = escape(f"{entry.distribution or entry.plugin} {entry.version}".strip())
    return f"[bold]{escape(entry.overlay)}[/] [dim]({source})[/]" if entry.overlay else source


def broken(target: str, width: int) -> list[str]:
    """Return a target in lines: a long one is broken between the module and the name in it, else at a dot."""
    lines = [""]
    for part in re.findall(r"[^.:]+[.:]?", target) if len(target) > width else [target]:
        if lines[-1] and (len(lines[-1]) + len(part) > width or lines[-1].endswith(":")):
            lines.append(part)
        else:
            lines[-1] += part
    return lines


def _patch(entry: Entry, width: int) -> str:
    indent = " " * 15
    return escape(f"  {entry.kind:<12} " + f"\n{indent}".join(broken(entry.target, width)))


def _about(entry: Entry) -> str:
    if entry.state in ("skipped", "failed", "reverted"):
        return entry.reason
    parts = [entry.detail.replace("ascend_overlay.overlays.", "")]
    if entry.seam and entry.seam != "patch":
        parts.append(f"by {entry.seam}")
    if entry.copies:
        parts.append(f"{len(entry.copies)} {'copy' if len(entry.copies) == 1 else 'copies'} re-bound")
    if entry.stale:
        parts.append(f"NOT re-bound: {some_of(entry.stale, '; ')}")
    parts.extend(entry.notes)
    return "; ".join(part for part in parts if part)


def summary(entries: Iterable[Entry]) -> str:
    """Return how many patches are in which state, and what they cost."""
    states: dict[str, int] = {}
    seconds = 0.0
    for entry in entries:
        states[entry.state] = states.get(entry.state, 0) + 1
        seconds += entry.seconds
    text = ", ".join(f"{count} {state}" for state, count in states.items()) or "no patches"
    return f"{text}; {seconds * 1000:.0f} ms in all"
