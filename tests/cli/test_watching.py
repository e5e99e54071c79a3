"""What a command shows while it fetches releases, and while it goes through them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
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


def test_what_is_gone_through_one_by_one() -> None:
    out = io.StringIO()
    with Onlooker(Console(file=out, force_terminal=True, width=100, color_system=None)) as watcher:
        taken = []
        for item in watcher.over(iter(["a", "b"]), "rele[red]ases", 2):
            # Whoever takes one prints where no bar is.
            assert watcher._progress is None
            taken.append(item)
    assert taken == ["a", "b"]
    assert all(each in out.getvalue() for each in ("rele[red]ases", "0/2", "1/2"))


def test_an_error_takes_the_bar_off() -> None:
    out = io.StringIO()
    watcher = Onlooker(Console(file=out, force_terminal=True, width=100, color_system=None))

    def fails() -> Iterator[str]:
        raise ValueError("no")
        yield ""

    with pytest.raises(ValueError, match="no"):
        list(watcher.over(fails(), "releases", 1))
    assert watcher._progress is None


def test_no_bar_elsewhere() -> None:
    out = io.StringIO()
    with Onlooker(Console(file=out, force_terminal=False)) as watcher:
        assert list(watcher.over(["a"], "releases", 1)) == ["a"]
        watcher.step("modules", 0, 3)
    assert out.getvalue() == ""
