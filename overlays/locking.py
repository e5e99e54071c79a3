"""Writes the lock that the built-in overlays come with: `python -m ascend_overlay.overlays.locking RELEASE...`.

The releases are numbers, or a range. Each overlay is locked in those that it is declared for; on a newer one it applies
if nothing of that has changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ascend_overlay.couplings.locking import locked_release
from ascend_overlay.lockfile import NAME, Lock
from ascend_overlay.overlay import Overlay
from ascend_overlay.overlays import ascend_overlay_overlays
from ascend_overlay.releases import Release, find

PATH = Path(__file__).with_name(NAME)


def lock(overlays: Sequence[Overlay], releases: Iterable[Release]) -> Lock:
    """Return a lock of what `overlays` change and lean on in `releases`."""
    return Lock({release.version: locked_release(overlays, release) for release in releases})


def main(wanted: Sequence[str]) -> None:
    """Write the lock for the releases that are wanted."""
    lock(list(ascend_overlay_overlays()), find(wanted)).write(PATH)


if __name__ == "__main__":
    main(sys.argv[1:])
