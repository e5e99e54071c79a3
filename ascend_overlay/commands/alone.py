"""A command of click that is run by itself: its errors are sentences, and its exit status is what is returned."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ascend_overlay.errors import ConfigError

WRONG_USE, INTERRUPTED = 2, 130


def run(command: click.Command, argv: Sequence[str], *, name: str, interrupted: str) -> int:
    """Run `command` with the arguments `argv`; return its exit status.

    Args:
        command: returns its status.
        argv: its arguments.
        name: what it is called.
        interrupted: what is said where somebody interrupts it.

    Returns:
        That of the command; 2 if it cannot be run as given, 130 if it was interrupted.
    """
    try:
        status = command.main(list(argv), prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return WRONG_USE
    except ConfigError as error:
        click.ClickException(str(error)).show()
        return WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        click.echo(interrupted, err=True)
        return INTERRUPTED
    return int(status or 0)
