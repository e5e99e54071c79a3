"""Writes the lock that the built-in overlays come with: `python -m ascend_overlay.overlays.locking RELEASE...`.

The releases are numbers, or a range. Each overlay is locked in those that it is declared for; on a newer one it applies
if nothing of that has changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ascend_overlay import versions
from ascend_overlay.lockfile import NAME, Lock, LockedRelease, locked
from ascend_overlay.overlay import Overlay
from ascend_overlay.overlays import ascend_overlay_overlays
from ascend_overlay.patches import Patch
from ascend_overlay.releases import Release, find

PATH = Path(__file__).with_name(NAME)


def lock(overlays: Iterable[Overlay], releases: Iterable[Release]) -> Lock:
    """Return a lock of the targets of `overlays` in `releases`."""
    patches = [(overlay, patch) for overlay in overlays for patch in overlay.patches]
    return Lock(
        {
            release.version: LockedRelease(
                locked([patch for overlay, patch in patches if _is_for(overlay, patch, release)], release)
            )
            for release in releases
        }
    )


def main(wanted: Sequence[str]) -> None:
    """Write the lock for the releases that are wanted."""
    lock(ascend_overlay_overlays(), find(wanted)).write(PATH)


def _is_for(overlay: Overlay, patch: Patch, release: Release) -> bool:
    ranges = [text for text in (overlay.ranges.get("vllm"), patch.vllm) if text is not None]
    return all(
        versions.admits(versions.specifier(text, whose=f"overlay {overlay.name!r}"), release.version) for text in ranges
    )


if __name__ == "__main__":
    main(sys.argv[1:])
