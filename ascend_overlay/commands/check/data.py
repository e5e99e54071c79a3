"""What was found, as plain data."""

from __future__ import annotations

from typing import Any

from ascend_overlay.commands.check.judgement import Judged, verdict
from ascend_overlay.couplings.changes import Change
from ascend_overlay.couplings.findings import Finding
from ascend_overlay.couplings.overlays import OverlayFinding


def of(judged: Judged, *, diffs: bool = False) -> dict[str, Any]:
    """Return what became of each overlay on one release."""
    data: dict[str, Any] = {
        "package": judged.release.package,
        "release": judged.release.version,
        "label": judged.release.label,
        "compared_with": judged.base.version or judged.base.label if judged.base is not None else None,
        "overlays": [_overlay(found, judged, diffs) for found in judged.overlays],
    }
    if (lock := judged.lock) is not None:
        data["lock"] = {
            "file": lock.file,
            "compared_with": lock.release,
            "troubles": list(lock.troubles),
            "notes": list(lock.notes),
        }
    return data


def _overlay(found: OverlayFinding, judged: Judged, diffs: bool) -> dict[str, Any]:
    data = {
        "overlay": found.overlay.name,
        "plugin": found.origin,
        "state": verdict(found),
        "left_out": found.ruled_out,
        "remarks": list(found.remarks),
        "doubts": list(found.doubts),
        "patches": [
            {"kind": each.patch.kind, "in_range": each.in_range, **finding(each.finding, diffs=diffs)}
            for each in found.patches
        ],
        "leans_on": [finding(each, diffs=diffs) for each in found.leans],
    }
    if judged.lock is not None:
        drifted = judged.drifted(found.overlay.name)
        data["not_as_locked"] = [{"target": each.target, "why": each.why} for each in drifted]
    return data


def finding(found: Finding, *, diffs: bool = False) -> dict[str, Any]:
    """Return one finding."""
    data: dict[str, Any] = {
        "target": found.target,
        "change": found.change.what,
        "weight": found.weight,
        "confidence": found.sure,
        "why": found.why,
        **_places(found.change),
    }
    if found.use is not None:
        use = found.use
        data["use"] = {"kind": use.kind, "by": use.by, "file": use.file, "line": use.line, "guarded": use.guarded}
    if diffs and found.change.diff:
        data["diff"] = found.change.diff
    return data


def _places(change: Change) -> dict[str, Any]:
    return {
        "was": change.old.home if change.old is not None else None,
        "is": change.new.home if change.new is not None else None,
        "candidates": [{"target": each.label, "how": each.how, "alike": each.alike} for each in change.candidates],
    }
