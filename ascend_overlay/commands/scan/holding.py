"""What scan and adopt write, held against `check`: no overlay is declared that a release of its range breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ascend_overlay import Overlay, ref, versions
from ascend_overlay.commands.check.judgement import uncollected
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.package import atlas
from ascend_overlay.couplings.targets import judge_patch
from ascend_overlay.errors import OverlayError
from ascend_overlay.releases import Release
from ascend_overlay.scans.package import Package
from ascend_overlay.scans.writing import Change, Written, written


def passing(changes: Sequence[Change], origin: str, package: Package, releases: Sequence[Release]) -> str:
    """Return a plugin module whose overlays `check` finds nothing broken about, in the releases that it looked at.

    What implementations lean on is another question, which `ascend-overlay check PACKAGE` answers.
    """
    todo = list(changes)
    while True:
        made = written(todo, origin)
        broken = dict(_broken(made, package, releases))
        if not broken:
            return made.text
        for name, why in broken.items():
            position, _ = made.declared[name]
            todo[position] = replace(todo[position], lost=f"`ascend-overlay check` says: {why}")


def _broken(made: Written, package: Package, releases: Sequence[Release]) -> Iterator[tuple[str, str]]:
    """Yield the overlays that are refused or break, and why."""
    overlays: dict[str, Overlay] = {}
    for name, (_, statements) in made.declared.items():
        # Of these statements all are ours, and they import nothing.
        place: dict[str, Any] = {"Overlay": Overlay, "ref": ref, "OVERLAYS": [], "__name__": "written"}
        try:
            exec(compile(statements, "written", "exec"), place)
        except OverlayError as error:
            yield name, str(error).rstrip(".")
            continue
        overlays[name] = place["OVERLAYS"][0]
    brought = frozenset(
        patch.target
        for overlay in overlays.values()
        for patch in overlay.patches
        if patch.kind in ("add", "module alias")
    )
    for release in releases:
        with uncollected():
            compared = Comparison(None, atlas(package, release.tree))
            for name, overlay in list(overlays.items()):
                why = _breaks(overlay, compared, release, brought)
                if why is not None:
                    del overlays[name]
                    yield name, f"{why}, in {release.package} {release.version or release.label}"
            compared.new.forget()


def _breaks(overlay: Overlay, compared: Comparison, release: Release, brought: frozenset[str]) -> str | None:
    text = overlay.ranges.get(release.package)
    if release.version and not versions.in_range(text, release.version, whose=f"overlay {overlay.name!r}"):
        return None
    found = (judge_patch(patch, compared, brought, overlay) for patch in overlay.patches)
    broken = next((each for each in found if each.weight == "breaking"), None)
    if broken is None:
        return None
    # Some reasons are a sentence of their own, and name it.
    return broken.why if broken.target in broken.why else f"{broken.target} {broken.why}"
