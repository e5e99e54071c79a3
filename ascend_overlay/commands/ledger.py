"""`ascend-overlay ledger`: what happened in the processes of a run, shown and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ascend_overlay.commands import json_output
from ascend_overlay.commands.folder import ledgers_of
from ascend_overlay.errors import ConfigError, printable, usage
from ascend_overlay.ledgers import Ledger, processes
from ascend_overlay.ledgers.demands import Demands, parse_expected, selected

if TYPE_CHECKING:
    from rich.console import Console


class Choice(NamedTuple):
    """What is shown: of everything, where nothing is chosen."""

    overlays: Sequence[str]
    roles: Sequence[str]
    states: Sequence[str]
    run: str | None


def demands(expect: str | None, require: Sequence[str] | None) -> Demands:
    """Return what the options --expect and --require demand.

    Raises:
        ConfigError: an option means nothing.
    """
    expected = parse_expected(expect, whose="--expect") if expect is not None else None
    for option, found in (("--expect", expected), ("--require", require)):
        if found is not None and not found:
            raise usage(ConfigError(f"{option} names nothing; leave the option out."))
    return Demands(expected or {}, require or ())


def run(
    folder: Path,
    choice: Choice,
    demanded: Demands | None,
    *,
    each: bool,
    write: json_output.Write | None,
    console: Console,
) -> int:
    """Show the ledgers in `folder`; return the exit status: 1 where what is `demanded` is not so.

    Raises:
        ConfigError: a name of the choice does not exist, or no file there is a ledger.
        click.ClickException: there is no ledger.
    """
    troubles: list[str] = []

    def tell(trouble: str) -> None:
        troubles.append(trouble)
        click.echo(f"Warning: {trouble}", err=True)

    found = ledgers_of(folder, tell)
    # Whatever is shown, all of the run is checked.
    everything = selected(found, overlays=(), roles=(), states=(), run=choice.run)
    unmet: list[str] = []
    if demanded is not None:
        unmet = [*troubles, *demanded.unmet(everything), *_played_by_nobody(choice.roles, everything)]
    ledgers = selected(everything, overlays=choice.overlays, roles=choice.roles, states=choice.states, run=None)
    if write is not None:
        shown = [ledger.to_dict() for ledger in ledgers]
        write(shown if demanded is None else {"ok": not unmet, "unmet": unmet, "processes": shown})
    else:
        _show(console, ledgers, each=each)
        if demanded is not None:
            _tell(console, unmet, len(everything))
    return 1 if unmet else 0


def _played_by_nobody(roles: Sequence[str], ledgers: Sequence[Ledger]) -> Iterator[str]:
    """Yield what is to be said of roles that are to be seen and that no process plays: nothing was checked of them."""
    for role in roles:
        if not selected(ledgers, overlays=(), roles=[role], states=(), run=None):
            yield f"no process plays the role {role}, which --role chooses; --expect {role} demands one"


def _show(console: Console, ledgers: Sequence[Ledger], *, each: bool) -> None:
    if not each:
        processes.show(ledgers, console)
        return
    for ledger in ledgers:
        console.print(ledger)


def _tell(console: Console, unmet: Sequence[str], number: int) -> None:
    for text in unmet:
        console.print(
            f"NOT as demanded: {printable(text)}", markup=False, highlight=False, emoji=False, style="bold red"
        )
    if not unmet:
        console.print(f"All as demanded, in {number} {'process' if number == 1 else 'processes'}.", highlight=False)
