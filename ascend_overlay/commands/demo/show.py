"""What the demo prints: progress while it works, then tables and verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ascend_overlay.commands import troubles
from ascend_overlay.commands.demo import checks
from ascend_overlay.ledgers import processes

if TYPE_CHECKING:
    from rich.status import Status

    from ascend_overlay.commands.demo.checks import Check
    from ascend_overlay.commands.demo.compare import Difference
    from ascend_overlay.commands.demo.watching import Run
    from ascend_overlay.ledgers import Ledger


def console() -> Console:
    """Return the console to print on; a pipe, which has no width, gets 120 columns."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, emoji=False)


class Progress:
    """One line for each phase that is over, and on a terminal a spinner for the one that is not."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, name: str, phase: str, seconds: float, over: bool) -> None:
        """Take note that the run `name` is, or was, in `phase` for `seconds`."""
        if over:
            self._console.print(f"  {name:<9} {phase:<17}[cyan]{seconds:6.1f} s[/]")
        elif self._status is not None:
            self._status.update(f"{name}: {phase} [cyan]{seconds:.0f} s[/]")


def header(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Print what is about to be done, and with what."""
    for label, text in lines:
        console.print(f"[bold]{label:<12}[/]{escape(text)}", soft_wrap=True)
    console.print()


def ledgers(console: Console, found: Sequence[Ledger]) -> None:
    """Print what became of every patch in every process."""
    if found:
        console.print()
        # The counts of operators get a table of their own.
        processes.show([replace(ledger, operators={}) for ledger in sorted(found, key=_order)], console)


def operators(console: Console, found: Sequence[Ledger], on_npu: Mapping[str, Mapping[str, int]] | None = None) -> None:
    """Print how often each NPU operator ran in each process, without those that are there for other models.

    Args:
        console: where to print.
        found: ledgers of the overlaid run.
        on_npu: the calls of the run on an NPU, by operator and process; they get a column.
    """
    counts = checks.operator_counts(found)
    if not counts and not on_npu:
        return
    roles = list(dict.fromkeys(str(ledger.process["role"]) for ledger in sorted(found, key=_order)))
    there = " of the overlaid run; on npu, where what a graph captures counts once" if on_npu is not None else ""
    table = _table(f"Calls of NPU operators, by process{there}")
    table.add_column("operator")
    for role in roles:
        table.add_column(role, justify="right")
    if on_npu is not None:
        table.add_column("on npu", justify="right")
    for name in sorted({*counts, *(on_npu or {})}):
        by_role, calls = counts.get(name, {}), sum((on_npu or {}).get(name, {}).values())
        if name not in checks.OPERATORS and not any(by_role.values()) and not calls:
            continue
        table.add_row(
            name, *(f"{by_role.get(role, 0):,}" for role in roles), *([] if on_npu is None else [f"{calls:,}"])
        )
    console.print()
    console.print(table)


def outputs(console: Console, name: str, differences: Sequence[Difference]) -> None:
    """Print, prompt by prompt, what the run `name` generated and how it differs from the stock run."""
    if not differences:
        return
    table = _table(f"Greedy decoding, {name} against stock (the weights are random: expect no sense)")
    table.add_column("prompt", overflow="ellipsis", no_wrap=True, max_width=34)
    table.add_column("generated", overflow="ellipsis", no_wrap=True, max_width=34)
    table.add_column("tokens agree", justify="right")
    table.add_column("max |logprob difference|", justify="right")
    for difference in differences:
        style = "green" if difference.acceptable else "bold red"
        table.add_row(
            escape(difference.prompt),
            escape(_printable(difference.text)),
            f"[{style}]{difference.agreeing} of {difference.tokens}[/]",
            f"[{style}]{difference.largest:.4f}[/]",
        )
    console.print()
    console.print(table)


def costs(console: Console, runs: Sequence[Run], rows: Sequence[Sequence[str]]) -> None:
    """Print time and memory of the runs side by side; rows are those of `cost_rows`."""
    table = _table("Time and memory")
    table.add_column("")
    for run in runs:
        table.add_column(run.name, justify="right")
    for run in runs[1:]:
        table.add_column(f"{run.name}/{runs[0].name}", justify="right")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)


def cost_rows(runs: Sequence[Run], tokens: int) -> list[tuple[str, ...]]:
    """Return the rows of `costs`: what, the figure of each run, the ratio of each but the first to the first.

    `tokens` is the number of tokens generated in all.
    """
    rows = []
    for phase in dict.fromkeys(phase for run in runs for phase in run.phases):
        rows.append(_row(phase, [run.phases.get(phase) for run in runs], _seconds))
    rows.append(_row("all, with start and exit of Python", [run.seconds for run in runs], _seconds))
    speeds = [tokens / run.phases["generate"] if "generate" in run.phases else None for run in runs]
    rows.append(_row("generated tokens per second", speeds, "{:,.0f}".format))
    rows.append(_row("peak memory of all processes", [run.peak or None for run in runs], _gigabytes))
    return rows


def log_tail(console: Console, run: Run) -> None:
    """Print the end of the log of a run that failed, and where all of it is."""
    console.print(
        f"\n[bold]The end of the log of the {run.name} run[/] (all of it: {escape(str(run.log))})", soft_wrap=True
    )
    for line in troubles.tail(run.log):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def verdicts(console: Console, found: Sequence[Check], *, npu: bool = False) -> None:
    """Print each check and the sum of them; `npu`: one of the runs was on an NPU."""
    console.print()
    width = max((len(check.name) for check in found), default=0)
    for check in found:
        mark = "[green]ok  [/]" if check.ok else "[bold red]FAIL[/]"
        console.print(f"{mark}  [bold]{check.name:<{width}}[/]  {escape(check.text)}", soft_wrap=True)
    failed = sum(not check.ok for check in found)
    console.print()
    if failed:
        console.print(f"[bold red]{failed} of {len(found)} checks failed.[/]")
    else:
        who = "overlaid vLLM, on the CPU and on the NPU, says" if npu else "overlaid vLLM says"
        console.print(f"[bold green]All {len(found)} checks passed:[/] {who} what stock vLLM says.")


def _row(name: str, values: Sequence[float | None], shown: Callable[[float], str]) -> tuple[str, ...]:
    texts = ["-" if value is None else shown(value) for value in values]
    stock = values[0]
    return name, *texts, *(f"{value / stock:.2f}" if stock and value else "-" for value in values[1:])


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold")


def _order(ledger: Ledger) -> tuple[int, int]:
    role = str(ledger.process["role"])
    return (checks.ROLES.index(role) if role in checks.ROLES else len(checks.ROLES), int(ledger.process["pid"]))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter != "\N{REPLACEMENT CHARACTER}" else "?" for letter in text)
