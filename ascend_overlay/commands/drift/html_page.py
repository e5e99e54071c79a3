"""What is to be done, as a page."""

from __future__ import annotations

from collections.abc import Sequence

from ascend_overlay.commands.check.items import TODOS, Item
from ascend_overlay.commands.check.judgement import Judged
from ascend_overlay.commands.html import rendering


def rendered(judged: Judged, found: Sequence[Item]) -> str:
    """Return the page about what is to be done, from one release to another."""
    base = judged.base.version or judged.base.label if judged.base is not None else ""
    return rendering.page(
        "drift.html.j2",
        package=judged.release.package,
        old=base,
        new=judged.name,
        groups=[(todo, about, [item for item in found if item.todo == todo]) for todo, about in TODOS.items()],
    )
