"""What would be enabled here, judged without touching anything: each patch with its line in a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ascend_overlay import api
from ascend_overlay.engine import plan
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.patches import Patch
from ascend_overlay.settings import Settings


@dataclass(frozen=True)
class Planned:
    """A patch that would be applied, or why it would not.

    Attributes:
        patch: the patch.
        entry: its line in a ledger, pending or skipped.
        rank: position of its overlay in the declared order: a wrapper of a higher one goes around.
    """

    patch: Patch
    entry: Entry
    rank: int


def planned(settings: Settings) -> tuple[Ledger, Sequence[Planned]]:
    """Return what `settings` would enable, as a ledger and patch by patch.

    Raises:
        OverlayError: a plugin cannot be loaded, or the settings name what does not exist.
    """
    ledger = api.judge(settings)
    overlays = api.overlays()
    ranks = plan.ranks(api.contributed())
    found = [
        Planned(patch, entry, ranks[name])
        for name in dict.fromkeys(entry.overlay for entry in ledger if entry.overlay)
        for patch, entry in zip(overlays[name].patches, ledger.of(name), strict=True)
    ]
    return ledger, found
