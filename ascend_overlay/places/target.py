"""Targets: dotted places ``package.module:Qualified.name``, found without importing anything."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ascend_overlay.errors import TargetError, did_you_mean, represented
from ascend_overlay.places.bindings import is_shared

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<missing>", "__slots__": ()})()


@dataclass(frozen=True)
class Target:
    """A parsed target.

    Attributes:
        module: dotted name of the module whose import makes the target exist.
        path: the attribute names that lead from the module to the target.
    """

    module: str
    path: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse "package.module:Qualified.name".

        Raises:
            TargetError: `text` has another form.
        """
        if not isinstance(text, str):
            raise TargetError(
                f"{spoken(text)} is not a target; write it as a string, 'package.module:Qualified.name'{written(text)}."
            )
        return cls(*_parts_of(text))

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.path)}"


@functools.lru_cache(maxsize=1000)
def _parts_of(text: str) -> tuple[str, tuple[str, ...]]:
    module, separator, qualified = text.partition(":")
    path = tuple(qualified.split("."))
    names = [*module.split("."), *path]
    if not separator or not all(name.isidentifier() for name in names):
        raise TargetError(f"{text!r} is not a target; write it as 'package.module:Qualified.name'.{_misspelling(text)}")
    return module, path


def _misspelling(text: str) -> str:
    """Return " ..." about what keeps `text` from being a target, where that is plain."""
    if any(char.isspace() for char in text):
        return " There is a blank in it."
    if text.count(":") > 1:
        module, _, name = text.partition(":")
        dotted = name.replace(":", ".")
        return f" Did you mean {f'{module}:{dotted}'!r}? There is one colon, behind the module."
    parts = text.replace(":", ".").split(".")
    # Names of modules are written small, and those of classes are not.
    first = next((index for index, part in enumerate(parts) if index and part[:1].isupper()), len(parts) - 1)
    module, name = ".".join(parts[:first]), ".".join(parts[first:])
    if module and all(part.isidentifier() for part in parts):
        return f" Did you mean {f'{module}:{name}'!r}? The colon stands behind the module."
    return ""


def spoken(thing: object) -> str:
    """Name an object that stands where a string is due."""
    if isinstance(thing, ModuleType):
        return f"the module {thing.__name__}"
    if isinstance(thing, type):
        return f"the class {thing.__qualname__}"
    name = getattr(thing, "__qualname__", None)
    return f"the function {name}" if isinstance(name, str) else f"{represented(thing)} ({type(thing).__name__})"


def written(thing: object) -> str:
    """Return ", here ..." with the string that names `thing`, where one does."""
    if isinstance(thing, ModuleType):
        return f", here {thing.__name__ + ':'!r} and a name in it"
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name or module == "__main__":
        return ""
    return f", here {f'{module}:{name}'!r}"


@dataclass(frozen=True, eq=False)
class Place:
    """Where a target was found.

    Attributes:
        owner: the module, class or object that has the attribute.
        name: the attribute's name.
        raw: what the owner holds under it, descriptors unresolved; MISSING where there is nothing.
        own: the owner itself holds it, rather than a class that it inherits from.
        shared: somebody else may hold it, too.
    """

    owner: Any
    name: str
    raw: Any
    own: bool
    shared: bool


def find(module: ModuleType, target: Target, *, alias: Mapping[int, type] | None = None) -> Place:
    """Walk from the loaded `module` to `target`, without running any descriptor or module `__getattr__`.

    Args:
        module: the loaded module.
        target: where to go.
        alias: id of a class -> the subclass that stands for it; used for the owners on the way.

    Raises:
        TargetError: a name on the way does not exist. A missing last name is no error here: `raw` is MISSING.
    """
    owner: Any = module
    for index, name in enumerate(target.path[:-1]):
        raw, _ = lookup(owner, name)
        if raw is MISSING:
            raise _no_such_name(target, owner, index)
        owner = raw.__get__(None, owner) if isinstance(raw, (staticmethod, classmethod)) else raw
        if alias and isinstance(owner, type):
            owner = alias.get(id(owner), owner)
    name = target.path[-1]
    namespace = getattr(owner, "__dict__", {})
    # Before anything here refers to it.
    shared = name in namespace and is_shared(namespace, name)
    raw, own = lookup(owner, name)
    return Place(owner, name, raw, own, shared)


def lookup(owner: Any, name: str) -> tuple[Any, bool]:
    """Return what `owner` holds under `name` and whether it holds that itself; (MISSING, False) where nothing does."""
    namespace = getattr(owner, "__dict__", None)
    if namespace is not None and name in namespace:
        return namespace[name], True
    if isinstance(owner, ModuleType):
        return MISSING, False
    if isinstance(owner, type):
        for base in owner.__mro__:
            if name in vars(base):
                return vars(base)[name], False
        if callable(vars(type).get(name)):
            # What `type` has for every class, __call__ above all, is nothing that instances have.
            return MISSING, False
    raw = inspect.getattr_static(owner, name, MISSING)
    return raw, False


def require(place: Place, target: Target) -> Place:
    """Return `place`, or raise the TargetError that says what exists instead."""
    if place.raw is MISSING:
        raise _no_such_name(target, place.owner, len(target.path) - 1)
    return place


def _no_such_name(target: Target, owner: Any, index: int) -> TargetError:
    name = target.path[index]
    what = f"module {target.module!r}" if index == 0 else f"{target.module}:{'.'.join(target.path[:index])}"
    if isinstance(owner, ModuleType) and "__getattr__" in vars(owner):
        lazy = f" The module makes some names on demand; name the module that defines {name!r}." if index == 0 else ""
    else:
        lazy = ""
    known = [known for known in dir(owner) if not known.startswith("__")]
    if lazy and (key := _mapping_with(owner, name)) is not None:
        mapping = f"{target.module}:{key}"
        lazy = f" {mapping} has the key {name!r}: that is overlay.item({mapping!r}, {name!r}, ...)."
    if isinstance(owner, Mapping) and name in owner:
        lazy = f" It is a mapping with the key {name!r}: name the mapping, and give the key as an argument."
    return TargetError(f"the target {target} does not exist: {what} has no {name!r}.{did_you_mean(name, known)}{lazy}")


def _mapping_with(module: ModuleType, key: str) -> str | None:
    """Return the name of a mapping of `module` that has `key`: what makes names on demand often has one."""
    tables = ((name, value) for name, value in vars(module).items() if not name.startswith("__"))
    return next((name for name, value in tables if type(value) is dict and key in value), None)
