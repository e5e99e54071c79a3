"""docs/releases.md: `python -m tests.each_release.page` writes it anew, with what the last `tox run -m releases` found.

The table of overlays by releases is what the overlays declare. The other one is of the runs, whose results pytest left
in .tox; where a release was not run again, its row stays.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from ascend_overlay import versions
from ascend_overlay.overlay import Overlay
from ascend_overlay.overlays import ascend_overlay_overlays
from ascend_overlay.patches import Patch

from .releases import BUILT_OVER, RELEASES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "releases.md"


def overlays() -> list[Overlay]:
    """Return the built-in overlays, those that users choose first."""
    return sorted(ascend_overlay_overlays(), key=lambda overlay: (overlay.machinery, overlay.name))


def left_out(overlay: Overlay, release: str) -> list[Patch] | None:
    """Return the patches of an overlay that a release has nothing for yet; None: it is not for the release at all.

    Of several patches of one target, or by one implementation, each for some releases, one is enough. What a patch did
    for earlier releases, vLLM does by itself.
    """
    if not versions.in_range(overlay.ranges.get("vllm"), release, whose=overlay.name):
        return None
    later = RELEASES[RELEASES.index(release) + 1 :]
    inside = {what for patch in overlay.patches if _takes(overlay, patch, release) for what in _does(patch)}
    return [
        patch
        for patch in overlay.patches
        if inside.isdisjoint(_does(patch)) and any(_takes(overlay, patch, each) for each in later)
    ]


def _takes(overlay: Overlay, patch: Patch, release: str) -> bool:
    return versions.in_range(patch.vllm, release, whose=overlay.name)


def _does(patch: Patch) -> tuple[tuple[str, str], tuple[str, str]]:
    return (patch.kind, patch.key), (patch.kind, patch.describe())


def matrix() -> Iterator[str]:
    """Yield the lines of the table of overlays by releases, and what is behind a number in it."""
    yield f"| overlay | {' | '.join(RELEASES)} |"
    yield f"| --- |{' --- |' * len(RELEASES)}"
    notes: list[str] = []
    for overlay in overlays():
        cells = []
        for release in RELEASES:
            found = left_out(overlay, release)
            if found is None:
                cells.append("none")
            elif not found:
                cells.append("full")
            else:
                note = ", ".join(f"`{patch.target}` ({patch.vllm})" for patch in found)
                if note not in notes:
                    notes.append(note)
                cells.append(f"part [{notes.index(note) + 1}]")
        yield f"| {overlay.name}{', machinery' if overlay.machinery else ''} | {' | '.join(cells)} |"
    yield ""
    for number, note in enumerate(notes, 1):
        yield f"{number}. without {note}"


def row(path: Path) -> tuple[str, str]:
    """Return the release that a run was about, and its line of the table of runs."""
    suites = ElementTree.parse(path).getroot()
    properties = [(found.get("name"), found.get("value") or "") for found in suites.iter("property")]
    said = dict(properties)
    cases = list(suites.iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    models = sorted(
        {
            case.get("name", "").partition("[")[2].partition("-")[0]
            for case in cases
            if case.get("name", "").startswith("test_overlaid_and_stock_agree")
            and case not in failed
            and case.find("skipped") is None
        }
    )
    release = said["vllm"]
    over = f" over the compiled parts of {BUILT_OVER[release]}" if release in BUILT_OVER else ""
    missing = sum(int(value.partition(":")[0]) for name, value in properties if name == "left out")
    cells = (
        f"{release}{over}",
        said.get("torch", ""),
        f"{said.get('compared', 'none')} agree, {missing} not there",
        f"{said.get('demo', 'failed')}: {said.get('checks', 0)} checks",
        ", ".join(models) or "none",
        f"{len(failed)} failed" if failed else "passed",
    )
    return release, f"| {' | '.join(cells)} |"


def replaced(text: str, mark: str, lines: Sequence[str]) -> str:
    """Return the page with other lines between two marks."""
    pattern = re.compile(rf"(<!-- {mark} -->\n\n).*?(\n\n<!-- end of {mark} -->)", re.DOTALL)
    assert pattern.search(text), f"docs/releases.md has no marks {mark!r}"
    return pattern.sub(lambda found: found[1] + "\n".join(lines).strip() + found[2], text)


def rows(text: str) -> dict[str, str]:
    """Return the lines of the runs that the page has, by release."""
    return {
        found[1]: found[0]
        for found in re.finditer(r"^\| (\d+\.\d+\.\d+)\b[^|]*\|.*\|$", text.partition("<!-- runs -->")[2], re.MULTILINE)
    }


def main(found: Sequence[Path]) -> None:
    """Write the page."""
    text = PAGE.read_text(encoding="utf-8")
    known = rows(text) | dict(map(row, found))
    head = [
        "| vLLM | torch | operators and layers | demo | models as in stock | in all |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    text = replaced(text, "runs", [*head, *(known[release] for release in RELEASES if release in known)])
    PAGE.write_text(replaced(text, "matrix", list(matrix())), encoding="utf-8")


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]] or sorted(ROOT.glob(".tox/vllm-*/release.xml")))
