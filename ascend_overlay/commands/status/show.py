"""How things stand, on the terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ascend_overlay.commands.status import live as processes
from ascend_overlay.commands.status.one import Known
from ascend_overlay.commands.status.records import life
from ascend_overlay.errors import printable, some_of
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.ledgers.entries import STATES
from ascend_overlay.ledgers.table import styled

_ORDER = ("failed", "displaced", "without effect", "applied", "pending", "skipped", "reverted")
_STYLES = {"ok": "green", "note": "cyan", "problem": "bold red"}
_SHOWN = 40
assert set(_ORDER) == set(STATES)


def counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Return how many patches are in which state, what asks for attention first."""
    found = Counter(entry.state for entry in entries)
    return {state: found[state] for state in _ORDER if found[state]}


def folder(
    ledgers: Sequence[Ledger], earlier: int, unlike: Sequence[str], silent: Sequence[processes.Live], console: Console
) -> None:
    """Print the processes of a run, their overlays, and where they differ."""
    console.print(_processes(ledgers))
    console.print(_overlays(ledgers))
    if earlier:
        _line(console, f"{_number(earlier, 'process')} of other runs in this folder: --run all, or --run RUN", "dim")
    for process in silent:
        words = printable(shlex.join(process.command))
        _line(console, f"NO LEDGER: pid {process.pid} was told to leave one here, and has not: {words}", "bold red")
    if silent:
        _line(
            console,
            "  not imported vLLM yet, or not reached by the overlays: ascend-overlay status --pid N",
        )
    if unlike:
        _line(console, "What asks for attention, or is not alike in all processes:", "bold")
        for text in unlike[:_SHOWN]:
            _line(console, f"  {printable(text)}", "yellow")
        if len(unlike) > _SHOWN:
            _line(console, f"  and {len(unlike) - _SHOWN} more: --json has all")
    else:
        _line(console, "The processes are alike: versions, settings, overlays, and within a role the patches.")


def live(found: Sequence[Known], console: Console) -> None:
    """Print what is known of a process and of those that it started."""
    for each in found:
        process = each.process
        whose = "" if each is found[0] else f", started by {process.parent}"
        _line(console, f"pid {process.pid}{whose}: {printable(shlex.join(process.command))}", "bold")
        if process.loaded:
            _line(console, f"  in its memory: compiled parts of {', '.join(process.loaded)}")
        for status, text in each.says:
            console.print(Text.assemble("  ", (f"{status:<8}", _STYLES[status]), printable(text)), soft_wrap=True)
    if len(found) == 1:
        _line(console, "It has started no Python process that is there now.", "dim")


def planned(ledger: Ledger, console: Console, *, folder: str | None, off: bool) -> None:
    """Print what would be enabled, and how processes leave ledgers."""
    by_overlay: dict[str, list[Entry]] = {}
    for entry in ledger:
        by_overlay.setdefault(entry.overlay or entry.plugin, []).append(entry)
    on = [name for name, entries in by_overlay.items() if any(entry.state == "pending" for entry in entries)]
    out = [name for name in by_overlay if name not in on]
    if off:
        _line(console, "ASCEND_OVERLAY switches the overlays off. Without it:")
    _line(console, f"{_number(len(on), 'overlay')} would be enabled here: {', '.join(on) or 'none'}")
    for name in out:
        _line(console, f"  not {printable(name)}: {printable(by_overlay[name][0].reason)}")
    missing = f"the folder {folder!r} of the settings is not there yet" if folder else "no ledger folder is set"
    _line(console, f"Nothing is known of processes: {missing}.")
    _line(console, "Have each process leave a ledger: ascend-overlay run --ledger ledgers COMMAND, or")
    _line(console, "ASCEND_OVERLAY_LEDGER=ledgers; then: ascend-overlay status --ledger ledgers")
    _line(console, "Of one process that runs: ascend-overlay status --pid N. Each patch: ascend-overlay list")


def _processes(ledgers: Sequence[Ledger]) -> Table:
    table = Table(title=_number(len(ledgers), "process"), title_justify="left", title_style="bold")
    hosts = {str(ledger.process.get("host", "")) for ledger in ledgers}
    columns = ("role", "pid", *(["host"] if len(hosts) > 1 else []), "it", "since", "patches", "NPU operators")
    for name in columns:
        table.add_column(name, no_wrap=name in ("role", "pid"))
    for ledger in ledgers:
        process = ledger.process
        where = [printable(str(process.get("host", "")))] if len(hosts) > 1 else []
        role = printable("+".join(dict.fromkeys([process["role"], *map(str, process.get("roles") or ())])))
        calls = sum(ledger.operators.values())
        cells = [life(ledger), _clock(ledger), _states(ledger), f"{calls} calls" if calls else ""]
        table.add_row(Text(role), str(process["pid"]), *where, *cells)
    total = counts(entry for ledger in ledgers for entry in ledger)
    calls = sum(count for ledger in ledgers for count in ledger.operators.values())
    blank = [""] * (2 if len(hosts) > 1 else 1)
    table.add_section()
    table.add_row("in all", *blank, "", "", _said(total), f"{calls} calls" if calls else "")
    return table


def _overlays(ledgers: Sequence[Ledger]) -> Table:
    """Return a table with a row an overlay, a column a role: what became of its patches, and whether all agree."""
    table = Table(title="patches of each overlay", title_justify="left", title_style="bold")
    table.add_column("overlay")
    roles: dict[str, list[Ledger]] = {}
    for ledger in ledgers:
        roles.setdefault(str(ledger.process["role"]), []).append(ledger)
    for role, members in roles.items():
        table.add_column(Text(printable(f"{role} x{len(members)}" if len(members) > 1 else role)))
    for overlay in dict.fromkeys(entry.overlay for ledger in ledgers for entry in ledger if entry.overlay):
        table.add_row(Text(printable(overlay)), *(_cell(overlay, members) for members in roles.values()))
    return table


def _cell(overlay: str, members: Sequence[Ledger]) -> str:
    seen: dict[str, list[str]] = {}
    for ledger in members:
        said = _said(counts(ledger.of(overlay))) or "[bold red]not known[/]"
        seen.setdefault(said, []).append(str(ledger.process["pid"]))
    if len(seen) == 1:
        return next(iter(seen))
    return "\n".join(f"[bold reverse]{some_of(pids, limit=4)}:[/] {said}" for said, pids in seen.items())


def _states(ledger: Ledger) -> str:
    return _said(counts(ledger))


def _said(found: dict[str, int]) -> str:
    return ", ".join(f"{number} {styled(state)}" for state, number in found.items())


def _clock(ledger: Ledger) -> str:
    return printable(str(ledger.process["started"]))[:19].replace("T", " ")


def _number(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"1 {what}" if number == 1 else f"{number} {plural}"


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
