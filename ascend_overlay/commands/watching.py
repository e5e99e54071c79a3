"""Shows on a terminal what takes long: releases that are fetched, releases and modules that are gone through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

_Item = TypeVar("_Item")


class Onlooker:
    """A watcher for `ascend_overlay.releases.find`: a bar for each thing on a terminal, nothing of it elsewhere.

    Args:
        console: where notes and bars go; that of standard error, so that what a command prints can be read by another.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Onlooker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def note(self, sentence: str) -> None:
        """Print a sentence."""
        self._console.print(Text(sentence))

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Move the bar of a file on, by bytes."""
        self._show(what, done, total, counted=False)

    def step(self, what: str, done: int, total: int) -> None:
        """Move the bar of something on of which `done` of `total` are gone through; the bars of downloads go."""
        if what not in self._tasks:
            self.clear()
        self._show(what, done, total, counted=True)

    def over(self, items: Iterable[_Item], what: str, total: int) -> Iterator[_Item]:
        """Yield `items`, with a bar while the next one is worked out; whoever takes it has the terminal for itself."""
        iterator = iter(items)
        for done in range(total + 1):
            if done < total:
                self.step(what, done, total)
            try:
                item = next(iterator)
            except StopIteration:
                break
            finally:
                self.clear()
            yield item

    def clear(self) -> None:
        """Take the bars off the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks.clear()

    def _show(self, what: str, done: int, total: int | None, *, counted: bool) -> None:
        if not self._console.is_terminal:
            return
        if self._progress is None:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Amount(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, counted=counted)
        self._progress.update(self._tasks[what], completed=done, total=total)


class _Amount(ProgressColumn):
    """How much of something there is already: bytes, or how many."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._count = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        return self._count.render(task) if task.fields["counted"] else self._bytes.render(task)
