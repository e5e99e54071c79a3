"""What is enabled in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ascend_overlay.engine.locks import Lock
from ascend_overlay.engine.plan import Item, Unit
from ascend_overlay.ledgers import Entry, LedgerFolder
from ascend_overlay.settings import Settings


@dataclass(eq=False)
class Enabling:
    """An enable() on its way.

    Attributes:
        names: the overlays that it adds.
        displaced: those that had been enabled before and lose a conflict to them.
        settings: what was in force before.
        folder: where the ledger was written before.
        propagating: whether child processes were told of anything before.
        started: there may be something to take back.
    """

    names: list[str] = field(default_factory=list)
    displaced: list[str] = field(default_factory=list)
    settings: Settings | None = None
    folder: LedgerFolder | None = None
    propagating: bool = False
    started: bool = False


@dataclass(eq=False)
class Disabling:
    """A disable() on its way.

    Attributes:
        names: the overlays to take back.
        settings: what is in force afterwards, where that is not what is left of the settings now.
    """

    names: list[str]
    settings: Settings | None = None


@dataclass(eq=False)
class State:
    """The enabled overlays and what else the ledger tells; the parts of the engine share one.

    Attributes:
        units: the enabled overlays, by name.
        past: ledger entries of what is not enabled, or no more: overlays that were taken back, plugins left out.
        notes: remarks that overlays made, as (overlay, text).
        begun: an enable() that is not done; the next call takes back what an interruption left of it.
        leaving: a disable() that is not done; the next call goes on with it.
        lock: guards all this and the patched places, for the short time of applying or reverting. No import happens
            under it: another thread may hold an import lock and be waiting, in a post-import callback, for this one.
    """

    units: dict[str, Unit] = field(default_factory=dict)
    past: list[Entry] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    begun: Enabling | None = None
    leaving: Disabling | None = None
    lock: Lock = field(default_factory=Lock)

    def items(self) -> Iterator[Item]:
        """Yield the patches of all enabled overlays, in the order in which they were enabled."""
        for unit in self.units.values():
            yield from unit.items
