"""`ascend-overlay new NAME`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ascend_overlay.commands import json_output
from ascend_overlay.commands.new import files, names


def run(name: str, into: Path | None, *, write: json_output.Write | None) -> int:
    """Write a plugin called `name`; return the exit status, 0.

    Args:
        name: of its module, its overlay and its distribution.
        into: its folder; default: one of its name, here.
        write: prints what was written, as data.

    Raises:
        ConfigError: the name is none or taken, or the folder is not empty.
    """
    names.see(name)
    folder = into if into is not None else Path(name)
    written = files.write(name, folder)
    if write is not None:
        write({"folder": str(folder.absolute()), "files": written})
        return 0
    click.echo(f"{folder} has a plugin with one overlay of two patches:")
    for path in written:
        click.echo(f"  {path}")
    click.echo(f"Next: cd {shlex.quote(str(folder))} && pip install --editable '.[test]' && pytest")
    return 0
