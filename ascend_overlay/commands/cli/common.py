"""What the commands share: options, names in them, a terminal, and how an error is told."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ascend_overlay.commands import alone, completing
from ascend_overlay.errors import ConfigError, OverlayError, usage

if TYPE_CHECKING:
    from rich.console import Console

    from ascend_overlay.ledgers import Ledger


class Listed(click.Option):
    """An option whose values are separated by commas, and which may be given more than once; it is one text then."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords | {"multiple": True})

    def process_value(self, ctx: click.Context, value: Any) -> str | None:
        """Return all that was given, separated by commas; None where nothing was."""
        values = super().process_value(ctx, value)
        if len(values or ()) > 1 and not all(names(each) for each in values):
            # An empty variable of a shell, beside which the others would hide that it was meant to name something.
            text = f"{self.opts[0]} is given more than once, and once it names nothing; leave that one out."
            raise usage(ConfigError(text))
        return ",".join(values) if values else None


class Subcommand(click.Command):
    """Refuses an option that is given twice and takes one value: the first would be gone without a word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for each in given:
            one = isinstance(each, click.Option) and not (each.multiple or each.count or each.is_flag)
            if one and given.count(each) > 1:
                raise click.UsageError(f"{each.opts[0]} is given more than once, and takes one value.", ctx)
        return super().parse_args(ctx, args)


LOAD = click.option("--load", cls=Listed, metavar="MODULE,...", help="Register these modules as plugins.")
OVERLAY_NAMES: dict[str, Any] = {"shell_complete": completing.overlays}
"""For options that name overlays."""
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


_READER_LEFT = 128 + signal.SIGPIPE
_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _leave_output() -> None:
    """Let go of standard output, so that what is left in its buffer is no error at the end of the process."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class Group(click.Group):
    """Shows an OverlayError as what it is, a sentence for the user, and leaves with status 1, or 2 for a wrong usage.

    One that is interrupted has no answer: it leaves with status 130, as what a shell interrupts does. Neither has one
    whose reader left before it was said (`| head -1`), with 141, or that cannot write what it says, with 2.
    """

    command_class = Subcommand

    def invoke(self, ctx: click.Context) -> Any:
        # What a terminal or a locale has no character for is shown as "?".
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except OverlayError as error:
            raise (_Unanswered if error.is_usage else click.ClickException)(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Interrupted before it had an answer.", err=True)
            ctx.exit(alone.INTERRUPTED)
        except BrokenPipeError:
            _leave_output()
            ctx.exit(_READER_LEFT)
        except OSError as error:
            if error.filename is not None or error.errno not in _UNWRITTEN:
                raise
            _leave_output()
            raise _Unanswered(f"standard output takes no more of what is said: {error.strerror}.") from error


class _Unanswered(click.ClickException):
    """A question that cannot be answered, where status 1 is an answer."""

    exit_code = 2


@contextlib.contextmanager
def status_2() -> Iterator[None]:
    """Leave with status 2 at an error, where 1 is an answer."""
    try:
        yield
    except OverlayError as error:
        raise _Unanswered(str(error)) from error


def overlay_names(text: str | None, option: str) -> list[str] | None:
    """Return the names of overlays in an option, which an empty variable of a shell has none of."""
    found = names(text)
    if found == []:
        raise usage(ConfigError(f"{option} names no overlay; leave the option out."))
    return found


def names(text: str | None) -> list[str] | None:
    """Return the names in an option; None where it is not given."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def option_of(setting: str) -> str:
    """Return the option that a setting is given by."""
    return f"--{setting.replace('_', '-')}"


def show_ledgers(ledgers: Iterable[Ledger]) -> None:
    """Print ledgers as tables."""
    console = terminal()
    for ledger in ledgers:
        console.print(ledger)


def terminal(*, highlight: bool = True) -> Console:
    """Return where tables are printed."""
    from rich.console import Console

    # A pipe has no width; the 80 columns that rich assumes are too few for targets.
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Terminal(width=None if known else 120, highlight=highlight, emoji=False)
