"""Pages of what was found, from templates that escape all that is put into them."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ascend_overlay.commands.check.judgement import BREAKS, FITS, REVIEW, Judged, verdict
from ascend_overlay.commands.drift.items import TODOS, Item, items
from ascend_overlay.errors import printable

_HERE = Path(__file__).parent
_LONGEST = 400
"""Lines of one diff that a page shows."""
_STATES = {
    BREAKS: "it fails, or is not met any more",
    REVIEW: "what it changes or leans on does something else",
    FITS: "nothing is to be done",
}


def drift(judged: Judged, found: Sequence[Item]) -> str:
    """Return the page about what is to be done, from one release to another."""
    base = judged.base.version or judged.base.label if judged.base is not None else ""
    return _page(
        "drift.html.j2",
        package=judged.release.package,
        old=base,
        new=judged.name,
        groups=[(todo, about, [item for item in found if item.todo == todo]) for todo, about in TODOS.items()],
    )


@dataclass(frozen=True)
class Cell:
    """One overlay on one release.

    Attributes:
        overlay: its name.
        reason: why it exists.
        origin: who contributes it.
        state: what it is on the release.
        left_out: why its range leaves it out; "" where it does not.
        items: what is to be done about it.
        quiet: how many names nothing is to be done about.
    """

    overlay: str
    reason: str
    origin: str
    state: str
    left_out: str
    items: tuple[Item, ...]
    quiet: int

    @property
    def drop(self) -> bool:
        """Whether something of it is no longer needed."""
        return any(item.todo == "drop" for item in self.items)


@dataclass(frozen=True)
class Release:
    """All overlays on one release, which is compared with `base`; "" for none."""

    name: str
    base: str
    cells: tuple[Cell, ...]


def release(judged: Judged) -> Release:
    """Return what a page shows of one release; what was found must still be there."""
    cells = []
    for found in judged.overlays:
        # What a bracket stands for is told as if the range were wider.
        all_of_it = items(judged, [found], ranges=False)
        # That its range leaves it out is told beside the state.
        named = [item for item in all_of_it if item.finding is not None or item.todo == "drop"]
        todo = tuple(item for item in named if item.todo != "nothing")
        cells.append(
            Cell(
                found.overlay.name,
                found.overlay.reason,
                found.origin,
                verdict(found),
                found.ruled_out or "",
                todo,
                len(named) - len(todo),
            )
        )
    base = judged.base.version or judged.base.label if judged.base is not None else ""
    return Release(judged.name, base, tuple(cells))


def grid(releases: Sequence[Release], package: str) -> str:
    """Return the page of overlays by releases of a package."""
    return _page(
        "grid.html.j2",
        package=package,
        releases=releases,
        groups=[
            (state, about, [cell for each in releases for cell in each.cells if cell.state == state])
            for state, about in _STATES.items()
        ],
    )


def _page(template: str, **values: Any) -> str:
    style, script = (Markup((_HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return (
        _environment()
        .get_template(template)
        .render(style=style, script=script, style_hash=_hash(style), script_hash=_hash(script), **values)
    )


def _hash(text: str) -> str:
    """Return what a policy calls a text by, so that a browser takes this one and no other."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
        keep_trailing_newline=True,
    )
    environment.filters["lines"] = _lines
    return environment


def _visible(value: Any) -> Any:
    """Return a text with letters that a reader would not see, or that turn others around, as Python writes them."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(diff: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a diff, each with what it is."""
    lines = diff.split("\n")
    for number, line in enumerate(lines[:_LONGEST]):
        if line.startswith("@@"):
            yield "at", line
        elif number < 2 and line.startswith(("---", "+++")):
            yield "file", line
        else:
            yield {"+": "plus", "-": "minus"}.get(line[:1], ""), line
    if len(lines) > _LONGEST:
        yield "at", f"... and {len(lines) - _LONGEST} lines more, which --json has"
