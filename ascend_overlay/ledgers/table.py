"""Entries as a table for the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ascend_overlay.errors import printable, some_of
from ascend_overlay.ledgers.entries import ASKING, INEFFECTIVE, Entry

_STYLES = {
    "failed": "bold red",
    "displaced": "bold magenta",
    "without effect": "bold yellow",
    "applied": "green",
    "pending": "cyan",
    "skipped": "dim",
    "reverted": "yellow",
}
_WIDE = 100
"""From so many columns on, what is said of a patch has a column of its own."""
_NARROW = 30
"""With fewer columns for a target, it stands below the kind of patch."""


def as_table(title: str, entries: Sequence[Entry], *, width: int = 120) -> Table:
    """Return the entries of one process as a rich table: one row a patch, one section an overlay.

    In a terminal of less than 100 columns, what is said of a patch stands below it.
    """
    table = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    table.caption, table.caption_justify = summary(entries), "left"
    entries = worst_first(entries, lambda entry: [entry.state])
    if width < _WIDE:
        table.add_column("patch, and what or why not", overflow="fold", ratio=1)
        table.add_column("state", no_wrap=True)
        add_rows(table, entries, lambda entry: [styled(entry.state)], width=max(width - 40, 20), below=about)
        return table
    table.add_column("patch", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("what, or why not", overflow="fold", ratio=1)
    add_rows(table, entries, lambda entry: [styled(entry.state), _said(about(entry))], width=38)
    return table


def add_rows(
    table: Table,
    entries: Iterable[Entry],
    cells: Callable[[Entry], Sequence[RenderableType]],
    *,
    width: int,
    below: Callable[[Entry], list[str]] | None = None,
) -> None:
    """Add a row for each entry, in a section for each overlay.

    Args:
        table: its first column is for the patch.
        entries: the rows.
        cells: gives what follows the patch in a row.
        width: columns for a target; a longer one is broken.
        below: gives lines that stand below the patch.
    """
    source: tuple[str, ...] | None = None
    for entry in entries:
        if source != _source(entry):
            if source is not None:
                table.add_section()
            source = _source(entry)
            table.add_row(_named(entry))
        patch: RenderableType = _patch(entry, width)
        if below is not None and (lines := below(entry)):
            patch = Group(patch, Padding(_said(lines), (0, 0, 0, 4)))
        table.add_row(patch, *cells(entry))


def worst_first(entries: Sequence[Entry], states: Callable[[Entry], Iterable[str]]) -> list[Entry]:
    """Return the entries by overlay: first what asks for attention and whatever is of its overlay, machinery last."""

    def rank(entry: Entry) -> int:
        return min((ASKING.index(state) for state in states(entry) if state in ASKING), default=len(ASKING))

    sections: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        sections.setdefault(_source(entry), []).append(entry)
    ordered = sorted(sections.values(), key=lambda section: (min(map(rank, section)), section[0].machinery))
    return [entry for section in ordered for entry in sorted(section, key=rank)]


def _source(entry: Entry) -> tuple[str, str, str]:
    return entry.overlay, entry.distribution or entry.plugin, entry.version


def as_text(shown: RenderableType, *, width: int = 120) -> str:
    """Return what rich would print as plain text, `width` columns wide at most."""
    console = Console(file=io.StringIO(), width=width, color_system=None, emoji=False)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def styled(state: str) -> str:
    """Return a state in its colour."""
    style = _STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state


def _named(entry: Entry) -> Text:
    source = printable(f"{entry.distribution or entry.plugin} {entry.version}".strip())
    # Not as markup, where ":name:" may be the name of an emoji.
    if not entry.overlay:
        return Text(source)
    return Text.assemble(
        (printable(entry.overlay), "bold"), " ", (f"({source}{', machinery' if entry.machinery else ''})", "dim")
    )


def broken(target: str, width: int) -> list[str]:
    """Return a target in lines: a long one is broken between the module and the name in it, else at a dot."""
    lines = [""]
    for part in re.findall(r"[^.:]+[.:]?", target) if len(target) > width else [target]:
        if lines[-1] and (len(lines[-1]) + len(part) > width or lines[-1].endswith(":")):
            lines.append(part)
        else:
            lines[-1] += part
    return lines


def _said(lines: Sequence[str]) -> Text:
    return Text("\n".join(map(printable, lines)))


def _patch(entry: Entry, width: int) -> Text:
    kind, target = printable(entry.kind), printable(entry.target)
    if width < _NARROW:
        # Below the kind there is more room than beside it.
        return Text("\n    ".join([f"  {kind}", *broken(target, width + 11)]))
    indent = " " * 15
    return Text(f"  {kind:<12} " + f"\n{indent}".join(broken(target, width)))


def about(entry: Entry) -> list[str]:
    """Return what is said of a patch in lines: first why it is not in force, then what it does."""
    if entry.state in ("skipped", "failed", "reverted"):
        return [entry.reason]
    parts = [entry.detail.replace("ascend_overlay.overlays.", "")]
    if entry.ran is False:
        parts.append("has not run")
    if entry.seam and entry.seam != "patch":
        parts.append(entry.seam if entry.seam.startswith("in ") else f"by {entry.seam}")
    if entry.copies:
        parts.append(f"{len(entry.copies)} {'copy' if len(entry.copies) == 1 else 'copies'} re-bound")
    if else_ := entry.what_else():
        parts.append(else_)
    asking = [f"NOT re-bound: {some_of(entry.stale, '; ')}"] if entry.stale else []
    why = entry.why()
    notes = [note for note in entry.notes if not why or note.removeprefix(INEFFECTIVE) not in why]
    return [line for line in (why, "; ".join(part for part in parts if part), *asking, *notes) if line]


def summary(entries: Iterable[Entry]) -> str:
    """Return how many patches are in which state, those of machinery apart, and what they cost."""
    found = list(entries)
    parts = [_counted([entry for entry in found if not entry.machinery]) or "no patches"]
    if machinery := _counted([entry for entry in found if entry.machinery]):
        parts.append(f"machinery: {machinery}")
    milliseconds = sum(entry.seconds for entry in found) * 1000
    return "; ".join([*parts, f"{milliseconds:.0f} ms in all"])


def _counted(entries: Iterable[Entry]) -> str:
    found = list(entries)
    states: dict[str, int] = {}
    for entry in found:
        states[entry.state] = states.get(entry.state, 0) + 1
    asking = [state for state in ASKING if state in states]
    order = [*asking, *(state for state in states if state not in asking)]
    return ", ".join([*(f"{states[state]} {state}" for state in order), *_running(found)])


def _running(entries: Iterable[Entry]) -> list[str]:
    """Return how many of the wrappers that are in force have run."""
    ran = [entry.ran for entry in entries if entry.ran is not None]
    if not ran:
        return []
    return [f"{sum(ran)} of {len(ran)} {'wrapper has' if len(ran) == 1 else 'wrappers have'} run"]
