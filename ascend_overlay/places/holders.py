"""Names for whatever holds an object: "package.module.TABLE['key']", "a closure of package.module.function"."""

from __future__ import annotations

import collections
import contextvars
import functools
import gc
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascend_overlay.places import modules

PLAIN = (dict, list, set, frozenset, tuple, collections.deque, types.CellType, functools.partial)
_LEVELS = 3
_FEW = 100
"""Up to so many objects, gc.get_referrers() is faster than a walk over the heap in Python."""
_SILENT = ("builtins", "typing", "types", "weakref", "abc", "_abc", "inspect", "ast")


def referrers(objects: list[Any]) -> list[Any]:
    """Return what the garbage collector knows to refer to any of `objects`.

    gc.get_referrers() compares every reference of the heap with every object: fast for a few, minutes for thousands.
    """
    if len(objects) <= _FEW:
        # From Python 3.13 on, the tuple of the arguments of this very call is found, too.
        mark = object()
        return _without_arguments(gc.get_referrers(*objects, mark), mark)
    wanted = {id(item) for item in objects}
    return [
        found
        for found in gc.get_objects()
        if found is not objects and not wanted.isdisjoint(map(id, gc.get_referents(found)))
    ]


def _without_arguments(found: list[Any], mark: object) -> list[Any]:
    # A function of its own: a comprehension beside the call would have `mark` in a cell, which were found as well.
    return [item for item in found if not (type(item) is tuple and item and item[-1] is mark)]


class Names:
    """Finds what the containers among `found` belong to: a module, a class, a function, an object.

    Args:
        found: the containers.
        own: ids of what belongs to the search itself.
        classes: classes whose namespaces are likely to be among the containers.
    """

    def __init__(self, found: list[Any], own: set[int], classes: list[type]) -> None:
        self._modules = {id(vars(module)): module for module in modules.loaded()}
        self._owners: dict[int, list[Any]] = {}
        self._search(found, own, classes)

    @classmethod
    def known(cls, modules: dict[int, types.ModuleType], owners: dict[int, list[Any]]) -> Names:
        """Return one that finds what is known already, by the ids of the containers."""
        names = cls.__new__(cls)
        names._modules, names._owners = modules, owners
        return names

    def _search(self, found: list[Any], own: set[int], classes: list[type]) -> None:
        for cls in classes:
            for part in gc.get_referents(cls):
                if isinstance(part, dict):
                    self._owners[id(part)] = [cls]
        skip = {*own, id(found), id(classes), id(self._owners), *(id(owners) for owners in self._owners.values())}
        # Each pass takes longer, the more it looks for.
        wanted = [item for item in found if self._is_nameless(item) and id(item) not in self._owners]
        for _ in range(_LEVELS):
            if not wanted:
                return
            ids = {id(item) for item in wanted}
            skip |= {id(wanted), id(ids)}
            above = [item for item in referrers(wanted) if id(item) not in skip]
            skip.add(id(above))
            for owner in above:
                if isinstance(owner, types.FrameType):
                    continue
                for held in gc.get_referents(owner):
                    if id(held) in ids:
                        self._owners.setdefault(id(held), []).append(owner)
            skip |= {id(owners) for owners in self._owners.values()}
            wanted = [item for item in above if self._is_nameless(item) and id(item) not in self._owners]

    def home(self, found: dict[Any, Any], key: Any, value: Any) -> Any:
        """Return the module, class, function or object whose namespace or part `found` is; None: a plain mapping."""
        if module := self._modules.get(id(found)):
            return module
        for owner in self._owners.get(id(found), ()):
            if isinstance(owner, type):
                if vars(owner).get(key) is value:
                    return owner
            elif isinstance(owner, types.FunctionType):
                if any(found is part for part in (owner.__kwdefaults__, owner.__annotations__, vars(owner))):
                    return owner
            elif not isinstance(owner, PLAIN) and attributes_of(owner) is found:
                return owner
        return None

    def is_ours(self, found: Any) -> bool:
        """Tell whether a container is part of the records that ascend_overlay keeps, rather than what they are of."""
        for owner in self._owners.get(id(found), ()):
            module = self._modules.get(id(owner))
            if module is not None and f"{module.__name__}.".startswith(_RECORDS):
                return True
            # Python may keep the attributes of an object in a dict of their own.
            objects = self._owners.get(id(owner), ()) if type(owner) is dict else (owner,)
            if any(is_ours(each) and not is_of(each, found) for each in objects):
                return True
        return False

    def is_of_type(self, found: tuple[Any, ...]) -> bool:
        """Tell whether a tuple is the bases or resolution order of a class."""
        owners = self._owners.get(id(found), ())
        return any(isinstance(owner, type) and found in (owner.__bases__, owner.__mro__) for owner in owners)

    def of(self, found: Any, depth: int = 0) -> str:
        """Return the name of a container."""
        for owner in sorted(self._owners.get(id(found), ()), key=_rank):
            if depth > _LEVELS or owner is found:
                break
            if isinstance(owner, dict):
                for key, value in list(dict.items(owner)):
                    if value is not found:
                        continue
                    home = self.home(owner, key, value)
                    if home is None:
                        return f"{self.of(owner, depth + 1)}[{key!r}]"
                    return f"{described(home)}.{key}"
            elif isinstance(owner, (list, tuple, collections.deque)):
                index = next((index for index, value in enumerate(owner) if value is found), 0)
                return f"{self.of(owner, depth + 1)}[{index}]"
            elif not isinstance(owner, PLAIN) and not is_ours(owner):
                for name in _attributes(owner, found):
                    return f"{described(owner)}.{name}"
                return f"a {type(found).__name__} of {described(owner)}"
        return f"a {type(found).__name__}"

    def keeper(self, found: Any, old: Any) -> str | None:
        """Describe an object that keeps `old`, or return None where that is as it should be."""
        kind = type(found)
        if issubclass(kind, types.MethodType):
            return f"a bound method of {described(found.__self__)}"
        if issubclass(kind, types.CellType):
            return self._closure(found, old)
        if issubclass(kind, functools._lru_cache_wrapper):
            return f"a functools.lru_cache, {described(found)}"
        if kind.__name__.startswith(("hamt", "Context")):
            # Its nodes have variables and values in turn.
            names = [held.name for held in gc.get_referents(found) if _holds(held, old)]
            return " and ".join(f"the context variable {name}" for name in names) or "a context variable"
        if isinstance(old, type) and kind is old:
            return f"a live instance of {described(old)}"
        if issubclass(kind, (type, types.FrameType, types.CoroutineType, types.GeneratorType)):
            return None
        if kind.__module__ in _SILENT and not issubclass(kind, tuple):
            return None
        for name in _attributes(found, old):
            return f"attribute {name} of {described(found)}"
        # Types are held by much that only tells what they are: annotations, generic aliases, tables of operators.
        return None if isinstance(old, type) and not isinstance(found, tuple) else described(found)

    def _closure(self, cell: types.CellType, old: Any) -> str | None:
        for above in self._owners.get(id(cell), ()):
            for function in self._owners.get(id(above), ()) if isinstance(above, tuple) else ():
                if not isinstance(function, types.FunctionType) or id(function.__closure__) != id(above):
                    continue
                free = function.__code__.co_freevars[[id(held) for held in above].index(id(cell))]
                if free == "__class__" or is_ours_by_file(function.__code__):
                    return None
                return f"{free} in the closure {described(function)}"
        # The `__class__` cell of a class whose methods are gone, or a variable of a function that is running.
        return None if isinstance(old, type) else "a closure"

    def _is_nameless(self, item: Any) -> bool:
        return isinstance(item, PLAIN) and id(item) not in self._modules


