"""`ascend-overlay couplings`: what a package takes from vLLM, and what another release does to that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ascend_overlay import versions
from ascend_overlay.commands.check import data
from ascend_overlay.commands.check.judgement import uncollected
from ascend_overlay.commands.json_output import Write
from ascend_overlay.commands.watching import Onlooker
from ascend_overlay.commands.wrapped import wrapped
from ascend_overlay.couplings import package as reading
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import WEIGHTS, Finding
from ascend_overlay.couplings.judging import judge
from ascend_overlay.couplings.uses import Use
from ascend_overlay.errors import ConfigError
from ascend_overlay.releases import Release, find
from ascend_overlay.scans.package import opened

_STYLES = {"breaking": "bold red", "behavioural": "yellow", "unknown": "magenta", "additive": "cyan", "none": "dim"}
_TOLD = ("breaking", "behavioural", "unknown")


def run(
    wanted: str,
    releases: Sequence[str],
    *,
    everything: bool,
    write: Write | None,
    console: Console,
) -> int:
    """Say what the package `wanted` takes; with several releases, what each does to what it takes from the first.

    Returns the exit status: 1 where something breaks, 2 where nothing does and a module of the package was not read.

    Raises:
        OverlayError: the package or a release is not to be had.
    """
    package = opened(wanted)
    with Onlooker(Console(stderr=True)) as watcher:
        found = [release for each in releases or ["installed"] for release in find([each], watcher=watcher)]
        old, *others = found
        if "vllm" in package.tops:
            raise ConfigError(f"{wanted!r} is vLLM itself, or has it inside; name a package that uses it.")
        with uncollected():
            trees: dict[str, Any] = {}
            watcher.step("releases", 0, len(found))
            world = reading.atlas(package, old.tree, trees)
            taken = reading.couplings(package, world, of=old.package)
            watcher.clear()
            for sentence in package.unread:
                watcher.note(sentence)
            if not others:
                _show_uses(wanted, old, taken, package.unread, everything, write, console)
                return 0
            failed, documents = False, []
            brought = frozenset(use.target for use in taken.uses if use.kind == "patch")
            for done, new in enumerate(others, start=1):
                watcher.step("releases", done, len(found))
                earlier = versions.earlier(new.version, old.version)
                compared = Comparison(world, reading.atlas(package, new.tree, trees), brought, earlier=earlier)
                findings = sorted((judge(use, compared) for use in taken.uses), key=_order)
                watcher.clear()
                failed |= any(finding.weight == "breaking" for finding in findings)
                if write is not None:
                    documents.append(_document(old, new, findings))
                else:
                    _show(wanted, old, new, findings, everything, console)
                compared.new.forget()
    if write is not None:
        write({"package": wanted, "unread": package.unread, "releases": documents})
    return 1 if failed else 2 if package.lost else 0


def _order(finding: Finding) -> tuple[object, ...]:
    assert finding.use is not None
    return finding.rank, finding.target, finding.use.file, finding.use.line


def _document(old: Release, new: Release, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "release": new.version or new.label,
        "compared_with": old.version or old.label,
        "findings": [data.finding(each) for each in findings],
    }


def _show(
    wanted: str, old: Release, new: Release, findings: Sequence[Finding], everything: bool, console: Console
) -> None:
    title = f"{wanted} on {new.package} {new.version or new.label}, compared with {old.version or old.label}"
    table = Table(title=Text(title), title_justify="left", title_style="bold", caption_justify="left")
    counted = Counter(finding.weight for finding in findings)
    table.caption = ", ".join(f"{counted[weight]} {weight}" for weight in WEIGHTS if counted[weight]) or "nothing taken"
    table.add_column("weight", no_wrap=True)
    table.add_column("what it takes, and what became of it", overflow="fold", ratio=1)
    grouped: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        if everything or finding.weight in _TOLD:
            grouped.setdefault((finding.target, finding.weight, finding.why), []).append(finding)
    for (target, weight, why), group in grouped.items():
        uses = [finding.use for finding in group if finding.use is not None]
        text = wrapped()
        text.append(f"{', '.join(dict.fromkeys(use.kind for use in uses))} ", "dim")
        text.append(target)
        text.append(f": {why}")
        if group[0].sure != "certain":
            text.append(" (likely)", "dim")
        _add_places(text, uses)
        table.add_row(Text(weight, _STYLES[weight]), text)
    console.print(table)


def _add_places(text: Text, uses: Sequence[Use]) -> None:
    places = list(dict.fromkeys(f"{use.file}:{use.line}" for use in uses))
    for place in places[:3]:
        text.append(f"\n    {place}", "dim")
    if len(places) > 3:
        text.append(f"\n    and {len(places) - 3} places more", "dim")


def _show_uses(
    wanted: str,
    release: Release,
    taken: reading.Couplings,
    unread: Sequence[str],
    everything: bool,
    write: Write | None,
    console: Console,
) -> None:
    version = release.version or release.label
    if write is not None:
        document = [
            {"kind": use.kind, "target": use.target, "by": use.by, "file": use.file, "line": use.line}
            | {"guarded": use.guarded, "confidence": "certain" if use.sure else "likely"}
            for use in taken.uses
        ]
        write({"package": wanted, "release": version, "modules": taken.read, "unread": unread, "uses": document})
        return
    title = f"what {wanted} takes from {release.package} {version}"
    table = Table(title=Text(title), title_justify="left", title_style="bold", caption_justify="left")
    kinds = Counter(use.kind for use in taken.uses)
    table.caption = f"{len(taken.uses)} couplings in {taken.read} modules" + (
        f": {', '.join(f'{number} {kind}' for kind, number in kinds.most_common())}" if kinds else ""
    )
    table.add_column("module", overflow="fold")
    for heading in ("names", "couplings"):
        table.add_column(heading, justify="right", no_wrap=True)
    grouped: dict[str, list[Use]] = {}
    for use in taken.uses:
        grouped.setdefault(use.target.partition(":")[0], []).append(use)
    ranked = sorted(grouped.items(), key=lambda item: -len(item[1]))
    for module, uses in ranked:
        table.add_row(wrapped(module), str(len({use.target for use in uses})), str(len(uses)))
        for target in sorted({use.target for use in uses}) if everything else ():
            mine = [use for use in uses if use.target == target]
            text = wrapped(f"  {target.partition(':')[2] or target}", "dim")
            _add_places(text, mine)
            table.add_row(text, "", str(len(mine)))
    console.print(table)
