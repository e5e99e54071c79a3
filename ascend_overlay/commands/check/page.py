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
from ascend_overlay.commands.wrapped import NARROW, put, wrapped
from ascend_overlay.couplings.overlays import OverlayFinding
from ascend_overlay.errors import printable

_STYLES = {FITS: "green", REVIEW: "yellow", BREAKS: "bold red"}
_PLACES = 3
_LEGEND = (
    "review: what it changes or leans on does something else. In brackets: its range leaves it out. "
    "What is behind a state: ascend-overlay check --vllm RELEASE, with --diff for the source."
)
_COUNTED = "unchanged: of the targets of its patches and the names that it leans on, those that are as they were."
_COUNTED_ALONE = "there: of the targets of its patches and the names that it leans on, those that are there and fit."
_DRIFTED = "drifted: what it rests on is not as in the lock. "
_SAID = {"breaking": "bold red", "behavioural": "yellow", "unknown": "magenta", "additive": "cyan", "none": "dim"}


def show(judged: Judged, console: Console, *, everything: bool, diffs: bool) -> None:
    """Print what became of each overlay on one release."""
    against = f", compared with {judged.base.version or judged.base.label}" if judged.base is not None else ""
    title = f"{judged.release.package} {judged.name}{against}"
    rows = list(_rows(judged, everything=everything))
    if console.width < NARROW:
        console.print(Text(title, "bold"))
        for name, state, text in rows:
            _print_row(name, state, text, console)
        console.print(Text(summary(judged), "italic"))
    else:
        table = Table(title=escape(title), title_justify="left", title_style="bold", caption_justify="left")
        table.caption = summary(judged)
        table.add_column("overlay", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("what, and what to look at", overflow="fold", ratio=1)
        for number, (name, state, text) in enumerate(rows):
            if name and number:
                table.add_section()
            table.add_row(Text(name), state, text)
        console.print(table)
    console.print(Text(_COUNTED if judged.base is not None else _COUNTED_ALONE, "dim"), soft_wrap=True)
    for line in about_lock(judged):
        console.print(line, soft_wrap=True)
    if diffs:
        _show_diffs(judged, console)


def _rows(judged: Judged, *, everything: bool) -> Iterator[tuple[str, Text, Text]]:
    """Yield what is said of each overlay: its name first, then rows without one."""
    for found in sorted(judged.overlays, key=lambda each: [BREAKS, REVIEW, FITS].index(verdict(each))):
        yield found.overlay.name, _state(found, judged), wrapped(_counted(found, judged), "dim")
        for remark in ([f"left out: {found.ruled_out}"] if found.ruled_out else []) + [*found.remarks, *found.doubts]:
            yield "", Text(), wrapped(remark, "yellow")
        for drifted in judged.drifted(found.overlay.name):
            yield "", Text("drifted", "bold red"), _not_as_locked(drifted)
        for each in remarks(found):
            weight = each.finding.weight
            if weight in ("breaking", "behavioural", "unknown") or everything:
                yield "", Text(weight, _SAID[weight]), _line(each)


def _print_row(name: str, state: Text, text: Text, console: Console) -> None:
    """Print a row where a table has no room."""
    head = wrapped(f"{name} " if name else "  ", "bold")
    if state:
        head.append_text(state).append(" ")
    put(console, head.append_text(text))


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
    said = []
    for state in (BREAKS, REVIEW, FITS):
        alike = [found for found in judged.overlays if verdict(found) == state]
        out = sum(found.ruled_out is not None for found in alike)
        if alike:
            left = f" ({_left_out(out, len(alike))})" if out and state == BREAKS else ""
            said.append(f"{len(alike)} {_plural(state, len(alike))}{left}")
    others = sum(found.ruled_out is not None and verdict(found) != BREAKS for found in judged.overlays)
    fit = "that does not break is" if others == 1 else "that do not break are"
    return ", ".join(said) + (f"; {others} {fit} left out by {_ranges(others)}" if others else "")


def _left_out(out: int, every: int) -> str:
    """Return how many of those that break are left out."""
    who = f"{out} of them" if out < every else "it is" if every == 1 else "all"
    return f"{who} left out by {_ranges(out)}"


def _ranges(number: int) -> str:
    return "its range" if number == 1 else "their ranges"


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
    return wrapped(printable(f"{drifted.target}: {drifted.why}, by the lock"))


def _counted(found: OverlayFinding, judged: Judged) -> str:
    """Return how many patches there are and names that they lean on, and how many of all these are as they were."""
    patches = len(found.patches)
    outside = sum(not each.in_range for each in found.patches)
    left = f" ({outside} for other releases)" if outside else ""
    leans: dict[str, bool] = {}
    for finding in found.leans:
        leans[finding.target] = leans.get(finding.target, True) and finding.weight == "none"
    targets = [each.finding.weight == "none" for each in found.patches if each.in_range]
    same = [*targets, *leans.values()]
    parts = [f"{patches} patch{'es' if patches != 1 else ''}{left}"]
    if leans:
        parts.append(f"leans on {len(leans)} name{'s' if len(leans) != 1 else ''}")
    return f"{', '.join(parts)}; {sum(same)} of {len(same)} {'unchanged' if judged.base is not None else 'there'}"


def _line(remark: Remark) -> Text:
    text = wrapped()
    text.append(f"{remark.about} ", "dim")
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
