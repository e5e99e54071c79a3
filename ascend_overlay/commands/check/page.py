"""What was found, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ascend_overlay.commands.check.judgement import BREAKS, FITS, REVIEW, Judged, Remark, remarks, verdict
from ascend_overlay.couplings.overlays import OverlayFinding

_STYLES = {FITS: "green", REVIEW: "yellow", BREAKS: "bold red"}
_PLACES = 3
_LEGEND = (
    "review: what it changes or leans on does something else. In brackets: its range leaves it out. "
    "What is behind a state: ascend-overlay check --vllm RELEASE, with --diff for the source."
)
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
        table.add_row(Text(found.overlay.name), _state(found), _counted(found))
        for remark in ([f"left out: {found.ruled_out}"] if found.ruled_out else []) + list(found.remarks):
            table.add_row("", "", Text(remark, "yellow"))
        for each in remarks(found):
            weight = each.finding.weight
            if weight in ("breaking", "behavioural", "unknown") or everything:
                table.add_row("", Text(weight, _SAID[weight]), _line(each))
        table.add_section()
    console.print(table)
    if diffs:
        _show_diffs(judged, console)


@dataclass(frozen=True)
class Column:
    """What overlays do on one release: name of the overlay -> its state, as it is shown."""

    name: str
    states: Mapping[str, Text]


def column(judged: Judged) -> Column:
    """Return the states of all overlays on one release."""
    return Column(judged.name, {found.overlay.name: _state(found) for found in judged.overlays})


def grid(columns: Sequence[Column], console: Console) -> None:
    """Print overlays by releases."""
    table = Table(title="overlays by releases", title_justify="left", title_style="bold", caption_justify="left")
    table.add_column("overlay", no_wrap=True)
    for each in columns:
        table.add_column(escape(each.name), no_wrap=True)
    for name in columns[0].states:
        table.add_row(Text(name), *(each.states[name] for each in columns))
    console.print(table)
    console.print(f"[dim]{_LEGEND}[/]", soft_wrap=True)


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


def _state(found: OverlayFinding) -> Text:
    state = verdict(found)
    return Text(f"({state})" if found.ruled_out is not None else state, _STYLES[state])


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
