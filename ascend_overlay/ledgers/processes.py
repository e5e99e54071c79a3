"""The ledgers of all processes of a run as one table: a row a patch, a column a kind of process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ascend_overlay.errors import printable
from ascend_overlay.ledgers.demands import named
from ascend_overlay.ledgers.entries import ASKING, SEEN, Entry
from ascend_overlay.ledgers.ledger import Ledger
from ascend_overlay.ledgers.table import add_rows, styled, summary, worst_first

_Row = tuple[str, str, str, str, str, str]
_LEAST = 9
"""So many columns beside the kind of patch are enough for targets, which then stand below it."""


def as_table(ledgers: Sequence[Ledger], *, width: int = 120) -> Table:
    """Return one table for all `ledgers`: what became of each patch in each process.

    Processes of one role in which the same happened share a column. In a narrow terminal it is the targets that are
    broken, never the states.
    """
    columns = _columns(ledgers)
    title = "1 process" if len(ledgers) == 1 else f"{len(ledgers)} processes"
    table = Table(title=title, title_justify="left", title_style="bold")
    widths = [max(map(len, (heading, *states.values()))) for heading, states in columns]
    room = width - 19 - sum(longest + 3 for longest in widths)
    # Where not even that is enough, everything is cut alike.
    fits = room >= _LEAST
    table.add_column("patch", overflow="fold" if fits else "ellipsis", no_wrap=not fits)
    for (heading, _), longest in zip(columns, widths, strict=True):
        table.add_column(Text(heading), no_wrap=True, min_width=longest if fits else None)
    samples = worst_first(_samples(ledgers), lambda entry: [states.get(_row(entry), "") for _, states in columns])
    room = min(room, 54) if fits else 54
    add_rows(table, samples, lambda entry: [styled(states.get(_row(entry), "")) for _, states in columns], width=room)
    return table


def show(ledgers: Sequence[Ledger], console: Console) -> None:
    """Print the table, and below it a line for each process and for each thing that asks for attention."""
    console.print(as_table(ledgers, width=console.width))
    for ledger in ledgers:
        text = f"{named(ledger)}: {summary(ledger)}"
        if ledger.operators:
            text += f"; NPU operator calls: {ledger.operator_calls()}"
        console.print(printable(text), markup=False, highlight=False, emoji=False)
    for line in _remarks(ledgers):
        console.print(printable(line), markup=False, highlight=False, emoji=False)


def _columns(ledgers: Iterable[Ledger]) -> list[tuple[str, dict[_Row, str]]]:
    groups: list[tuple[str, dict[_Row, str], list[int]]] = []
    for ledger in ledgers:
        role, pid = printable(ledger.process["role"]), ledger.process["pid"]
        states = {_row(entry): entry.state for entry in ledger}
        for known, same, pids in groups:
            if known == role and same == states:
                pids.append(pid)
                break
        else:
            groups.append((role, states, [pid]))
    titles = [f"{role} x{len(pids)}" if len(pids) > 1 else role for role, _, pids in groups]
    return [
        (f"{title} {pids[0]}" if titles.count(title) > 1 else title, states)
        for title, (_, states, pids) in zip(titles, groups, strict=True)
    ]


def _samples(ledgers: Iterable[Ledger]) -> list[Entry]:
    """Return one entry for each patch that any process knows."""
    samples: dict[_Row, Entry] = {}
    for ledger in ledgers:
        for entry in ledger:
            samples.setdefault(_row(entry), entry)
    return list(samples.values())


def _row(entry: Entry) -> _Row:
    return (entry.overlay, entry.distribution or entry.plugin, entry.version, entry.kind, entry.target, entry.detail)


def _remarks(ledgers: Iterable[Ledger]) -> list[str]:
    """Return what a reader must not miss, each once, with the roles of the processes that say so."""
    said: dict[str, list[str]] = {}
    for ledger in ledgers:
        role = str(ledger.process["role"])
        lines = _not_in_force(ledger)
        lines += [f"changed by others: {name}" for name in _changed_by_others(ledger)]
        lines += [f"{entry.overlay}: {entry.target}: {text}" for entry in ledger if (text := entry.what_else())]
        lines += [f"NOT re-bound: {entry.overlay}: {entry.target}: {held}" for entry in ledger for held in entry.stale]
        lines += ledger.remarks()
        for line in lines:
            roles = said.setdefault(line, [])
            if role not in roles:
                roles.append(role)
    return [f"{line} [{', '.join(roles)}]" for line, roles in sorted(said.items(), key=_urgency)]


def _urgency(said: tuple[str, list[str]]) -> int:
    """Return the place of a line among the others, which stay in their order."""
    state = said[0].partition(":")[0]
    return ASKING.index(state) if state in ASKING else len(ASKING)


def _changed_by_others(ledger: Ledger) -> list[str]:
    """Return whose changes lie around patches that are in force."""
    applied = [entry for entry in ledger if entry.state == "applied"]
    return [f"{entry.overlay}: {entry.target}: {_undated(text)}" for entry in applied for text in entry.foreign()]


def _undated(text: str) -> str:
    """Return a note without the time, which is another in each process."""
    return "; ".join(part for part in text.split("; ") if not part.startswith(SEEN))


def _not_in_force(ledger: Ledger) -> list[str]:
    """Return what is not in force and why; an overlay that is out as a whole, in one line."""
    targets: dict[tuple[str, str, str], list[str]] = {}
    for entry in ledger:
        if why := _undated(entry.why()):
            targets.setdefault((entry.state, entry.overlay or entry.plugin, why), []).append(entry.target)
    lines = []
    for (state, name, reason), out in targets.items():
        whole = len(out) > 1 and len(out) == len(ledger.of(name))
        lines += [f"{state}: {name}: {reason}"] if whole else [f"{state}: {name}: {target}: {reason}" for target in out]
    return lines
