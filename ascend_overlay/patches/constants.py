"""Copies of what has no identity, a number or a text: who imported it by name, as far as source tells."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ascend_overlay.patches.base import Applied
from ascend_overlay.places import frames, modules
from ascend_overlay.places.bindings import rebindable
from ascend_overlay.places.target import MISSING, Place
from ascend_overlay.source.sources import LOADABLE, binds

_FAR = 16
"""Modules may import one another in a circle; no name is handed on this often."""
_SMALL = range(-5, 257)
"""Of these numbers Python has one object each, as of None, truth values and what is empty."""


def _complete() -> frozenset[str]:
    # Without a look at each of them, which takes ten milliseconds where there are thousands.
    return frozenset(list(sys.modules)) - frames.executing()


@dataclass(frozen=True, eq=False)
class Copies:
    """The names in other modules that `from owner import name` has bound.

    Attributes:
        owner: the module that has the constant.
        name: its name there.
        old: its value before the patch; MISSING: it had none.
        new: its value while the patch is applied.
        leave_out: modules that keep what they have: those of the implementation.
        before: the modules that were there when the patch came.
        followers: filled in: those of them that had the old value and were given the new one.
    """

    owner: ModuleType
    name: str
    old: Any
    new: Any
    leave_out: frozenset[str] = frozenset()
    before: frozenset[str] = field(default_factory=_complete)
    followers: list[str] = field(default_factory=list)

    def hand_on(self, applied: Applied) -> None:
        """Give the importers of the old value the new one; note those, and who may be one without saying so."""
        for module, alias, sure in self._holders(self.old):
            if sure:
                self.followers.append(module.__name__)
                vars(module)[alias] = self.new
                applied.copies.append(f"{module.__name__}.{alias}")
            else:
                applied.stale.append(f"{module.__name__}.{alias} (a constant of the same name, perhaps a copy)")

    def give_back(self, applied: Applied) -> None:
        """Give the importers of the new value the old one, those that came while it was there as well."""
        applied.kept.clear()
        for module, alias, sure in self._holders(self.new):
            if sure and self.old is not MISSING:
                vars(module)[alias] = self.old
            elif sure:
                applied.kept.append(f"{module.__name__}.{alias} (imported what was added)")
            else:
                applied.kept.append(f"{module.__name__}.{alias} (a constant of the same name, perhaps a copy)")

    def _holders(self, value: Any) -> Iterator[tuple[ModuleType, str, bool]]:
        """Yield the names that hold `value` and come from here for sure, or are called as it is called here."""
        for module in modules.loaded():
            if module is self.owner or module.__name__ in self.leave_out:
                continue
            # Only of what came later is it unknown which names it may have for the new value.
            anywhere = value is self.old or module.__name__ not in self.before or module.__name__ in self.followers
            for alias in _names_of(module, self.owner.__name__, self.name, value, anywhere=anywhere):
                sure = is_imported(module.__name__, alias, self.owner.__name__, self.name)
                if sure or alias == self.name:
                    yield module, alias, sure


def follow(copies: Copies, applied: Applied, *, shared: bool) -> None:
    """Have who imported a constant by name have what is there; a function or class is followed wherever it got to.

    Args:
        copies: what is there, and what will be.
        applied: where it is noted, and how it is taken back.
        shared: somebody beside the owner may hold what is there now.
    """
    if copies.old is copies.new:
        return
    if not rebindable(copies.new):
        applied.undo.append(functools.partial(copies.give_back, applied))
    if shared and copies.old is not MISSING and not rebindable(copies.old):
        copies.hand_on(applied)


def namesakes(place: Place) -> list[str]:
    """Return the globals of other modules that have the place's name and hold what it holds."""
    return [
        f"{module.__name__}.{place.name}"
        for module in modules.loaded()
        if module is not place.owner and vars(module).get(place.name, MISSING) is place.raw
    ]


def is_imported(module: str, alias: str, owner: str, name: str) -> bool:
    """Tell whether the source of `module` binds `alias` to `name` of `owner`, by way of other modules or not."""
    for _ in range(_FAR):
        found = binds(module, alias)
        if found is not None and not found.own:
            module, alias = found.module, found.name
        elif (star := _star(module, alias, owner, name)) is None:
            return False
        else:
            module = star
        if (module, alias) == (owner, name):
            return True
    return False


def _star(module: str, alias: str, owner: str, name: str) -> str | None:
    """Return the module from which a star import gets `alias`, where there is no other way to it."""
    source = LOADABLE.module(module)
    if source is None or alias in source.names or alias in source.written or alias.startswith("_"):
        return None
    return owner if alias == name and any(star == owner for star, _ in source.stars) else None


def _names_of(module: ModuleType, owner: str, name: str, value: Any, *, anywhere: bool) -> list[str]:
    namespace = vars(module)
    if not anywhere or _is_everywhere(value):
        near = anywhere and module.__name__.partition(".")[0] == owner.partition(".")[0]
        names = [name, *(_other_names(module, name) if near else ())]
        return [each for each in dict.fromkeys(names) if namespace.get(each, MISSING) is value]
    return [key for key, held in list(namespace.items()) if held is value]


def _other_names(module: ModuleType, name: str) -> list[str]:
    """Return what the text of a module says after "import {name} as", or may say of anything else."""
    try:
        with open(vars(module).get("__file__") or "", "rb") as file:
            text = file.read()
    except (OSError, TypeError, ValueError):
        return []
    # Nearly all modules do not have it, and need not be parsed to tell.
    found = re.findall(rb"\b" + name.encode() + rb"[ \t]+as[ \t]+(\w+)", text)
    return [other.decode(errors="replace") for other in found]


def _is_everywhere(value: Any) -> bool:
    """Tell whether so many names have the very object that only one of the same name may be a copy."""
    if value is None or value is ... or isinstance(value, bool):
        return True
    if type(value) is int:
        return value in _SMALL
    return isinstance(value, (str, bytes, tuple, frozenset)) and len(value) < 2
