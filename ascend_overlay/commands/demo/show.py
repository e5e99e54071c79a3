"""What the demo prints: progress while it works, then tables and verdicts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
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
    from ascend_overlay.commands.demo.runs import Run
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


def operators(console: Console, found: Sequence[Ledger]) -> None:
    """Print how often each NPU operator ran in each process, without those that are there for other models."""
    counts = checks.operator_counts(found)
    if not counts:
        return
    roles = [str(ledger.process["role"]) for ledger in sorted(found, key=_order)]
    table = _table("Calls of NPU operators, by process")
    table.add_column("operator")
    for role in dict.fromkeys(roles):
        table.add_column(role, justify="right")
    for name, by_role in sorted(counts.items()):
        if name not in checks.OPERATORS and not any(by_role.values()):
            continue
        table.add_row(name, *(f"{by_role.get(role, 0):,}" for role in dict.fromkeys(roles)))
    console.print()
    console.print(table)


def outputs(console: Console, differences: Sequence[Difference]) -> None:
    """Print, prompt by prompt, what was generated and how the runs differ."""
    if not differences:
        return
    table = _table("Greedy decoding, overlaid against stock (the weights are random: expect no sense)")
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


def costs(console: Console, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print time and memory of the runs side by side; a row is (what, stock, overlaid, ratio)."""
    table = _table("Time and memory")
    for title, justify in (("", "left"), ("stock", "right"), ("overlaid", "right"), ("overlaid/stock", "right")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)


def cost_rows(stock: Run, overlaid: Run, tokens: int) -> list[tuple[str, str, str, str]]:
    """Return the rows of `costs`; `tokens` is the number of tokens generated in all."""
    rows = []
    for phase in dict.fromkeys([*stock.phases, *overlaid.phases]):
        rows.append(_row(phase, stock.phases.get(phase), overlaid.phases.get(phase), _seconds))
    rows.append(_row("all, with start and exit of Python", stock.seconds, overlaid.seconds, _seconds))
    before, after = (tokens / run.phases["generate"] if "generate" in run.phases else None for run in (stock, overlaid))
    rows.append(_row("generated tokens per second", before, after, "{:,.0f}".format))
    rows.append(_row("peak memory of all processes", stock.peak or None, overlaid.peak or None, _gigabytes))
    return rows


def log_tail(console: Console, run: Run) -> None:
    """Print the end of the log of a run that failed, and where all of it is."""
    console.print(
        f"\n[bold]The end of the log of the {run.name} run[/] (all of it: {escape(str(run.log))})", soft_wrap=True
    )
    for line in troubles.tail(run.log):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def verdicts(console: Console, found: Sequence[Check]) -> None:
    """Print each check and the sum of them."""
    console.print()
    for check in found:
        mark = "[green]ok  [/]" if check.ok else "[bold red]FAIL[/]"
        console.print(f"{mark}  [bold]{check.name:<11}[/]{escape(check.text)}", soft_wrap=True)
    failed = sum(not check.ok for check in found)
    console.print()
    if failed:
        console.print(f"[bold red]{failed} of {len(found)} checks failed.[/]")
    else:
        console.print(f"[bold green]All {len(found)} checks passed:[/] overlaid vLLM says what stock vLLM says.")


def _row(
    name: str, stock: float | None, overlaid: float | None, shown: Callable[[float], str]
) -> tuple[str, str, str, str]:
    texts = ["-" if value is None else shown(value) for value in (stock, overlaid)]
    ratio = f"{overlaid / stock:.2f}" if stock and overlaid else "-"
    return name, texts[0], texts[1], ratio


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
