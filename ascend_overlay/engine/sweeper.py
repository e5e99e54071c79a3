"""Re-binding what others hold of changed places, and telling in the ledger who was reached and who was not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from ascend_overlay.engine.plan import Item
from ascend_overlay.engine.state import State
from ascend_overlay.places.bindings import Swap, rebind_everywhere
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storeys import Change, Stray

_ROUNDS = 3
"""How often copies are looked for again because a function that was left behind leads elsewhere now."""
SENT_ON = "in the function itself"


class Sweeper:
    """Follows the objects that patches push aside, and those that they put in place, wherever they got to."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._aside: list[object] = []

    def sweep(self, slots: Iterable[Slot], *, late: bool, on_behalf_of: Sequence[Item]) -> None:
        """Re-bind what others hold of these places, and note in the entries who was and who could not be.

        Where somebody is left who cannot be re-bound, the calls of the object itself are sent on.
        """
        started = time.perf_counter()
        slots = list(slots)
        for turn in range(_ROUNDS):
            swaps = [swap for slot in slots for swap in slot.swaps()]
            _follow(swaps)
            # A module that was imported just now has seldom given anything away, and looking for it takes a while.
            wanted = [swap for swap in swaps if late or turn or swap.shared]
            done = [applied for item in on_behalf_of for applied in item.done]
            rebind_everywhere(wanted, [*slots, *done, *self._aside])
            if not wanted:
                break
            credit = self._credit(on_behalf_of)
            again = [self._settle(swap, slots, credit) for swap in wanted]
            if not any(again):
                break
        for slot in slots:
            slot.swept()
        for item in on_behalf_of:
            item.entry.seconds += (time.perf_counter() - started) / len(on_behalf_of)

    def _credit(self, on_behalf_of: Sequence[Item]) -> dict[int, Item]:
        """Return the items by the ids of the changes that they made."""
        # What one patch leaves for a moment, taking it back may have swept.
        items = {id(item): item for item in (*self._state.items(), *on_behalf_of)}.values()
        return {id(change): item for item in items for done in item.done for _, change in done.changed}

    def _settle(self, swap: Swap, slots: Sequence[Slot], credit: Mapping[int, Item]) -> bool:
        """Note what became of a swap, and send on the calls of what is left behind; return whether that is new."""
        stray: Stray = swap.stray
        entry = next((credit[id(change)].entry for change in _causes(stray) if id(change) in credit), None)
        if entry is not None:
            _extend(entry.copies, swap.copies)
            _extend(entry.notes, swap.notes)
            _extend(entry.stale, [*swap.apart, *swap.going])
        if not swap.left:
            return False
        slot = next(slot for slot in slots if any(stray is other for other in slot.strays))
        # A function that is to be met under another name as it was cannot lead elsewhere.
        if not swap.by_name and not swap.apart and stray.value is stray.storey.ground:
            known = stray.storey.redirection is not None
            if slot.redirect(stray.storey):
                if entry is not None:
                    entry.seam = SENT_ON
                    _extend(entry.notes, [f"met {SENT_ON}: {text}" for text in swap.left])
                return not known
        if slot.put_aside(stray):
            # Whoever refers to it weakly finds it as long as it lives.
            self._aside.append(stray.value)
            return bool(stray.storey.changes)
        if entry is not None:
            _extend(entry.stale, swap.left)
        return False


def _causes(stray: Stray) -> list[Change]:
    """Return the changes on whose account a stray is one: the one that pushed it aside, or that it was made by."""
    changes = sorted(stray.storey.changes, key=lambda change: (not change.decides, change.rank))
    return [*(change for change in changes if change not in stray.changes), *reversed(stray.changes)]


def _extend(texts: list[str], more: Iterable[str]) -> None:
    texts.extend(text for text in dict.fromkeys(more) if text not in texts)


def _follow(swaps: Sequence[Swap]) -> None:
    """Let each swap lead to the object that is in place after all of them."""
    final = {id(swap.old): swap for swap in swaps if swap.only is None}
    for swap in swaps:
        if swap.only is not None:
            continue
        seen = {id(swap)}
        while (further := final.get(id(swap.new))) is not None and id(further) not in seen:
            seen.add(id(further))
            swap.new = further.new
