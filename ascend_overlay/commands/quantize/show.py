"""What `ascend-overlay quantize` prints."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ascend_overlay.commands.quantize.linears import module_of
from ascend_overlay.quantization.description import FLOAT

if TYPE_CHECKING:
    from rich.console import Console

    from ascend_overlay.commands.quantize.run import Plan, Report


class Shown:
    """Tells on a console how a run goes on: a bar on a terminal, and a line for what is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._since = 0.0

    @contextlib.contextmanager
    def phase(self, text: str) -> Iterator[None]:
        """Show that something takes a while, and how long it took if it did."""
        started = time.perf_counter()
        if self._console.is_terminal:
            with self._console.status(escape(text)):
                yield
        else:
            yield
        seconds = time.perf_counter() - started
        if seconds > 1:
            self._console.print(f"  {escape(text)}  [cyan]{seconds:.1f} s[/]")

    def begin(self, size: int) -> None:
        """Start the bar."""
        self._since = time.perf_counter()
        if self._console.is_terminal:
            columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task("", total=size)
            self._progress.start()

    def tensor(self, name: str, size: int) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=size, description=escape(name[-48:]))

    def shard(self, name: str, written: bool) -> None:
        """Print a line for a file."""
        seconds, self._since = time.perf_counter() - self._since, time.perf_counter()
        what = f"[cyan]{seconds:.1f} s[/]" if written else "was there already, verified"
        self._console.print(f"  {escape(name)}  {what}")

    def close(self) -> None:
        """Stop the bar."""
        if self._progress is not None:
            self._progress.stop()


def plan(console: Console, made: Plan) -> None:
    """Print what would be done."""
    table = Table(title="What would be quantized", title_justify="left", title_style="bold")
    for title in ("layers", "shape", "type"):
        table.add_column(title)
    table.add_column("tensors", justify="right")
    counts: Counter[tuple[str, str, str]] = Counter()
    for name, choice in made.choices.items():
        if choice.type != FLOAT:
            shape = " x ".join(map(str, made.checkpoint.tensors[name].shape))
            counts[(re.sub(r"\.\d+(?=\.)", ".*", module_of(name)), shape, choice.type)] += 1
    for (layers, shape, kind), count in counts.items():
        table.add_row(escape(layers), shape, kind, f"{count:,}")
    console.print(table)
    console.print()
    _sums(console, made)


def report(console: Console, found: Report) -> None:
    """Print what was done."""
    console.print()
    if found.calibration:
        cut = found.calibration["cut"]
        console.print(
            f"[bold]{'calibrated':<12}[/]{found.calibration['prompts']:,} prompts, "
            f"{found.calibration['tokens']:,} tokens" + (f"; {cut:,} prompts were cut" if cut else "")
        )
    _sums(console, found.plan)
    console.print(
        f"[bold]{'error':<12}[/]{found.error:.2%} of the weight at most: {escape(found.worst)}", soft_wrap=True
    )
    if found.not_copied:
        console.print(f"[bold]{'not copied':<12}[/]{escape(', '.join(found.not_copied))}", soft_wrap=True)
    console.print()
    console.print(f"Serve it with: ascend-overlay run vllm serve {escape(str(found.out))}", soft_wrap=True)


def _sums(console: Console, made: Plan) -> None:
    quantized = ", ".join(f"{count:,} layers to {kind}" for kind, count in sorted(made.quantized().items()))
    console.print(f"[bold]{'quantized':<12}[/]{quantized}", soft_wrap=True)
    label = "kept"
    for reason, count in sorted(made.kept().items(), key=lambda item: -item[1]):
        console.print(f"[bold]{label:<12}[/]{count:,} {escape(reason)}", soft_wrap=True)
        label = ""
    console.print(
        f"[bold]{'size':<12}[/]{_size(made.before)} before, {_size(made.after)} after ({made.after / made.before:.0%})"
    )
    for sentence in made.turned():
        console.print(f"[bold]{'note':<12}[/]{escape(sentence)}", soft_wrap=True)


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 1e3:.1f} kB"
