"""The patches of a package as a table, and as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ascend_overlay.commands.wrapped import NARROW, put, wrapped
from ascend_overlay.scans.finding import CERTAIN, Finding
from ascend_overlay.scans.judging import WRONG, Verdict

_SHORT = {
    "dead": "dead",
    "key": "no such key",
    "copies": "copies missed",
    "twice": "twice",
    "signature": "signature",
    "kind": "another kind",
    "implementation": "no implementation",
    "added": "there already",
    "stash": "never put back",
}


def show(
    console: Console,
    package: str,
    releases: Sequence[str],
    found: Sequence[Verdict],
    troubles: Sequence[str],
    *,
    only_wrong: bool,
) -> None:
    """Print one table, a section a file, then a sentence for each fault, and the sum."""
    shown = [each for each in found if each.wrong or not only_wrong]
    for file, group in groupby(shown, key=lambda each: each.finding.place.file):
        if console.width < NARROW:
            _list(file, group, console)
        else:
            console.print(_table(file, group))
    for each in shown:
        for fault in each.faults:
            if fault.kind == "stash":
                continue
            style = "bold red" if fault.level == WRONG else "yellow"
            where = f" [{', '.join(fault.releases)}]" if fault.releases and len(releases) > 1 else ""
            console.print(
                f"[{style}]{fault.level}[/] {escape(str(each.finding.place))}: {escape(fault.text + where)}",
                soft_wrap=True,
            )
    for text in troubles:
        console.print(f"[yellow]not read[/] {escape(text)}", soft_wrap=True)
    console.print(escape(summary(package, releases, found)), soft_wrap=True)


def summary(package: str, releases: Sequence[str], found: Sequence[Verdict]) -> str:
    """Return the last line."""
    against = f"vLLM {', '.join(releases)}"
    if not found:
        return f"{package} patches nothing of vLLM, as far as its source tells (held against {against})."
    wrong = sum(each.wrong for each in found)
    count = f"{len(found)} patch{'' if len(found) == 1 else 'es'}"
    what = f"{wrong} of them {'is' if wrong == 1 else 'are'} wrong" if wrong else "nothing is wrong with them"
    return f"{package}: {count}, held against {against}; {what}."


def to_dict(package: str, releases: Sequence[str], found: Sequence[Verdict], troubles: Sequence[str]) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "package": package,
        "releases": list(releases),
        "wrong": sum(each.wrong for each in found),
        "not_read": list(troubles),
        "patches": [_patch(each) for each in found],
    }


def _patch(each: Verdict) -> dict[str, Any]:
    finding = each.finding
    replacement = finding.replacement
    return {
        "file": finding.place.file,
        "line": finding.place.line,
        "kind": finding.kind,
        "by": finding.by,
        "sure": finding.sure,
        "target": each.target,
        "written_as": each.place,
        "key": finding.key,
        "replacement": None if replacement is None else replacement.name or replacement.text,
        "within": finding.within,
        "conditions": list(finding.conditions),
        "helper": None if finding.via is None else str(finding.via),
        "states": each.states,
        "adds": each.adds,
        "copy": each.handled,
        "copies_missed": list(each.copies),
        "stashed": [str(place) for place in finding.stashed],
        "restored": [str(place) for place in finding.restored],
        "faults": [
            {"kind": fault.kind, "level": fault.level, "text": fault.text, "releases": list(fault.releases)}
            for fault in each.faults
        ],
    }


def _table(file: str, group: Iterable[Verdict]) -> Table:
    table = Table(title=escape(file), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, expand=True)
    table.add_column("line", justify="right", no_wrap=True)
    table.add_column("kind", overflow="fold", ratio=2)
    for name, ratio in (("target", 6), ("becomes", 4), ("faults", 3)):
        table.add_column(name, overflow="fold", ratio=ratio)
    for each in group:
        line = str(each.finding.place.line)
        table.add_row(line, escape(kind(each)), wrapped(_target(each)), wrapped(_becomes(each.finding)), _faults(each))
    return table


def _list(file: str, group: Iterable[Verdict], console: Console) -> None:
    """Print it where a table has no room."""
    put(console, wrapped(file, "bold"))
    for each in group:
        text = wrapped(f"{each.finding.place.line:>6}  {kind(each)} {_target(each)}")
        if becomes := _becomes(each.finding):
            text.append(f" becomes {becomes}", "dim")
        put(console, text)
        if each.faults:
            console.print(Padding(_faults(each), (0, 0, 0, 8)))


def kind(each: Verdict) -> str:
    """Return the kind of a patch, and what else is to be known at a glance."""
    what = "add" if each.adds and each.finding.kind == "attribute" else each.finding.kind
    what = "copy" if each.handled else what
    return what if each.finding.sure == CERTAIN else f"{what}, {each.finding.sure}"


def _target(each: Verdict) -> str:
    return f"{each.place} {each.finding.key}".rstrip()


def _becomes(finding: Finding) -> str:
    replacement = finding.replacement
    if replacement is None:
        return ""
    return replacement.name.rpartition(":")[2] or replacement.text


def _faults(each: Verdict) -> str:
    texts = []
    for fault in each.faults:
        style = "bold red" if fault.level == WRONG else "yellow"
        texts.append(f"[{style}]{_SHORT[fault.kind]}[/]")
    return ", ".join(dict.fromkeys(texts))
