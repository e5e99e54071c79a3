"""Overlays by releases, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ascend_overlay.commands.check.items import Item, items
from ascend_overlay.commands.check.judgement import BREAKS, FITS, REVIEW, Judged, verdict
from ascend_overlay.commands.check.locked import Drifted
from ascend_overlay.commands.html import rendering

_STATES = {
    BREAKS: "it fails, or is not met any more",
    REVIEW: "what it changes or leans on does something else",
    FITS: "nothing is to be done",
}


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
        drifted: what it rests on that is not as in the lock.
    """

    overlay: str
    reason: str
    origin: str
    state: str
    left_out: str
    items: tuple[Item, ...]
    quiet: int
    drifted: tuple[Drifted, ...]

    @property
    def drop(self) -> bool:
        """Whether something of it is no longer needed."""
        return any(item.todo == "drop" for item in self.items)


@dataclass(frozen=True)
class Release:
    """All overlays on one release.

    Attributes:
        name: the release.
        base: what it is compared with; "" for nothing.
        lock: sentences on the lock; None where there is none.
        cells: the overlays.
    """

    name: str
    base: str
    lock: tuple[str, ...] | None
    cells: tuple[Cell, ...]


def release(judged: Judged) -> Release:
    """Return what a page shows of one release; what was found must still be there."""
    cells = []
    for found in judged.overlays:
        # What a bracket stands for is told as if the range were wider.
        all_of_it = items(judged, [found], ranges=False)
        # That its range leaves it out is told beside the state.
        named = [item for item in all_of_it if item.finding or item.todo == "drop" or item.why in found.doubts]
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
                tuple(judged.drifted(found.overlay.name)),
            )
        )
    base = judged.base.version or judged.base.label if judged.base is not None else ""
    lock = judged.lock
    return Release(judged.name, base, None if lock is None else (*lock.troubles, *lock.notes), tuple(cells))


def grid(releases: Sequence[Release], package: str) -> str:
    """Return the page of overlays by releases of a package."""
    return rendering.page(
        "grid.html.j2",
        package=package,
        releases=releases,
        groups=[
            (state, about, [cell for each in releases for cell in each.cells if cell.state == state])
            for state, about in _STATES.items()
        ],
    )
