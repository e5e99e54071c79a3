"""What patches make of one value: changes that stand on each other, and what is left of them in other hands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ascend_overlay.places.functions import Redirection
from ascend_overlay.places.target import MISSING


@dataclass(eq=False, kw_only=True, slots=True)
class Change:
    """What a patch contributes to a slot.

    Attributes:
        rank: order among wrappers: the higher, the further out.
        whose: the overlay and plugin that it comes from, in words.
        decides: it gives the value itself (at most one a slot), rather than wrapping the value that it is given.
        by_name: only who calls the old value by the target's name has a copy of it.
        borrowed: the value exists in its own right, elsewhere.
        homes: modules, or names in them, that go on with what is below this change: those of its implementation.
        busy: it is putting something in place by itself right now, so that whatever is there may be its own.
    """

    rank: int
    whose: str
    decides: bool = False
    by_name: bool = False
    borrowed: bool = False
    homes: frozenset[str] = frozenset()
    busy: bool = False

    def value(self, inner: Any) -> Any:
        """Return the value to install, given the one below."""
        raise NotImplementedError

    def step_aside(self, value: Any, inner: Any) -> bool:
        """Have `value`, which somebody keeps although something else is in place, do what `inner` does.

        Returns:
            Whether that went.
        """
        return False

    def make_anew(self) -> None:
        """Come to another value from now on: the last one is to step aside for what that is a part of."""


@dataclass(eq=False, slots=True)
class Given:
    """What a change was given to go around.

    Attributes:
        change: the change.
        value: the value below it.
    """

    change: Change
    value: Any


@dataclass(eq=False, slots=True)
class Storey:
    """Changes that stand on one value: on what was there first, or on what somebody else put there.

    Attributes:
        ground: the value that was found.
        base: what wrappers go around: `ground`, or what stands for it (an inherited member, a twin of a function).
        changes: what is in force.
        installed: what they come to.
        inners: what each of them was given.
        redirection: where the function `ground` itself leads to them, for those who hold it.
        aside: values of ours that stepped aside for what is installed, each with the change that made it.
    """

    ground: Any
    base: Any = MISSING
    changes: list[Change] = field(default_factory=list)
    installed: Any = MISSING
    inners: list[Given] = field(default_factory=list)
    redirection: Redirection | None = None
    aside: list[Given] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.base = self.installed = self.ground

    def computed(self) -> tuple[Any, list[Given]]:
        """Return what the changes come to, and what each of them is given."""
        if not self.changes:
            return self.ground, []
        value: Any = self.base
        inners: list[Given] = []
        for change in sorted(self.changes, key=lambda change: (not change.decides, change.rank)):
            inners.append(Given(change, value))
            value = change.value(value)
        return value, inners


@dataclass(eq=False, slots=True)
class Stray:
    """A value that is or was in place, and that others may hold.

    Attributes:
        value: the value.
        storey: the storey that it is or was one of.
        changes: what it was made by, the outermost last.
        shared: somebody beside the place may hold it.
    """

    value: Any
    storey: Storey
    changes: tuple[Change, ...] = ()
    shared: bool = True
