"""`ascend-overlay explain TARGET`: what would be on a target, or what was in the processes of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ascend_overlay import api
from ascend_overlay.commands import json_output
from ascend_overlay.commands.explain import show
from ascend_overlay.commands.explain.explanation import explain
from ascend_overlay.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def run(
    text: str, settings: Settings, folder: Path | None, *, write: json_output.Write | None, console: Console
) -> int:
    """Print what there is to say of a target, as data by `write` where that is given; return the exit status, 0."""
    found = explain(text, settings, folder, lambda trouble: click.echo(f"Warning: {trouble}", err=True))
    if write is not None:
        write(found.to_dict())
        return 0
    show.show(found, console)
    return 0


def completions(incomplete: str) -> Iterator[str]:
    """Yield what TARGET may go on as: the patched targets, with a dot where a colon would end a shell's word."""
    targets = {patch.target.replace(":", ".") for overlay in api.overlays().values() for patch in overlay.patches}
    modules = {target.rpartition(".")[0] for target in targets if "." in target}
    yield from sorted(each for each in targets | modules if each.startswith(incomplete.replace(":", ".")))
