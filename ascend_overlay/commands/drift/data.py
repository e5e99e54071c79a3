"""What is to be done, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ascend_overlay.commands.check.data import finding
from ascend_overlay.commands.check.items import TODOS, By, Item
from ascend_overlay.commands.check.judgement import Judged


def of(judged: Judged, items: Sequence[Item]) -> dict[str, Any]:
    """Return what is to be done about each name and overlay."""
    assert judged.base is not None
    return {
        "package": judged.release.package,
        "old": {"release": judged.base.version, "label": judged.base.label},
        "new": {"release": judged.release.version, "label": judged.release.label},
        "counts": {todo: sum(item.todo == todo for item in items) for todo in TODOS},
        "items": [_item(item) for item in items],
    }


def _item(item: Item) -> dict[str, Any]:
    data: dict[str, Any] = {"todo": item.todo, "about": "overlay" if item.finding is None else "name"}
    if item.finding is not None:
        data |= finding(item.finding)
        # One of several uses; all of them are below.
        data.pop("use", None)
    data |= {"target": item.target, "why": item.why}
    if item.was:
        data |= {"signature_was": item.was, "signature_is": item.now}
    if item.diff:
        data["diff"] = item.diff
    return data | {"by": [_by(by) for by in item.by]}


def _by(by: By) -> dict[str, Any]:
    return {"overlay": by.overlay, "how": by.how, "where": list(by.where), "reasons": list(by.reasons)}
