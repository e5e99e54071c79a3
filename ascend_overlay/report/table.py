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
    """Return the ledger as a rich table: one row a patch, one section an overlay."""
    process = ledger.process
    table = Table(
        title=f"{process['role']} (pid {process['pid']})",
        title_justify="left",
        title_style="bold",
        caption=summary(ledger),
        caption_justify="left",
    )
    table.add_column("overlay", overflow="fold")
    table.add_column("kind", no_wrap=True)
    table.add_column("target", overflow="fold", ratio=5)
    table.add_column("state", no_wrap=True)
    table.add_column("what, or why not", overflow="fold", ratio=6)
    before: tuple[str, ...] | None = None
    for entry in ledger:
        source = (entry.overlay, entry.distribution or entry.plugin, entry.version)
        if before is not None and source != before:
            table.add_section()
        name = named(entry) if source != before else ""
        table.add_row(name, entry.kind, escape(broken(entry.target)), styled(entry.state), escape(_about(entry)))
        before = source
    return table


def as_text(ledger: Ledger, *, width: int = 120) -> str:
    """Return the table as plain text, `width` columns wide at most."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(ledger, console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def show(ledger: Ledger, console: Console) -> None:
    """Print the table, the notes and the counts of NPU operators on `console`."""
    console.print(as_table(ledger))
    for overlay, text in ledger.notes:
        console.print(f"note: {overlay}: {text}" if overlay else f"note: {text}", markup=False, highlight=False)
    if ledger.operators:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(ledger.operators.items()))
        console.print(f"NPU operator calls: {counts}", markup=False, highlight=False)


def styled(state: str) -> str:
    """Return a state in its colour."""
    style = _STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state


def named(entry: Entry) -> str:
    """Return the overlay and where it comes from, in two lines."""
    source = f"{entry.distribution or entry.plugin} {entry.version}".strip()
    return f"[bold]{escape(entry.overlay)}[/]\n[dim]{escape(source)}[/]" if entry.overlay else escape(source)


def broken(target: str, *, beyond: int = 36) -> str:
    """Break a long target where it reads best: between the module and the name in it."""
    module, colon, name = target.partition(":")
    return f"{module}{colon}\n  {name}" if colon and len(target) > beyond else target


def _about(entry: Entry) -> str:
    if entry.state in ("skipped", "failed", "reverted"):
        return entry.reason
    parts = [entry.detail.replace("ascend_overlay.overlays.", "")]
    if entry.seam and entry.seam != "patch":
        parts.append(f"by {entry.seam}")
    if entry.copies:
        parts.append(f"{len(entry.copies)} {'copy' if len(entry.copies) == 1 else 'copies'} re-bound")
    if entry.stale:
        shown = "; ".join(entry.stale[:3]) + (f" and {len(entry.stale) - 3} more" if len(entry.stale) > 3 else "")
        parts.append(f"NOT re-bound: {shown}")
    parts.extend(entry.notes)
    return "; ".join(part for part in parts if part)


def summary(ledger: Ledger) -> str:
    """Return how many patches are in which state, and what they cost."""
    states: dict[str, int] = {}
    for entry in ledger:
        states[entry.state] = states.get(entry.state, 0) + 1
    text = ", ".join(f"{count} {state}" for state, count in states.items()) or "no patches"
    seconds = sum(entry.seconds for entry in ledger)
    return f"{text}; {seconds * 1000:.0f} ms in all"
