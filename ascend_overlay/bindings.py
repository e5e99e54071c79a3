"""Copies of a name: who else holds an object that a patch replaces, and re-binding them.

``from x import y`` copies the object, and so do class attributes, registries and default arguments. Two searches
find the holders: a walk over chosen modules, cheap enough to run after each import, and a pass of the garbage
collector over the whole process, for what was loaded before the patch. Both end in the same `_Holder`, which knows
its name and how to change itself. What holds the object and cannot be changed (a live instance, a closure, a bound
method) is reported as stale.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_REBINDABLE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    type,
    staticmethod,
    classmethod,
    property,
    functools.cached_property,
)


@dataclass
class Swap:
    """One object that gives way to another, and what became of its holders.

    Attributes:
        old: the object that holders have now.
        new: the object that they shall have.
        name: the attribute name of the target.
        owner: the target's owner; its own attribute `name` is not a copy.
        copies: filled in: the names of the holders that were re-bound.
        stale: filled in: descriptions of the holders that keep `old`.
    """

    old: Any
    new: Any
    name: str
    owner: Any
    restoring: bool = False
    copies: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)


def rebindable(value: Any) -> bool:
    """Tell whether `value` has an identity worth following: a function or a class, not a shared constant."""
    return isinstance(value, _REBINDABLE) or (callable(value) and hasattr(value, "__wrapped__"))


def rebind_in_modules(swaps: Sequence[Swap], modules: Iterable[types.ModuleType]) -> None:
    """Re-bind the copies that `modules` hold: their globals, classes, default arguments and containers."""
    by_id = {id(swap.old): swap for swap in swaps}
    if not by_id:
        return
    for module in modules:
        name = module.__name__
        for holder in _walk(vars(module), name, name, set()):
            holder.rebind(by_id)


def rebind_everywhere(swaps: Sequence[Swap]) -> None:
    """Re-bind every copy in the process that can be re-bound, and describe the rest as stale.

    One pass of the garbage collector serves all `swaps`.
    """
    by_id = {id(swap.old): swap for swap in swaps}
    if not by_id:
        return
    with unfrozen():
        _Sweep(by_id).run()


@contextlib.contextmanager
def unfrozen() -> Iterator[None]:
    """Let the garbage collector see what gc.freeze() hides from it: vLLM freezes the heap of a process that is up."""
    if not gc.get_freeze_count():
        yield
        return
    gc.unfreeze()
    try:
        yield
    finally:
        gc.freeze()


def loaded_since(module: types.ModuleType, definer: str | None) -> list[types.ModuleType]:
    """Return the modules that can hold a copy of something defined in `definer` or `module`.

    An import enters sys.modules before it executes, so whoever copied from a module started after that module, unless
    the copy was made after the module was complete, when it already sees the patched object.
    """
    names = list(sys.modules)
    start = len(names)
    for candidate in (module.__name__, definer):
        if candidate in sys.modules:
            start = min(start, names.index(candidate))
    return [found for name in names[start:] if isinstance(found := sys.modules.get(name), types.ModuleType)]


@dataclass
class _Holder:
    where: str
    key: Any
    value: Any
    put: Callable[[Any], None]
    of_class: type | None = None

    def rebind(self, by_id: dict[int, Swap]) -> None:
        swap = by_id.get(id(self.value))
        if swap is None or self.value is swap.new or _is_home(self, swap):
            return
        if self.of_class is not None and isinstance(swap.owner, type) and self.key != swap.name:
            # `forward_hip = forward_cuda` in a class body means another name, not a copy of this one.
            swap.stale.append(f"{self.where} (an alias under another name, left as it is)")
            return
        try:
            self.put(swap.new)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            swap.stale.append(f"{self.where} ({error})")
        else:
            swap.copies.append(self.where)


def _is_home(holder: _Holder, swap: Swap) -> bool:
    """Tell whether the holder has the object under its own right rather than as a copy of the target.

    That is the target itself, and, when a replaced class is put back, every place that names the replacing class by
    its own name: its module and the imports of it.
    """
    if holder.key == swap.name and holder.where == _name_of(swap.owner, swap.name):
        return True
    if not swap.restoring or not isinstance(swap.old, type):
        return False
    own_name = swap.old.__name__
    if own_name != swap.name:
        return bool(holder.key == own_name)
    return holder.where == f"{swap.old.__module__}.{swap.old.__qualname__}"


def _name_of(owner: Any, name: str) -> str:
    if isinstance(owner, types.ModuleType):
        return f"{owner.__name__}.{name}"
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}.{name}"
    return f"{type(owner).__name__} instance.{name}"


def _walk(namespace: dict[str, Any], where: str, module: str, seen: set[int]) -> Iterator[_Holder]:
    for key, value in list(namespace.items()):
        place = f"{where}.{key}"
        yield _Holder(place, key, value, functools.partial(namespace.__setitem__, key))
        if isinstance(value, type):
            if getattr(value, "__module__", None) == module and id(value) not in seen:
                seen.add(id(value))
                yield from _walk_class(value, place, module, seen)
        elif isinstance(value, types.FunctionType):
            if value.__module__ == module:
                yield from _walk_defaults(value, place)
        elif isinstance(value, (dict, list, set)) and not key.startswith("__"):
            yield from _walk_container(value, place)


def _walk_class(cls: type, where: str, module: str, seen: set[int]) -> Iterator[_Holder]:
    for key, value in list(vars(cls).items()):
        place = f"{where}.{key}"
        yield _Holder(place, key, value, functools.partial(type.__setattr__, cls, key), cls)
        function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if isinstance(function, types.FunctionType):
            yield from _walk_defaults(function, place)
        elif isinstance(value, type):
            if value.__module__ == module and id(value) not in seen:
                seen.add(id(value))
                yield from _walk_class(value, place, module, seen)
        elif isinstance(value, (dict, list, set)) and not key.startswith("__"):
            yield from _walk_container(value, place)


def _walk_defaults(function: types.FunctionType, where: str) -> Iterator[_Holder]:
    for index, value in enumerate(function.__defaults__ or ()):
        yield _Holder(f"{where}(default {index})", None, value, functools.partial(_set_default, function, index))
    keyword_only = function.__kwdefaults__ or {}
    for key, value in keyword_only.items():
        yield _Holder(f"{where}(default {key})", None, value, functools.partial(keyword_only.__setitem__, key))


def _walk_container(container: Any, where: str) -> Iterator[_Holder]:
    # By the methods of the built-in types: a subclass may load what it is asked for (transformers' lazy mappings).
    if isinstance(container, dict):
        for key, value in list(dict.items(container)):
            yield _Holder(f"{where}[{key!r}]", None, value, functools.partial(container.__setitem__, key))
    elif isinstance(container, list):
        for index, value in enumerate(list.__iter__(container)):
            yield _Holder(f"{where}[{index}]", None, value, functools.partial(container.__setitem__, index))
    else:
        for value in list(set.__iter__(container)):
            yield _Holder(f"{where}{{}}", None, value, functools.partial(_exchange, container, value))


def _set_default(function: types.FunctionType, index: int, value: Any) -> None:
    defaults = list(function.__defaults__ or ())
    defaults[index] = value
    function.__defaults__ = tuple(defaults)


def _exchange(container: set[Any], old: Any, new: Any) -> None:
    container.discard(old)
    container.add(new)


class _Sweep:
    """One pass of the garbage collector over the referrers of all swapped objects."""

    def __init__(self, by_id: dict[int, Swap]) -> None:
        self.by_id = by_id
        self.modules = {
            id(vars(module)): module.__name__
            for module in list(sys.modules.values())
            if isinstance(module, types.ModuleType)
        }
        # Our own lists and records refer to the objects too.
        self.ours = {id(by_id), *(id(vars(swap)) for swap in by_id.values())}

    def run(self) -> None:
        olds = [swap.old for swap in self.by_id.values()]
        self.ours.add(id(olds))
        referrers = [found for found in gc.get_referrers(*olds) if id(found) not in self.ours]
        unnamed = [found for found in referrers if self._needs_owner(found)]
        owners = self._owners_of(unnamed)
        for found in referrers:
            for holder in self._holders(found, owners.get(id(found))):
                holder.rebind(self.by_id)
            self._note_if_stale(found, owners.get(id(found)))

    def _needs_owner(self, found: Any) -> bool:
        if isinstance(found, dict):
            return id(found) not in self.modules
        return type(found) in (tuple, list, set)

    def _owners_of(self, found: list[Any]) -> dict[int, Any]:
        if not found:
            return {}
        wanted = {id(item) for item in found}
        skip = {id(found), id(wanted), *self.ours}
        owners: dict[int, Any] = {}
        for owner in gc.get_referrers(*found):
            if id(owner) in skip or isinstance(owner, types.FrameType):
                continue
            for held in gc.get_referents(owner):
                if id(held) in wanted and not isinstance(owners.get(id(held)), (type, types.FunctionType)):
                    owners[id(held)] = owner
        return owners

    def _holders(self, found: Any, owner: Any) -> Iterator[_Holder]:
        if isinstance(found, dict):
            yield from self._in_dict(found, owner)
        elif type(found) in (list, set):
            yield from _walk_container(found, f"a {type(found).__name__} of {_describe(owner)}")
        elif type(found) is tuple and isinstance(owner, types.FunctionType) and owner.__defaults__ is found:
            yield from _walk_defaults(owner, f"{owner.__module__}.{owner.__qualname__}")

    def _in_dict(self, found: dict[Any, Any], owner: Any) -> Iterator[_Holder]:
        module = self.modules.get(id(found))
        for key, value in list(dict.items(found)):
            if id(value) not in self.by_id:
                continue
            if module is not None:
                yield _Holder(f"{module}.{key}", key, value, functools.partial(found.__setitem__, key))
            elif isinstance(owner, type) and vars(owner).get(key) is value:
                where = f"{owner.__module__}.{owner.__qualname__}.{key}"
                yield _Holder(where, key, value, functools.partial(type.__setattr__, owner, key), owner)
            elif _is_attributes_of(found, owner):
                continue
            else:
                where = f"{_describe_container(found, owner)}[{key!r}]"
                yield _Holder(where, key, value, functools.partial(found.__setitem__, key))

    def _note_if_stale(self, found: Any, owner: Any) -> None:
        for swap in self._held_by(found):
            text = _stale_text(found, owner, swap)
            if text is not None and text not in swap.stale:
                swap.stale.append(text)

    def _held_by(self, found: Any) -> list[Swap]:
        if type(found) in (list, set):
            return []
        return [self.by_id[id(held)] for held in gc.get_referents(found) if id(held) in self.by_id]


def _is_attributes_of(found: Any, owner: Any) -> bool:
    if owner is None or isinstance(owner, (types.ModuleType, type)):
        return False
    return getattr(owner, "__dict__", None) is found or getattr(owner, "__annotations__", None) is found


def _stale_text(found: Any, owner: Any, swap: Swap) -> str | None:
    """Describe a referrer that keeps the old object, or None where that is as it should be."""
    old = swap.old
    if isinstance(found, dict):
        if not _is_attributes_of(found, owner) or isinstance(owner, types.FunctionType):
            return None
        names = [key for key, value in dict.items(found) if value is old]
        return f"attribute {', '.join(map(str, names))} of {_describe(owner)}"
    if isinstance(found, types.MethodType):
        return f"a bound method of {_describe(found.__self__)}"
    if isinstance(found, functools.partial):
        return "a functools.partial"
    if isinstance(found, types.CellType):
        return None if isinstance(old, type) else "a closure"
    if isinstance(old, type) and type(found) is old and not _is_ours(found):
        return f"a live instance of {old.__module__}.{old.__qualname__}"
    if isinstance(found, functools._lru_cache_wrapper):
        return "a functools.lru_cache"
    return None


def _is_ours(found: Any) -> bool:
    return type(found).__module__.partition(".")[0] == __name__.partition(".")[0]


def _describe(owner: Any) -> str:
    if owner is None:
        return "an unknown owner"
    if isinstance(owner, types.ModuleType):
        return owner.__name__
    if isinstance(owner, (type, types.FunctionType)):
        return f"{owner.__module__}.{owner.__qualname__}"
    return f"a live {type(owner).__module__}.{type(owner).__qualname__}"


def _describe_container(found: dict[Any, Any], owner: Any) -> str:
    if isinstance(owner, dict):
        for key, value in dict.items(owner):
            if value is found:
                module = owner.get("__name__")
                return f"{module}.{key}" if isinstance(module, str) else str(key)
    for key, value in vars(owner).items() if hasattr(owner, "__dict__") else ():
        if value is found:
            return f"{_describe(owner)}.{key}"
    return f"a dict of {_describe(owner)}"
