"""What a command shows while releases are fetched."""

from __future__ import annotations

import io

from rich.console import Console

from ascend_overlay.commands.watching import Onlooker


def shown(*, terminal: bool) -> str:
    """Return what is written while a file is fetched."""
    out = io.StringIO()
    with Onlooker(Console(file=out, force_terminal=terminal, width=100, color_system=None)) as watcher:
        watcher.note("the index [red] could not be asked.")
        watcher.progress("vllm-[red]0.33.0.tar.gz", 0, None)
        for done in (10_000_000, 47_000_000):
            watcher.progress("vllm-[red]0.33.0.tar.gz", done, 47_000_000)
    return out.getvalue()


def test_a_bar_on_a_terminal() -> None:
    text = shown(terminal=True)
    assert "vllm-[red]0.33.0.tar.gz" in text and "47.0/47.0 MB" in text
    assert "the index [red] could not be asked." in text


def test_notes_alone_elsewhere() -> None:
    assert shown(terminal=False) == "the index [red] could not be asked.\n"
