"""Reading a ledger folder for a command: what is no ledger there is told, and an empty folder is an error."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import click

from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers import Ledger, read_folder


def ledgers_of(folder: Path, tell: Callable[[str], object]) -> list[Ledger]:
    """Return the ledgers in `folder`; `tell` is given a sentence on each JSON file that is none.

    Raises:
        ConfigError: no file there is a ledger.
        click.ClickException: there is no file.
    """
    troubles: list[str] = []
    found = read_folder(folder, troubles)
    if troubles and not found:
        raise ConfigError("\n".join(troubles))
    for trouble in troubles:
        tell(trouble)
    if not found:
        raise click.ClickException(
            f"there is no ledger in {str(folder)!r}; write one with "
            f"ascend-overlay run --ledger {shlex.quote(str(folder))} COMMAND."
        )
    return found