def _holds(variable: Any, value: Any) -> bool:
    return isinstance(variable, contextvars.ContextVar) and variable.get(None) is value


_ROOMS = ("engine", "places", "patches", "ledgers", "overlay")
_RECORDS = tuple(f"{__name__.partition('.')[0]}.{room}." for room in _ROOMS)
_FOLDERS = tuple(str(Path(__file__).parents[1] / room) + os.sep for room in ("engine", "places", "patches"))
_VALUES = {"ground", "base", "installed", "value", "owner", "new", "original", "old", "built", "origin"}
"""Attributes of records that hold something of somebody else's."""


def is_ours_by_file(code: types.CodeType) -> bool:
    """Tell whether code is a part of what changes places."""
    return code.co_filename.startswith(_FOLDERS)


def is_ours(found: Any) -> bool:
    """Tell whether `found` is one of the records that ascend_overlay keeps."""
    return f"{type(found).__module__}.".startswith(_RECORDS)


def is_of(owner: Any, found: Any) -> bool:
    """Tell whether a record holds `found` as what it is of."""
    names = _attributes(owner, found)
    return bool(names) and _VALUES.issuperset(names)


def described(owner: Any) -> str:
    """Return the name of a module, class or function, or words for an object."""
    if isinstance(owner, types.ModuleType):
        return owner.__name__
    if isinstance(owner, (type, types.FunctionType, functools._lru_cache_wrapper)):
        return f"{owner.__module__}.{owner.__qualname__}"
    return f"a live {type(owner).__module__}.{type(owner).__qualname__}"


def member_name(owner: Any, name: str) -> str:
    """Return the full name of a member."""
    return f"{described(owner)}.{name}"


def attributes_of(owner: Any) -> Any:
    """Return the namespace of an object, or None; a proxy has that of what it stands for, which is not its own."""
    if getattr(owner, "__class__", None) is not type(owner):
        return None
    return getattr(owner, "__dict__", None)


def attribute_setter(owner: Any, value: Any) -> Callable[[Any], None] | None:
    """Return what gives the attribute of an object that holds `value` another value; None where there is none."""
    attributes = attributes_of(owner)
    if type(attributes) is dict:
        for key, held in list(attributes.items()):
            if held is value:
                return functools.partial(attributes.__setitem__, key)
    for cls in type(owner).__mro__:
        for member in vars(cls).values():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    if member.__get__(owner) is value:
                        return functools.partial(member.__set__, owner)
                except AttributeError:
                    continue
    return None


def _attributes(owner: Any, value: Any) -> list[str]:
    """Return the names of the attributes of an object that hold `value`, in its dict or its slots."""
    names = [key for key, held in (attributes_of(owner) or {}).items() if held is value]
    for cls in type(owner).__mro__:
        for key, member in vars(cls).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    held = member.__get__(owner)
                except AttributeError:
                    continue
                if held is value:
                    names.append(key)
    return names


def _rank(owner: Any) -> int:
    return 0 if isinstance(owner, dict) else 1 if not isinstance(owner, PLAIN) else 2
