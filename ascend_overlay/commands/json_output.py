"""The option `--json` of the commands: one JSON document on standard output, and nothing else there."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from ascend_overlay.errors import ConfigError

Write = Callable[[Any], None]
"""Prints the document, which is plain data."""


def reserve() -> Write:
    """Take standard output for one document, and return the function that prints it.

    From here to the end of the process, standard error gets whatever else is written to standard output, whoever writes
    it: a plugin, vLLM's logging, a C library, a child process.

    The document is plain data. What JSON has no word for, an infinity or what is not a number, becomes a text: "inf",
    "-inf", "nan". A reader that leaves early, as in `| head -1`, has what it wants: that is no error.

    Raises:
        ConfigError: standard output is closed; the function that prints raises it, too, where the document cannot be
            written.
    """
    try:
        sys.stdout.flush()
        out = os.dup(1)
    except (AttributeError, OSError, ValueError):
        raise ConfigError("--json prints on standard output, which is closed; leave it open.") from None
    os.dup2(2, 1)
    # It would come there by that alone, but late, from a buffer.
    sys.stdout = sys.stderr

    def write(document: Any) -> None:
        text = json.dumps(_plain(document), indent=2, default=str, allow_nan=False)
        try:
            with os.fdopen(out, "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except BrokenPipeError:
            pass
        except OSError as error:
            raise ConfigError(f"the JSON cannot be written to standard output: {error.strerror}.") from error

    return write


def _reserved(_context: click.Context, _option: click.Parameter, wanted: bool) -> Write | None:
    return reserve() if wanted else None


option = click.option("--json", "write", is_flag=True, callback=_reserved, help="Print JSON in place of text.")
"""Gives the command, as its argument `write`, what prints the document; None where text is wanted."""


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
