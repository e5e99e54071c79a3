"""Progress and notes of what looks for releases, in a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Shown:
    """Shows downloads as bars, where the terminal is one, and notes as lines on standard error."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._tasks: dict[str, TaskID] = {}

    def note(self, sentence: str) -> None:
        """Print a sentence."""
        self._console.print(f"[dim]{escape(sentence)}[/]", soft_wrap=True)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Show how far something has come."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(escape(what), total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)


@contextlib.contextmanager
def shown() -> Iterator[Shown]:
    """Yield a watcher that shows what it is told on standard error."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Shown(console, progress)
