"""What is enabled in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from ascend_overlay.engine.plan import Item, Unit
from ascend_overlay.ledgers.records import Entry


@dataclass(eq=False)
class State:
    """The enabled overlays and what else the ledger tells; the parts of the engine share one.

    Attributes:
        units: the enabled overlays, by name.
        past: ledger entries of what is not enabled, or no more: overlays that were taken back, plugins left out.
        notes: remarks that overlays made, as (overlay, text).
        lock: guards all this and the patched places, for the short time of applying or reverting. No import happens
            under it: another thread may hold an import lock and be waiting, in a post-import callback, for this one.
    """

    units: dict[str, Unit] = field(default_factory=dict)
    past: list[Entry] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def items(self) -> Iterator[Item]:
        """Yield the patches of all enabled overlays, in the order in which they were enabled."""
        for unit in self.units.values():
            yield from unit.items
