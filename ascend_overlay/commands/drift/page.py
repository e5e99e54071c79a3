"""What is to be done, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ascend_overlay.commands.check.items import TODOS, By, Item
from ascend_overlay.commands.check.judgement import Judged
from ascend_overlay.commands.wrapped import NARROW, put, wrapped
from ascend_overlay.errors import printable

_STYLES = {"drop": "bold magenta", "adapt": "bold red", "review": "yellow", "nothing": "green"}
_PLACES = 3
_LEGEND = "With --diff: how the source differs. With --all: what nothing is to be done about, too."


def show(judged: Judged, items: Sequence[Item], console: Console, *, everything: bool, diffs: bool) -> None:
    """Print what is to be done, a table for each kind of it."""
    console.print(Text(printable(title(judged)), "bold"))
    console.print(Text(summary(items)))
    for todo, about in TODOS.items():
        group = [item for item in items if item.todo == todo]
        if group and (todo != "nothing" or everything):
            console.print()
            console.print(Text.assemble((f"{todo} ({len(group)})", _STYLES[todo]), f": {about}"))
            if console.width < NARROW:
                _list(group, console)
            else:
                console.print(_table(group))
        if diffs and (todo != "nothing" or everything):
            _show_diffs(group, console)
    if not (everything and diffs):
        console.print(Text(_LEGEND, "dim"), soft_wrap=True)


def title(judged: Judged) -> str:
    """Return between what drift was looked at."""
    base = judged.base.version or judged.base.label if judged.base is not None else "?"
    return f"{judged.release.package} {base} → {judged.name}"


def summary(items: Sequence[Item]) -> str:
    """Return how much is to be done."""
    counts = {todo: sum(item.todo == todo for item in items) for todo in TODOS}
    return ", ".join(f"{todo}: {count}" for todo, count in counts.items())


def _table(group: Sequence[Item]) -> Table:
    table = Table(expand=True)
    table.add_column("what", overflow="fold", ratio=3)
    table.add_column("overlays that take it", overflow="fold", ratio=2)
    for item in group:
        table.add_row(_what(item), _takers(item))
    return table


def _list(group: Sequence[Item], console: Console) -> None:
    """Print it where a table has no room."""
    for item in group:
        put(console, _what(item))
        put(console, _takers(item), 4)


def _takers(item: Item) -> Text:
    text = wrapped()
    for number, by in enumerate(item.by):
        text.append("\n" if number else "").append_text(_by(by))
    return text


def _what(item: Item) -> Text:
    text = wrapped()
    text.append(printable(item.target), "bold")
    text.append(f"\n{printable(item.why)}", "")
    if item.finding is not None and item.finding.sure != "certain":
        text.append(" (likely)", "dim")
    return text


def _by(by: By) -> Text:
    text = Text(printable(by.overlay))
    text.append(f" {printable(by.how)}", "dim")
    for line in [*by.reasons, *(f"in {where}" for where in by.where[:_PLACES])]:
        text.append(f"\n  {printable(line)}", "dim")
    if len(by.where) > _PLACES:
        text.append(f"\n  and in {len(by.where) - _PLACES} places more", "dim")
    return text


def _show_diffs(group: Sequence[Item], console: Console) -> None:
    for item in group:
        if item.diff:
            console.print(Text(f"\n{printable(item.target)}", "bold"))
            console.print(Padding(Syntax(printable(item.diff), "diff", word_wrap=True), (0, 0, 0, 2)))
