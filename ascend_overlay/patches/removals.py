"""The patch that removes an attribute, or an entry of a mapping, list, set, tuple, frozenset or deque."""

from __future__ import annotations

import collections
import enum
import functools
from collections.abc import Mapping, MutableMapping, MutableSequence, MutableSet
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConflictError, TargetError, did_you_mean
from ascend_overlay.patches import containers
from ascend_overlay.patches.base import NOT_GIVEN, Applied, Context, Patch, definer, loaded, mapping_at, shown
from ascend_overlay.patches.constants import namesakes
from ascend_overlay.patches.names import Decision, refuse_second
from ascend_overlay.patches.reach import held_at, seen
from ascend_overlay.places import declared
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import spelled
from ascend_overlay.places.target import MISSING, Place, Target, find
from ascend_overlay.places.type_slots import storage
from ascend_overlay.settings import advice


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Remove(Patch):
    """Remove an attribute, or the entry `item` of a container."""

    item: Any = NOT_GIVEN

    kind: ClassVar[str] = "remove"
    by_name: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return self.target if self.item is NOT_GIVEN else f"{self.target}[{self.item!r}]"

    def load(self) -> Any:
        return loaded(self.item)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        if implementation is NOT_GIVEN:
            self._remove_attribute(place, context, applied)
            return
        found = mapping_at(module, Target.parse(self.target))
        self._require_entry(found, implementation)
        applied.seam = "entry"
        if isinstance(found, MutableMapping):
            self._remove_item(module, found, implementation, context, applied)
        elif isinstance(found, MutableSet):
            held = next(entry for entry in found if entry == implementation)
            applied.container = found
            applied.undo.append(functools.partial(found.add, held))
            found.discard(held)
        elif isinstance(found, (MutableSequence, collections.deque)):
            applied.container = found
            self._remove_from_list(found, implementation, applied)
        else:
            if place.raw is not found:
                raise TargetError(
                    f"the target {self.target} is computed ({shown(place.raw)}); name where it comes from."
                )

            def edit(inner: Any) -> Any:
                return type(inner)(entry for entry in inner if entry != implementation)

            edition = containers.Edition(rank=context.rank, whose=context.whose, edit=edit)
            containers.install(place, edition, context, applied)

    def effect(self, applied: Applied) -> str | None:
        """Return why the target's users still find what was removed, or None where they do not."""
        return seen(self.target, self._found_again)

    def _found_again(self, module: ModuleType, target: Target) -> str | None:
        if self.item is NOT_GIVEN:
            place = find(module, target)
            return f"{self.target} is there again: {shown(place.raw)}" if place.own else None
        found = held_at(module, target)
        try:
            present = loaded(self.item) in found
        except TypeError:
            return f"{self.target} holds {shown(found)} now, which has no entries"
        return f"{self.target} has the entry {shown(self.item)} again" if present else None

    def describe(self) -> str:
        return "removed" if self.item is NOT_GIVEN else f"removed: {shown(self.item)}"

    def _remove_attribute(self, place: Place, context: Context, applied: Applied) -> None:
        if not place.own:
            raise TargetError(self._inherited_from(place))
        self._refuse_declared(place)
        slot = context.slots.at(storage(place.owner, place.name))
        refuse_second(slot, self.target, context)
        if slot.wrappers:
            raise ConflictError(
                f"the target {self.target} is wrapped by {slot.wrappers[0].whose}, so it cannot be removed; leave one "
                f"of the two overlays out with {advice('exclude')}."
            )
        if isinstance(place.owner, ModuleType):
            applied.stale.extend(f"{name} (a copy of what was removed)" for name in namesakes(place))
        # What else leads to the object is not what is removed.
        applied.change(slot, Decision(rank=context.rank, whose=context.whose, new=MISSING, by_name=True))

    def _refuse_declared(self, place: Place) -> None:
        if not isinstance(place.owner, type):
            return
        if isinstance(place.owner, enum.EnumMeta) and place.name in place.owner.__members__:
            raise TargetError(
                f"the target {self.target} is a member of an enumeration, whose tables keep it, so it cannot be "
                f"removed; change what makes or accepts it with overlay.wrap or overlay.edit."
            )
        if place.name in (declared.fields_of(place.owner) or {}):
            raise TargetError(
                f"the target {self.target} is a declared field: the constructor of the class keeps it, so it cannot be "
                f"removed; give it another default with overlay.field, or put a class without it in the place of "
                f"{self.target.rpartition('.')[0]} with overlay.factory."
            )

    def _inherited_from(self, place: Place) -> str:
        where = definer(place)
        base = where.partition(":")[2].removesuffix(f".{place.name}")
        return (
            f"the target {self.target} cannot be removed: it is inherited from {base}; remove {where}, or "
            f"give the class another one with overlay.replace or overlay.attribute."
        )

    def _require_entry(self, found: Any, item: Any) -> None:
        can_change = isinstance(found, (MutableMapping, MutableSequence, MutableSet, frozenset, collections.deque))
        if not can_change and type(found) is not tuple:
            fixed = "cannot be changed" if isinstance(found, Mapping) else f"is a {type(found).__name__}"
            raise TargetError(f"the target {self.target} {fixed}, so no entry of it can be removed.")
        try:
            present = item in found
        except TypeError as error:
            raise TargetError(f"{shown(item)} cannot be an entry of {self.target}: {error}.") from None
        if not present:
            known = [entry for entry in found if isinstance(entry, str)]
            hint = did_you_mean(item, known) if isinstance(item, str) else ""
            raise TargetError(f"the target {self.target} has no entry {item!r} that could be removed.{hint}")

    def _remove_item(
        self, module: ModuleType, found: MutableMapping[Any, Any], key: Any, context: Context, applied: Applied
    ) -> None:
        key = spelled(found, key)
        slot = context.slots.at(containers.Answered(found, key, module))
        refuse_second(slot, self.key, context)
        change = Decision(rank=context.rank, whose=context.whose, new=MISSING)
        applied.undo.append(functools.partial(_put_back, slot, change, found, key, list(found)))
        applied.change(slot, change)

    def _remove_from_list(self, found: Any, item: Any, applied: Applied) -> None:
        index = next(at for at, entry in enumerate(found) if entry == item)
        applied.undo.append(containers.ListEntry(found, found[index], index).put_back)
        del found[index]


def _put_back(slot: Slot, change: Decision, found: MutableMapping[Any, Any], key: Any, keys: list[Any]) -> None:
    """Let the entry stand again where it stood; what was entered since then stays last.

    An interruption may come between the two: whoever calls again puts the entries in order all the same.
    """
    slot.remove(change)
    if isinstance(found, dict) and key in found:
        followers = [other for other in keys[keys.index(key) + 1 :] if other in found]
        containers.reorder(found, [*followers, *(other for other in found if other not in keys)])
