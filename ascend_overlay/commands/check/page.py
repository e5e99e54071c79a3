"""What was found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ascend_overlay.commands.check.judgement import BREAKS, FITS, REVIEW, Judged, Remark, remarks, verdict
from ascend_overlay.commands.check.locked import Drifted
from ascend_overlay.couplings.overlays import OverlayFinding
from ascend_overlay.errors import printable

_STYLES = {FITS: "green", REVIEW: "yellow", BREAKS: "bold red"}
_PLACES = 3
_LEGEND = (
    "review: what it changes or leans on does something else. In brackets: its range leaves it out. "
    "What is behind a state: ascend-overlay check --vllm RELEASE, with --diff for the source."
)
_DRIFTED = "drifted: what it rests on is not as in the lock. "
_SAID = {"breaking": "bold red", "behavioural": "yellow", "unknown": "magenta", "additive": "cyan", "none": "dim"}


def show(judged: Judged, console: Console, *, everything: bool, diffs: bool) -> None:
    """Print what became of each overlay on one release."""
    against = f", compared with {judged.base.version or judged.base.label}" if judged.base is not None else ""
    title = f"{judged.release.package} {judged.name}{against}"
    table = Table(title=escape(title), title_justify="left", title_style="bold", caption_justify="left")
    table.caption = summary(judged)
    table.add_column("overlay", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("what, and what to look at", overflow="fold", ratio=1)
    for found in sorted(judged.overlays, key=lambda each: [BREAKS, REVIEW, FITS].index(verdict(each))):
        table.add_row(Text(found.overlay.name), _state(found, judged), _counted(found))
        for remark in ([f"left out: {found.ruled_out}"] if found.ruled_out else []) + [*found.remarks, *found.doubts]:
            table.add_row("", "", Text(remark, "yellow"))
        for drifted in judged.drifted(found.overlay.name):
            table.add_row("", Text("drifted", "bold red"), _not_as_locked(drifted))
        for each in remarks(found):
            weight = each.finding.weight
            if weight in ("breaking", "behavioural", "unknown") or everything:
                table.add_row("", Text(weight, _SAID[weight]), _line(each))
        table.add_section()
    console.print(table)
    for line in about_lock(judged):
        console.print(line, soft_wrap=True)
    if diffs:
        _show_diffs(judged, console)


@dataclass(frozen=True)
class Column:
    """What overlays do on one release.

    Attributes:
        name: the release.
        states: name of the overlay -> its state, as it is shown.
        lock: what is to be said of the lock; None where there is none.
    """

    name: str
    states: Mapping[str, Text]
    lock: Sequence[Text] | None


def column(judged: Judged) -> Column:
    """Return the states of all overlays on one release."""
    states = {found.overlay.name: _state(found, judged) for found in judged.overlays}
    return Column(judged.name, states, None if judged.lock is None else list(about_lock(judged)))


def grid(columns: Sequence[Column], console: Console) -> None:
    """Print overlays by releases."""
    table = Table(title="overlays by releases", title_justify="left", title_style="bold", caption_justify="left")
    table.add_column("overlay", no_wrap=True)
    for each in columns:
        table.add_column(escape(each.name), no_wrap=True)
    for name in columns[0].states:
        table.add_row(Text(name), *(each.states[name] for each in columns))
    console.print(table)
    for each in columns:
        for line in each.lock or ():
            console.print(Text(f"{each.name}: ").append_text(line), soft_wrap=True)
    legend = _LEGEND if columns[0].lock is None else _DRIFTED + _LEGEND
    console.print(f"[dim]{legend}[/]", soft_wrap=True)


def summary(judged: Judged) -> str:
    """Return how many overlays are in which state."""
    states = [verdict(found) for found in judged.overlays]
    words = [
        f"{states.count(state)} {_plural(state, states.count(state))}"
        for state in (BREAKS, REVIEW, FITS)
        if state in states
    ]
    out = sum(found.ruled_out is not None for found in judged.overlays)
    return ", ".join(words) + (f"; {out} left out by their ranges" if out else "")


def _plural(state: str, number: int) -> str:
    return {BREAKS: "breaks" if number == 1 else "break", REVIEW: "to review", FITS: "fits" if number == 1 else "fit"}[
        state
    ]


def about_lock(judged: Judged) -> Iterator[Text]:
    """Yield what is to be said of the lock as a whole."""
    if (lock := judged.lock) is None:
        return
    for said in lock.troubles:
        yield Text.assemble(("drifted ", "bold red"), printable(f"the lock {lock.file}: {said}"))
    for said in lock.notes:
        yield Text.assemble(("note ", "yellow"), printable(f"the lock {lock.file}: {said}"))
    if not lock.differs:
        yield Text(f"All that the overlays rest on is as {lock.file} has it of {lock.release}.", "dim")


def _state(found: OverlayFinding, judged: Judged) -> Text:
    state = verdict(found)
    shown = f"({state})" if found.ruled_out is not None else state
    if judged.drifted(found.overlay.name):
        return Text(f"{shown}, drifted", "bold red")
    return Text(shown, _STYLES[state])


def _not_as_locked(drifted: Drifted) -> Text:
    return Text(printable(f"{drifted.target}: {drifted.why}, by the lock"))


def _counted(found: OverlayFinding) -> str:
    patches = len(found.patches)
    outside = sum(not each.in_range for each in found.patches)
    left = f" ({outside} for other releases)" if outside else ""
    leans = len({finding.target for finding in found.leans})
    unchanged = sum(finding.weight == "none" for finding in found.findings)
    parts = [f"{patches} patch{'es' if patches != 1 else ''}{left}"]
    if leans:
        parts.append(f"leans on {leans} name{'s' if leans != 1 else ''}")
    return f"[dim]{', '.join(parts)}; {unchanged} of {len(found.findings)} unchanged[/]"


def _line(remark: Remark) -> Text:
    text = Text(f"{remark.about} ", "dim")
    text.append(remark.finding.target)
    text.append(f": {remark.finding.why}")
    if remark.finding.sure != "certain":
        text.append(" (likely)", "dim")
    for where in remark.where[:_PLACES]:
        text.append(f"\n    in {where}", "dim")
    if len(remark.where) > _PLACES:
        text.append(f"\n    and in {len(remark.where) - _PLACES} places more", "dim")
    return text


def _show_diffs(judged: Judged, console: Console) -> None:
    seen: set[str] = set()
    for found in judged.overlays:
        for finding in (each.finding for each in remarks(found)):
            if finding.weight in ("breaking", "behavioural") and finding.change.diff and finding.target not in seen:
                seen.add(finding.target)
                console.print(Text(f"\n{found.overlay.name}: {finding.target}", "bold"))
                console.print(Padding(Syntax(finding.change.diff, "diff", word_wrap=True), (0, 0, 0, 2)))
