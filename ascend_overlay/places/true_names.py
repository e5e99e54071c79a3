"""Targets that are another name of something: what is changed by them is changed for whoever uses the thing itself."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ascend_overlay.places import importing, modules
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.slots import Slots
from ascend_overlay.places.target import MISSING, Target, lookup
from ascend_overlay.source.sources import LOADABLE


class TrueName:
    """What a target that is an alias leads to, and who else has it.

    ``from .qwen2 import Qwen2MLP as Qwen3MLP`` makes ``qwen3:Qwen3MLP.forward`` another name of
    ``qwen2:Qwen2MLP.forward``.

    Attributes:
        target: the target.
        home: the target by the name under which it was defined.
    """

    def __init__(self, target: Target, home: Target, shared: tuple[Target, Target]) -> None:
        self.target, self.home = target, home
        # The step of the target that is the alias, and the same by its true name.
        self._alias, self._origin = shared
        self._looked_at: set[str] = {target.module, home.module}
        self._users: list[str] = []

    def is_shared(self) -> bool:
        """Tell whether the true name leads to the same as the target, as they are now."""
        ours, theirs = _walk(self._alias), _walk(self._origin)
        return ours is not MISSING and function_of(ours) is function_of(theirs)

    def users(self) -> list[str]:
        """Return the other modules that have the thing among their names, as "module.name"; each is looked at once."""
        thing = _walk(self._alias)
        for module in modules.loaded() if thing is not MISSING else ():
            name = module.__name__
            if name in self._looked_at or name == "__main__" or importing.is_initializing(module):
                continue
            self._looked_at.add(name)
            if getattr(thing, "__module__", None) == name:
                # Where an implementation, which is in place now, was defined.
                continue
            self._users.extend(f"{name}.{key}" for key, value in list(vars(module).items()) if value is thing)
        return self._users


def true_name(module: ModuleType, target: Target, slots: Slots) -> TrueName | None:
    """Return what `target`, in its loaded `module`, is another name of; None where it was defined under that name.

    A member that a class has from its base is no alias: it is changed for that class alone.

    Args:
        module: the module of the target.
        target: a target.
        slots: what patches have changed already, which was something else before.
    """
    owner: Any = module
    here = home = Target(module.__name__, ())
    shared: tuple[Target, Target] | None = None
    for name in target.path:
        raw, own = lookup(owner, name)
        here, home = _below(here, name), _below(home, name)
        if raw is MISSING or (isinstance(owner, type) and not own):
            break
        origin = _defined(raw, home, slots) or (_imported(raw, home) if isinstance(owner, ModuleType) else None)
        if origin is not None and origin != home:
            home, shared = origin, (here, origin)
        owner = raw.__get__(None, owner) if isinstance(raw, (staticmethod, classmethod)) else raw
    if shared is None:
        return None
    rest = target.path[len(here.path) :]
    return TrueName(target, Target(home.module, (*home.path, *rest)), shared)


def by_source(target: Target) -> Target | None:
    """Return what source says that `target` is another name of, without importing it; None where it does not."""
    module, name = target.module, target.path[0]
    text = LOADABLE.text(module)
    if text is None or re.search(rf"^(class|def|async def) {name}\b|^{name}\b", text, re.MULTILINE):
        # Defined there: most are, and parsing takes a while.
        return None
    origin = LOADABLE.origin(module, name)
    return Target(origin[0], (origin[1], *target.path[1:])) if origin != (module, name) else None


def _below(target: Target, name: str) -> Target:
    return Target(target.module, (*target.path, name))


def _defined(raw: Any, named: Target, slots: Slots) -> Target | None:
    """Return where a class or function says that it was defined, if that is so."""
    function = _as_it_was(function_of(raw), slots)
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(function, (type, types.FunctionType)) or not isinstance(module, str) or "<" in str(name):
        return None
    origin = Target(module, tuple(str(name).split(".")))
    if len(origin.path) == len(named.path) > 1 and origin.path[-1] != named.path[-1]:
        # Two names in class bodies are two members: who has the other one keeps it.
        return None
    return origin if _as_it_was(function_of(_walk(origin)), slots) is function else None


def _imported(raw: Any, named: Target) -> Target | None:
    """Return from where the source of a module imports what does not say where it was defined."""
    if isinstance(raw, ModuleType) or len(named.path) > 1:
        return None
    module, name = LOADABLE.origin(named.module, named.path[0])
    origin = Target(module, (name,))
    return origin if _walk(origin) is raw else None


def _as_it_was(value: Any, slots: Slots) -> Any:
    """Return what was there before patches, where they put `value` there."""
    if value is MISSING:
        return value
    found: Iterator[Any] = (slot.original for slot in slots if function_of(slot.installed) is value)
    return function_of(next(found, value))


def _walk(target: Target) -> Any:
    """Return what a target leads to now, MISSING where it leads nowhere."""
    found: Any = sys.modules.get(target.module, MISSING)
    for name in target.path:
        if found is MISSING:
            return found
        found, _ = lookup(found, name)
    return found
