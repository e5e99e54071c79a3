"""The modules of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any


def loaded() -> list[ModuleType]:
    """Return every module, in the order in which they were imported."""
    return [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]


def of(packages: Iterable[str]) -> list[ModuleType]:
    """Return every module of some packages, given by the first parts of their names."""
    # By the names in sys.modules: to touch each module takes ten milliseconds where there are thousands.
    roots = set(packages)
    prefixes = tuple(f"{package}." for package in roots)
    found = [module for name, module in list(sys.modules.items()) if name.startswith(prefixes) or name in roots]
    return [module for module in found if isinstance(module, ModuleType)]


def package_of(owner: Any) -> str:
    """Return the package of a module, class or function: the first part of its module's name."""
    name = owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", None)
    return str(name).partition(".")[0]


def holding(ids: set[int], among: Iterable[ModuleType]) -> Iterator[ModuleType]:
    """Yield the modules that hold an object, by whatever name.

    Args:
        ids: the ids of the objects that are meant.
        among: the modules to look at.
    """
    for module in among:
        if not ids.isdisjoint(map(id, list(vars(module).values()))):
            yield module
