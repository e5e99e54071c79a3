"""What the command prints, as text and as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ascend_overlay.commands.verify.outcome import Outcome
from ascend_overlay.commands.verify.referee import Ruling

_TITLES = {
    "operator": "Operators, on the CPU",
    "NPU": "Operators, on the NPU",
    "layer": "Layers, overlaid, on the CPU",
    "NPU layer": "Layers, overlaid, on the NPU",
}
_STYLES = {"ok": "green", "FAIL": "bold red", "skipped": "yellow"}
_LIMIT = 5
"""Failing cases of one row that are listed."""


@dataclass(frozen=True)
class Row:
    """The cases of one operator or layer in one dtype."""

    outcomes: tuple[Outcome, ...]

    @property
    def first(self) -> Outcome:
        """One of them, for what they have in common."""
        return self.outcomes[0]

    @property
    def verdict(self) -> str:
        """FAIL if one fails; skipped if all are skipped."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        return next(verdict for verdict in ("FAIL", "ok", "skipped") if verdict in verdicts)

    @property
    def elements(self) -> int:
        """How many numbers were compared."""
        return sum(outcome.numbers.elements for outcome in self.outcomes if outcome.numbers)

    @property
    def largest(self) -> float | None:
        """The largest difference."""
        return max((outcome.numbers.largest for outcome in self.outcomes if outcome.numbers), default=None)

    @property
    def mean(self) -> float | None:
        """The mean difference of all numbers."""
        if self.largest is None or not self.elements:
            return self.largest
        sums = [outcome.numbers.mean * outcome.numbers.elements for outcome in self.outcomes if outcome.numbers]
        return sum(sums) / self.elements

    @property
    def tightest(self) -> Outcome:
        """The one that comes nearest to its tolerance, or goes farthest beyond."""
        return max(self.outcomes, key=lambda outcome: outcome.numbers.used if outcome.numbers else -1.0)


def rows(outcomes: Iterable[Outcome]) -> list[Row]:
    """Gather the outcomes of each operator or layer and dtype, those of one subject together."""
    found: dict[tuple[str, ...], dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        subject = (outcome.kind, outcome.name, outcome.overlay)
        found.setdefault(subject, {}).setdefault(outcome.dtype, []).append(outcome)
    subjects = sorted(found, key=lambda subject: list(_TITLES).index(subject[0]))
    return [Row(tuple(group)) for subject in subjects for group in found[subject].values()]


def show(console: Console, outcomes: Sequence[Outcome], ruling: Ruling | None, missing: Sequence[str]) -> None:
    """Print the table, what fails, and the sum."""
    found = rows(outcomes)
    if found:
        console.print(_table(found))
    for row in found:
        _list(console, row)
    for overlay, called in _called(outcomes).items():
        console.print(f"called under {escape(overlay)}: {', '.join(called)}", soft_wrap=True)
    for sentence in dict.fromkeys(outcome.skipped for outcome in outcomes if outcome.skipped):
        console.print(f"\n[yellow]skipped[/] {escape(sentence)}", soft_wrap=True)
    for sentence in (*(ruling.problems if ruling else ()), *missing):
        console.print(f"\n[bold red]FAIL[/] {escape(sentence)}", soft_wrap=True)
    console.print()
    if ruling is not None:
        console.print(escape(_referee(outcomes, ruling)), soft_wrap=True)
    console.print(verdict(outcomes, ruling, missing), soft_wrap=True)


def verdict(outcomes: Sequence[Outcome], ruling: Ruling | None, missing: Sequence[str]) -> str:
    """Return the last line."""
    failed = sum(not outcome.ok for outcome in outcomes)
    others = len(missing) + (len(ruling.problems) if ruling else 0)
    if failed or others:
        more = f", and {others} other {'problem' if others == 1 else 'problems'}" if others else ""
        return f"[bold red]{failed} of {len(outcomes)} cases failed{more}.[/]"
    skipped = sum(bool(outcome.skipped) for outcome in outcomes)
    text = f"[bold green]All {len(outcomes) - skipped} cases passed.[/]"
    return f"{text} [yellow]{skipped} were skipped.[/]" if skipped else text


def to_dict(
    outcomes: Sequence[Outcome], ruling: Ruling | None, missing: Sequence[str], about: dict[str, Any]
) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        **about,
        "torch_npu": None
        if ruling is None
        else {
            "asked": ruling.who,
            "meta_kernels_asked": ruling.asked,
            "remark": ruling.remark,
            "problems": list(ruling.problems),
        },
        "missing": list(missing),
        "ok": not missing and all(outcome.ok for outcome in outcomes) and not (ruling and ruling.problems),
        "cases": [outcome.to_dict() for outcome in outcomes],
    }


