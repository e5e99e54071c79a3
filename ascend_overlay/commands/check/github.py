"""What was found, as commands of a GitHub workflow, which shows them beside the lines of a pull request."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator

from ascend_overlay.commands.check.judgement import Judged, remarks
from ascend_overlay.couplings.overlays import OverlayFinding
from ascend_overlay.source.modules import source_of

_LEVELS = {"breaking": "error", "behavioural": "warning", "unknown": "notice"}


def lines(judged: Judged, *, ranges: bool, drift: str = "error") -> Iterator[str]:
    """Yield one command for each thing to look at; `drift` is the level of what is not as in the lock."""
    if (lock := judged.lock) is not None:
        place = lock.file, 1
        yield from (_line(drift, f"the lock: {said}", place) for said in lock.troubles)
        yield from (_line("notice", f"the lock: {said}", place) for said in lock.notes)
    for found in judged.overlays:
        name = f"{judged.release.package} {judged.name}"
        if found.ruled_out is not None:
            level = "error" if ranges else "notice"
            yield _line(
                level, f"overlay {found.overlay.name} is left out on {name}: {found.ruled_out}", _declared(found)
            )
        for said in found.remarks:
            yield _line("warning", f"overlay {found.overlay.name} on {name}: {said}", _declared(found))
        for said in found.doubts:
            yield _line("notice", f"overlay {found.overlay.name} on {name}: {said}", _declared(found))
        for drifted in judged.drifted(found.overlay.name):
            text = f"overlay {found.overlay.name} on {name}: not as locked: {drifted.target} {drifted.why}"
            yield _line(drift, text, _declared(found))
        for each in remarks(found):
            about, finding = each.about, each.finding
            if finding.weight not in _LEVELS:
                continue
            level = _LEVELS[finding.weight]
            # Left out, it breaks nothing there; where ranges do not count, it does.
            if ranges and found.ruled_out is not None and level == "error":
                level = "warning"
            text = f"overlay {found.overlay.name} on {name}: {about} {finding.target}: {finding.why}"
            yield _line(level, text, each.place or _declared(found))


def _declared(found: OverlayFinding) -> tuple[str, int]:
    return source_of(found.overlay.declared_in) or inspect.getfile(type(found.overlay)), 1


def _line(level: str, text: str, place: tuple[str, int]) -> str:
    file, line = place
    return f"::{level} file={_escaped(os.path.relpath(file), property=True)},line={line}::{_escaped(text)}"


def _escaped(text: str, *, property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property else text
