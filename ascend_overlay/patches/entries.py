"""The patch that enters a value in a list, set, tuple, frozenset or deque."""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Mapping, MutableSequence, MutableSet
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import ConfigError, TargetError, did_you_mean
from ascend_overlay.patches import containers, literals, values
from ascend_overlay.patches.base import (
    NOT_GIVEN,
    REGISTRATIONS,
    Applied,
    Context,
    Patch,
    Ref,
    loaded,
    mapping_at,
    shown,
)
from ascend_overlay.patches.reach import held_at, seen
from ascend_overlay.places import declared
from ascend_overlay.places.target import MISSING, Place, Target


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Entry(Patch):
    """Enter a value in a container that is no mapping, or in a Literal that annotations use.

    What can be changed is changed in place, so whoever holds it follows; a tuple or frozenset is made anew.
    """

    value: Any
    before: Any = NOT_GIVEN
    after: Any = NOT_GIVEN
    position: int | None = None
    as_is: bool = False

    kind: ClassVar[str] = "entry"
    phase: ClassVar[int] = REGISTRATIONS

    @property
    def key(self) -> str:
        return f"{self.target} entry {shown(self.value)}"

    def check(self) -> None:
        super().check()
        if sum((self.before is not NOT_GIVEN, self.after is not NOT_GIVEN, self.position is not None)) > 1:
            raise ConfigError(f"the entry for {self.target} has one place: give before=, after= or position=, not two.")
        if self.position is not None and not isinstance(self.position, int):
            raise ConfigError(f"the entry for {self.target} has position={self.position!r}, which is not an index.")
        if not self.as_is and not isinstance(self.value, Ref):
            values.judge_early(self.target, self.key, self.value)

    def load(self) -> Any:
        return loaded(self.value), loaded(self.before), loaded(self.after)

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        place = self.resolve(module, context)
        value, before, after = implementation
        if declared.is_literal(place.raw):
            literals.extend(self.target, place, value, context, applied)
            return
        found = mapping_at(module, Target.parse(self.target))
        self._check_container(found)
        if not self.as_is:
            values.refuse_quoted(self.target, value, beside=found)
            values.refuse_uncalled(self.key, value, beside=found)
        if _contains(found, value, self.target):
            raise TargetError(
                f"the target {self.target} has the entry {shown(value)} already, so it cannot be entered; leave it "
                f"out, or give the patch the vLLM range in which it is missing."
            )
        # Asked for now, so that a neighbour that isn't there is an error and not a surprise.
        index = self._index(found, before, after)
        applied.seam = "entry"
        if isinstance(found, MutableSet):
            self._hash(value)
            applied.container = found
            applied.undo.append(functools.partial(found.discard, value))
            found.add(value)
        elif isinstance(found, (MutableSequence, collections.deque)):
            self._check_room(found)
            applied.container = found
            applied.undo.append(containers.ListEntry(found, value, index).take_out)
            found.insert(index, value)
        else:
            self._check_plain(place, found)
            if isinstance(found, frozenset):
                self._hash(value)

            def edit(inner: Any) -> Any:
                if isinstance(inner, frozenset):
                    return inner | {value}
                at = self._index(inner, before, after)
                return (*inner[:at], value, *inner[at:])

            containers.install(
                place, containers.Edition(rank=context.rank, whose=context.whose, edit=edit), context, applied
            )

    def effect(self, applied: Applied) -> str | None:
        """Return why the target's users do not find the entry, or None where they do."""
        value = self._value_now()
        if value is MISSING:
            return None
        if applied.seam == literals.SEAM:
            return literals.effect(applied, value)
        return seen(self.target, functools.partial(self._missed, value))

    def _missed(self, value: Any, module: ModuleType, target: Target) -> str | None:
        found = held_at(module, target)
        try:
            present = value in found
        except TypeError:
            return f"{self.target} holds {shown(found)} now, which has no entries"
        return None if present else f"{self.target} does not have the entry {shown(self.value)} any more"

    def _value_now(self) -> Any:
        """Return the value, with nothing imported for it; MISSING where its name leads nowhere any more."""
        if not isinstance(self.value, Ref):
            return self.value
        target = Target.parse(self.value.text)
        value: Any = sys.modules.get(target.module)
        for name in target.path:
            value = getattr(value, name, MISSING)
        return value

    def describe(self) -> str:
        where = ""
        if self.before is not NOT_GIVEN:
            where = f", before {shown(self.before)}"
        elif self.after is not NOT_GIVEN:
            where = f", after {shown(self.after)}"
        elif self.position is not None:
            where = f", at {self.position}"
        return f"entered: {shown(self.value)}{where}"

    def _check_container(self, found: Any) -> None:
        if isinstance(found, Mapping):
            raise TargetError(f"the target {self.target} is a mapping; use overlay.item(target, key, value).")
        is_plain_tuple = type(found) is tuple
        if not is_plain_tuple and not isinstance(found, (MutableSequence, MutableSet, frozenset, collections.deque)):
            raise TargetError(
                f"the target {self.target} is {shown(found)} ({type(found).__name__}), which has no entries; name a "
                f"list, set, tuple, frozenset or deque."
            )

    def _index(self, found: Any, before: Any, after: Any) -> int:
        """Return where the entry goes, in a container that has an order."""
        neighbour = before if before is not NOT_GIVEN else after
        ordered = not isinstance(found, (MutableSet, frozenset))
        if not ordered and (neighbour is not NOT_GIVEN or self.position is not None):
            raise TargetError(
                f"the target {self.target} is a {type(found).__name__}, which has no order; give no place."
            )
        if neighbour is NOT_GIVEN:
            length = len(found)
            if self.position is None:
                return length
            return max(0, min(length, self.position if self.position >= 0 else length + self.position))
        if neighbour not in found:
            known = [entry for entry in found if isinstance(entry, str)]
            hint = did_you_mean(neighbour, known) if isinstance(neighbour, str) else ""
            raise TargetError(
                f"the target {self.target} has no entry {shown(neighbour)} to put {shown(self.value)} beside.{hint}"
            )
        at: int = found.index(neighbour)
        return at if before is not NOT_GIVEN else at + 1

    def _check_plain(self, place: Place, found: Any) -> None:
        if place.raw is not found:
            raise TargetError(
                f"the target {self.target} is computed ({shown(place.raw)}), so no entry of it can be set."
            )

    def _check_room(self, found: Any) -> None:
        room = getattr(found, "maxlen", None)
        if room is not None and len(found) >= room:
            raise TargetError(f"the target {self.target} is a deque that is full ({room}), so nothing can be entered.")

    def _hash(self, value: Any) -> None:
        try:
            hash(value)
        except TypeError as error:
            raise TargetError(f"{shown(value)} cannot be entered in {self.target}, a set: {error}.") from None


def _contains(found: Any, value: Any, target: str) -> bool:
    try:
        return value in found
    except TypeError as error:
        raise TargetError(f"{shown(value)} cannot be entered in {target}: {error}.") from None