def _table(found: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title, justify in (
        ("operator or layer", "left"),
        ("dtype", "left"),
        ("cases", "right"),
        ("max error", "right"),
        ("mean error", "right"),
        ("rtol, atol", "left"),
        ("used", "right"),
        ("torch_npu", "left"),
        ("verdict", "left"),
    ):
        # What is too wide for the terminal is better broken than cut off: names are for copying.
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    kind = name = ""
    for row in found:
        first, tightest = row.first, row.tightest
        if first.kind != kind:
            if kind:
                table.add_section()
            table.add_row(f"[bold]{_TITLES[first.kind]}[/]")
            name = ""
        shown = "" if first.name == name else escape(f"  {first.name}")
        kind, name = first.kind, first.name
        used = tightest.numbers.used if tightest.numbers else None
        table.add_row(
            shown,
            escape(first.dtype),
            str(len(row.outcomes)),
            _number(row.largest),
            _number(row.mean),
            _tolerance(tightest),
            "-" if used is None else f"{used:.0%}" if math.isfinite(used) else "inf",
            escape(_said(row)),
            f"[{_STYLES[row.verdict]}]{row.verdict}[/]",
        )
    return table


def _called(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """Return the operators that the layers called, by overlay."""
    found: dict[str, set[str]] = {}
    for outcome in outcomes:
        if outcome.called:
            found.setdefault(outcome.overlay, set()).update(outcome.called)
    return {overlay: sorted(called) for overlay, called in found.items()}


def _said(row: Row) -> str:
    """Return what torch_npu said to the cases of a row, or how many of its operators they called."""
    if row.first.kind == "NPU":
        return "-"
    if row.first.kind in ("layer", "NPU layer"):
        called = {name for outcome in row.outcomes for name in outcome.called}
        return f"{len(called)} called" if called else "-"
    return ", ".join(dict.fromkeys(outcome.torch_npu for outcome in row.outcomes))


def _list(console: Console, row: Row) -> None:
    failing = [outcome for outcome in row.outcomes if not outcome.ok]
    for outcome in failing[:_LIMIT]:
        where = f"{outcome.name}, {outcome.dtype}, {outcome.label} (against {outcome.against})"
        for problem in outcome.problems:
            console.print(f"\n[bold red]FAIL[/] {escape(where)}: {escape(problem)}", soft_wrap=True)
    if len(failing) > _LIMIT:
        console.print(f"     and {len(failing) - _LIMIT} more cases of this row; --json prints all of them")


def _referee(outcomes: Sequence[Outcome], ruling: Ruling) -> str:
    if not ruling.asked:
        return f"Schemas were compared with {ruling.who}. {ruling.remark}"
    said = [outcome.torch_npu for outcome in outcomes if outcome.kind == "operator"]
    counts = [f"{said.count(answer)} {answer}" for answer in dict.fromkeys(said)]
    return f"Asked: {ruling.who}. Results of its meta kernels beside the reference kernels': {', '.join(counts)}."


def _tolerance(outcome: Outcome) -> str:
    text = f"{outcome.rtol:.2g}, {outcome.atol:.2g}"
    return text if outcome.units is None else f"{text}, ±{outcome.units:.2g}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"
