"""The ledger as a table for the terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ascend_overlay.records import Entry, Ledger

_STYLES = {"applied": "green", "pending": "cyan", "skipped": "dim", "failed": "bold red", "reverted": "yellow"}


def as_table(ledger: Ledger) -> Table:
    """Return the ledger as a rich table: one row a patch."""
    process = ledger.process
    table = Table(
        title=f"{process['role']} (pid {process['pid']})",
        title_justify="left",
        title_style="bold",
        caption=_summary(ledger),
        caption_justify="left",
        expand=False,
    )
    table.add_column("overlay", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("target", overflow="fold", ratio=3)
    table.add_column("state", no_wrap=True)
    table.add_column("what, or why not", overflow="fold", ratio=4)
    table.add_column("from", overflow="fold")
    for entry in ledger:
        style = _STYLES.get(entry.state, "")
        source = f"{entry.distribution or entry.plugin} {entry.version}".strip()
        state = f"[{style}]{entry.state}[/]"
        table.add_row(entry.overlay, entry.kind, escape(entry.target), state, escape(_about(entry)), escape(source))
    return table


def as_text(ledger: Ledger, *, width: int = 140) -> str:
    """Return the table as plain text, `width` columns wide at most."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(as_table(ledger))
    for overlay, text in ledger.notes:
        console.print(f"{overlay}: {text}", markup=False, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


def _about(entry: Entry) -> str:
    if entry.state in ("skipped", "failed", "reverted"):
        return entry.reason
    parts = [entry.detail]
    if entry.seam and entry.seam != "patch":
        parts.append(f"by {entry.seam}")
    if entry.copies:
        parts.append(f"{len(entry.copies)} {'copy' if len(entry.copies) == 1 else 'copies'} re-bound")
    if entry.stale:
        shown = "; ".join(entry.stale[:3]) + (f" and {len(entry.stale) - 3} more" if len(entry.stale) > 3 else "")
        parts.append(f"NOT re-bound: {shown}")
    parts.extend(entry.notes)
    return "; ".join(part for part in parts if part)


def _summary(ledger: Ledger) -> str:
    states: dict[str, int] = {}
    for entry in ledger:
        states[entry.state] = states.get(entry.state, 0) + 1
    text = ", ".join(f"{count} {state}" for state, count in states.items()) or "no patches"
    seconds = sum(entry.seconds for entry in ledger)
    return f"{text}; {seconds * 1000:.0f} ms in all"
