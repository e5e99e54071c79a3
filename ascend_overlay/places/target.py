"""Targets: dotted places ``package.module:Qualified.name``, found without importing anything."""

from __future__ import annotations

import importlib.machinery
import inspect
import os
import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ascend_overlay import versions
from ascend_overlay.errors import TargetError, did_you_mean
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
        module, separator, qualified = text.partition(":")
        path = tuple(qualified.split("."))
        names = [*module.split("."), *path]
        if not separator or not all(name.isidentifier() for name in names):
            hint = " There is a blank in it." if any(char.isspace() for char in text) else ""
            raise TargetError(f"{text!r} is not a target; write it as 'package.module:Qualified.name'.{hint}")
        return cls(module, path)

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.path)}"


@dataclass(frozen=True)
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
    return TargetError(f"the target {target} does not exist: {what} has no {name!r}.{did_you_mean(name, known)}{lazy}")


def locate(module: str) -> None:
    """Check that `module` can be imported, without importing it or its parent packages.

    Raises:
        TargetError: no such module; the message has the nearest names that exist.
    """
    missing, search = _first_missing(module)
    if missing is not None:
        raise TargetError(_no_such_module(module, missing, missing.rpartition(".")[0], search))


def exists(module: str) -> bool:
    """Tell whether `module` can be imported, without importing anything."""
    return _first_missing(module)[0] is None


def source_of(module: str) -> str | None:
    """Return the path of the Python file of `module`, without importing anything; None where there is none."""
    package = module.rpartition(".")[0]
    missing, search = _first_missing(package) if package else (None, None)
    if missing is not None:
        return None
    loaded = getattr(sys.modules.get(module), "__spec__", None)
    spec = loaded or _find_spec(module, search)
    origin = spec.origin if spec is not None else None
    return origin if origin is not None and origin.endswith(".py") else None


def _first_missing(module: str) -> tuple[str | None, list[str] | None]:
    """Return the first package on the way to `module` that is not there, and where it was looked for."""
    search: list[str] | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name in sys.modules:
            search = list(getattr(sys.modules[name], "__path__", None) or ())
            continue
        if search and (inside := _in_folder(search[0], parts[depth - 1])) is not None:
            search = inside
            continue
        spec = _find_spec(name, search)
        if spec is None:
            return name, search
        search = list(spec.submodule_search_locations or ())
    return None, search


def _in_folder(folder: str, name: str) -> list[str] | None:
    """Return where a module that is an ordinary file or package of `folder` has its own; None where it is not one.

    The import system would make a spec, which takes ten times as long, and there are more than a hundred targets.
    """
    path = f"{folder}{os.sep}{name}"
    if os.path.isfile(f"{path}{os.sep}__init__.py"):
        return [path]
    return [] if os.path.isfile(f"{path}.py") and not os.path.isdir(path) else None


def _find_spec(name: str, search: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    found = versions.memory() if search is None else {}
    key = "spec", name
    if key not in found:
        found[key] = _found_by_finders(name, search)
    spec: importlib.machinery.ModuleSpec | None = found[key]
    return spec


def _found_by_finders(name: str, search: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    # Only finders that import nothing may be asked; editable installs bring their own, for top-level names.
    spec = importlib.machinery.PathFinder.find_spec(name, search)
    if spec is None and search is None:
        for finder in sys.meta_path:
            if getattr(finder, "__module__", "").startswith("__editable__"):
                spec = finder.find_spec(name, None)
                if spec is not None:
                    break
    return spec


def _no_such_module(wanted: str, missing: str, parent: str, search: list[str] | None) -> str:
    if not parent:
        return f"the module {wanted!r} does not exist here: the package {missing!r} is not installed."
    known = [f"{parent}.{info.name}" for info in pkgutil.iter_modules(search or [])]
    return f"the module {wanted!r} does not exist: {parent!r} has no such module.{did_you_mean(missing, known)}"
