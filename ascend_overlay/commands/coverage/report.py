"""The coverage as a table for the terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ascend_overlay.commands.coverage.served import INHERITED, LEFT, OUT, SERVED, UNKNOWN, Row
from ascend_overlay.ledgers.table import broken

_WIDTH = 40
_STYLES = {SERVED: "green", INHERITED: "cyan", LEFT: "dim", OUT: "yellow", UNKNOWN: "bold red"}


def show(rows: Sequence[Row], version: str, console: Console) -> None:
    """Print one table, a section a module."""
    table = Table(title=f"vLLM {version}", title_justify="left", title_style="bold", caption_justify="left")
    table.caption = summary(rows)
    for heading in ("layer or operator", "state", "overlay", "how, or why not"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "state")
    for module, group in _by_module(rows):
        table.add_section()
        table.add_row("\n".join(f"[bold]{escape(line)}[/]" for line in broken(module, _WIDTH)))
        for row in group:
            style = _STYLES[row.state]
            table.add_row(f"  {row.layer.name}", f"[{style}]{row.state}[/]", ", ".join(row.overlays), escape(row.about))
    console.print(table)
    for state, what in ((OUT, "ruled out"), (UNKNOWN, "not looked at: neither an overlay nor a reason for none")):
        found = [row.layer.target for row in rows if row.state == state]
        if found:
            console.print(f"{what}, {len(found)}:", highlight=False, style=_STYLES[state])
            for target in found:
                console.print(f"  {target}", markup=False, highlight=False, soft_wrap=True)


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the tables of docs/coverage.md."""
    for module, group in _by_module(rows):
        yield from ("", f"### {module}", "", "| | state | overlay | how, or why not |", "| --- | --- | --- | --- |")
        for row in group:
            overlays = ", ".join(f"`{name}`" for name in row.overlays)
            yield f"| `{row.layer.name}` | {row.state} | {overlays} | {row.about} |"


def summary(rows: Sequence[Row]) -> str:
    """Return how many layers are in which state."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in _STYLES if state in states)


def _by_module(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    def module(row: Row) -> str:
        return row.layer.target.partition(":")[0]

    for name, group in groupby(sorted(rows, key=module), key=module):
        yield name, list(group)
