"""`ascend-overlay status`: the processes of a run, one process that runs, or what would be enabled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ascend_overlay.commands import json_output
from ascend_overlay.commands.folder import ledgers_of
from ascend_overlay.commands.planned import planned
from ascend_overlay.commands.status import live, show
from ascend_overlay.commands.status.differences import differences
from ascend_overlay.commands.status.one import Known, known
from ascend_overlay.commands.status.records import life, record_of
from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers import Ledger
from ascend_overlay.ledgers.demands import selected
from ascend_overlay.settings import Settings, declined

if TYPE_CHECKING:
    from rich.console import Console

ALL = "all"


@dataclass(frozen=True)
class Chosen:
    """What is asked for.

    Attributes:
        folder: that of the ledgers; None: that of the settings, if they have one.
        pid: one process.
        run: the run whose processes are shown: "latest", ALL, or its name.
    """

    folder: Path | None
    pid: int | None
    run: str


def run(chosen: Chosen, settings: Settings, *, write: json_output.Write | None, console: Console) -> int:
    """Print how things stand, as data by `write` where that is given; return the exit status, 0.

    Raises:
        ConfigError: there is no such process, run or ledger.
        click.ClickException: the folder has no ledger.
    """
    if chosen.pid is not None:
        _one(chosen.pid, chosen.folder, write, console)
        return 0
    folder = chosen.folder or (Path(settings.ledger) if settings.ledger and os.path.isdir(settings.ledger) else None)
    if folder is None:
        _planned(settings, write, console)
    else:
        _folder(folder, chosen.run, write, console)
    return 0


def _one(pid: int, folder: Path | None, write: json_output.Write | None, console: Console) -> None:
    process = live.look(pid)
    if process is None:
        raise ConfigError(f"there is no process {pid} here, or it has ended; `ps -e` lists those that there are.")
    found = [known(process, folder)]
    for child in map(live.look, live.below(pid)):
        # A shell has no part in it, and this very command has none either.
        if child is not None and child.is_python and child.pid != os.getpid():
            found.append(known(child, folder if folder is not None else _path(found[0])))
    if write is not None:
        write({"processes": [each.to_dict() for each in found]})
    else:
        show.live(found, console)


def _path(found: Known) -> Path | None:
    return Path(found.folder) if found.folder is not None else None


def _folder(folder: Path, which: str, write: json_output.Write | None, console: Console) -> None:
    everything = ledgers_of(folder, lambda trouble: click.echo(f"Warning: {trouble}", err=True))
    ledgers = selected(
        everything, overlays=(), roles=(), states=(), run=None if which == ALL else which, every_run=[ALL]
    )
    silent = [process for process in live.asking(folder) if record_of(process, everything) is None]
    unlike = differences(ledgers)
    if write is not None:
        write(_document(folder, ledgers, unlike, silent))
    else:
        show.folder(ledgers, len(everything) - len(ledgers), unlike, silent, console)


def _document(
    folder: Path, ledgers: Sequence[Ledger], unlike: Sequence[str], silent: Sequence[live.Live]
) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "processes": [{"life": life(ledger), **ledger.to_dict()} for ledger in ledgers],
        "total": show.counts([entry for ledger in ledgers for entry in ledger]),
        "differences": list(unlike),
        "without_ledger": [{"pid": process.pid, "command": list(process.command)} for process in silent],
    }


def _planned(settings: Settings, write: json_output.Write | None, console: Console) -> None:
    ledger, _ = planned(settings)
    if write is not None:
        write({"switched_off": declined(), "would_be": ledger.to_dict()})
    else:
        show.planned(ledger, console, folder=settings.ledger, off=declined())
