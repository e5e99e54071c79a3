"""What a shell completes: names of overlays, and targets. No vLLM is imported, and an error completes nothing."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from ascend_overlay.errors import ConfigError, OverlayError, did_you_mean
from ascend_overlay.settings import PREFIX, Settings

VARIABLE = f"_{PREFIX}_COMPLETE"
"""Set by the script of a shell when it asks; the name that click looks for."""
SHELLS = ("bash", "zsh", "fish")


def overlays(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of overlays with which a list, NAME,NAME, may go on."""
    before, comma, last = incomplete.rpartition(",")
    named = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}", help=reason)
        for name, reason in _overlays().items()
        if name.startswith(last) and name not in named
    ]


def targets(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the patched targets, and their modules; with dots alone: a colon ends a word in bash."""
    _overlays()
    from ascend_overlay.commands.explain import command

    return [CompletionItem(text) for text in command.completions(incomplete)]


def script(shell: str, command: click.Command) -> str:
    """Return what a shell is to run so that it completes `command`.

    Raises:
        ConfigError: nobody knows that shell.
    """
    found = get_completion_class(shell) if shell in SHELLS else None
    if found is None:
        known = ", ".join(SHELLS)
        raise ConfigError(f"{shell!r} is no shell with completion; there are {known}.{did_you_mean(shell, SHELLS)}")
    return found(command, {}, "ascend-overlay", VARIABLE).source()


def _overlays() -> dict[str, str]:
    from ascend_overlay import api

    try:
        api.check_settings(Settings.from_env().updated(strict=False))
    except OverlayError:
        return {}
    return {name: overlay.reason for name, overlay in api.overlays().items()}
