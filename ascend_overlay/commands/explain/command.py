"""`ascend-overlay explain TARGET`: what would be on a target, or what was in the processes of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from ascend_overlay import api
from ascend_overlay.commands import json_output
from ascend_overlay.commands.explain import show
from ascend_overlay.commands.explain.explanation import explain
from ascend_overlay.commands.watching import Onlooker
from ascend_overlay.errors import ConfigError
from ascend_overlay.releases import Release, find
from ascend_overlay.settings import Settings


def run(
    text: str,
    settings: Settings,
    folder: Path | None,
    *,
    wanted: str | None = None,
    write: json_output.Write | None,
    console: Console,
) -> int:
    """Print what there is to say of a target, as data by `write` where that is given; return the exit status, 0.

    Args:
        text: the target.
        settings: what would be enabled.
        folder: the ledgers of a run; None: what would be.
        wanted: the release of vLLM that it is told for; None: the installed one.
        write: prints it as data.
        console: where it is shown otherwise.

    Raises:
        OverlayError: there is no such target or release, or what would be enabled cannot be told.
    """
    release = None if wanted is None else _release(wanted)
    found = explain(text, settings, folder, lambda trouble: click.echo(f"Warning: {trouble}", err=True), release)
    if write is not None:
        write(found.to_dict())
        return 0
    show.show(found, console)
    return 0


def _release(wanted: str) -> Release:
    with Onlooker(Console(stderr=True)) as watcher:
        found = find([wanted], watcher=watcher)
    if len(found) != 1 or not found[0].version:
        which = ", ".join(each.version or "one without a number" for each in found)
        raise ConfigError(f"--vllm {wanted!r} is {which}; name one release, such as 0.33.0.")
    return found[0]


def completions(incomplete: str) -> Iterator[str]:
    """Yield what TARGET may go on as: the patched targets, with a dot where a colon would end a shell's word."""
    targets = {patch.target.replace(":", ".") for overlay in api.overlays().values() for patch in overlay.patches}
    modules = {target.rpartition(".")[0] for target in targets if "." in target}
    yield from sorted(each for each in targets | modules if each.startswith(incomplete.replace(":", ".")))
