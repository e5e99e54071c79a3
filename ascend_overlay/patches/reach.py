"""Whether a target still leads to the place that a patch of it has changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ascend_overlay.errors import TargetError
from ascend_overlay.patches.base import Applied, mapping_at, shown
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute, Item
from ascend_overlay.places.target import Target, find, require


def seen(text: str, look: Callable[[ModuleType, Target], str | None]) -> str | None:
    """Return what `look` says of the target `text` in its module; nobody misses a patch of a module that is not loaded.

    Somebody may have taken away what leads to the target, which is said as well.
    """
    target = Target.parse(text)
    module = sys.modules.get(target.module)
    if module is None:
        return None
    try:
        return look(module, target)
    except (TargetError, AttributeError) as error:
        return _nowhere(text, error)


def held_at(module: ModuleType, target: Target) -> Any:
    """Return the mapping, list or set that is at `target`.

    Raises:
        TargetError: nothing is there.
    """
    require(find(module, target), target)
    return mapping_at(module, target)


def led_elsewhere(text: str, applied: Applied) -> str | None:
    """Return how the target `text` leads past the place that was changed first, or None where it does not.

    Somebody may have put another class or mapping in place of the one that was changed: that still has the patch, and
    nobody comes by it.
    """
    if applied.module is None or not applied.changed:
        return None
    slot, target = applied.changed[0][0], Target.parse(text)
    try:
        if isinstance(slot.storage, Item):
            return _past(text, held_at(applied.module, target), slot)
        place = find(applied.module, target)
    except (TargetError, AttributeError) as error:
        return _nowhere(text, error)
    if not isinstance(slot.storage, Attribute) or place.raw is slot.installed:
        return None
    # Of a class and what is derived from it, the one that the patch is on may be either.
    return None if _are_related(place.owner, slot.storage.owner) else _past(text, place.owner, slot)


def led_to_another(text: str, owner: Any) -> str:
    """Return that the target `text` is in another `owner` by now, as a phrase."""
    return f"{text} leads to another {shown(owner)} than the one that the overlay changed"


def _nowhere(text: str, error: Exception) -> str:
    return f"{text} leads nowhere any more: {error}"


def _are_related(one: Any, other: Any) -> bool:
    return isinstance(one, type) and isinstance(other, type) and (issubclass(one, other) or issubclass(other, one))


def _past(text: str, owner: Any, slot: Slot) -> str | None:
    there = slot.storage.owner
    if owner is there:
        return None
    return f"{text} leads to {shown(owner)} now, which somebody put in place of {shown(there)}, where the patch is"
