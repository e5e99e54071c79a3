"""Live instances of some classes, found without a search of the heap where counting shows that there are no others.

An instance holds its class. Where modules, the classes themselves and the instances that an earlier search has found
account for all references to a class, there is no further instance of it. Else the heap is searched, which takes a
tenth of a second in a process that has vLLM.
"""

from __future__ import annotations

import collections
import functools
import gc
import sys
import types
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ascend_overlay.places import modules
from ascend_overlay.places.bindings import unfrozen
from ascend_overlay.places.holders import PLAIN

_MANY = 20_000
_WRAPPING = (types.FunctionType, staticmethod, classmethod, property, functools.partialmethod)
_OF_A_CLASS = (types.GetSetDescriptorType, types.MemberDescriptorType)
# Free-threaded builds count the references to a class for each thread.
_COUNTED = sys.implementation.name == "cpython" and "t" not in sys.abiflags


class _Probe:
    """A class that is held as the searched ones are, and has no instances: what the search itself adds to a count."""


_known: list[weakref.ref[Any]] = []
"""Instances that a search has found."""


def instances(places: Sequence[tuple[str, str]], parts: Iterable[Any] = ()) -> list[Any]:
    """Return the live instances of some classes and of those derived from them, garbage that was not collected as well.

    Args:
        places: module and name of each class; what is not loaded has none.
        parts: objects that may hold the classes, and are no instances of them: the fewer holders are unknown, the fewer
            searches there are.
    """
    family = _family(places)
    if len(family) == 1:
        return []
    found = _counted(family, parts) if _COUNTED else None
    return _searched(family) if found is None else found


def _family(places: Sequence[tuple[str, str]]) -> list[type]:
    """Return the probe, the classes, and those derived from them, once each: nothing else here may hold them."""
    family: dict[int, type] = {id(_Probe): _Probe}
    for module, name in places:
        cls = getattr(sys.modules.get(module), name, None)
        for each in _with_derived(cls) if isinstance(cls, type) else ():
            family[id(each)] = each
    return list(family.values())


def _with_derived(cls: type) -> Iterator[type]:
    yield cls
    children: list[type] = type.__subclasses__(cls)
    for child in children:
        yield from _with_derived(child)


def _searched(family: Sequence[type]) -> list[Any]:
    kinds = set(map(id, family))
    with unfrozen():
        found = [each for each in gc.get_referrers(*family) if id(type(each)) in kinds]
    new = {id(each): each for each in found}
    _known[:] = [each for each in _known if (held := each()) is not None and id(held) not in new]
    for each in new.values():
        if type(each).__weakrefoffset__:
            _known.append(weakref.ref(each))
    return found


def _counted(family: Sequence[type], parts: Iterable[Any]) -> list[Any] | None:
    """Return the instances that are known already where they are all that there are, or None."""
    kinds = set(map(id, family))
    known = [held for each in _known if (held := each()) is not None and id(type(held)) in kinds]
    counts = {id(cls): sys.getrefcount(cls) for cls in family}
    seen = collections.Counter(id(type(held)) for held in known)
    holders = _holders(family, kinds, parts)
    for found in (_at_home, _in_their_packages, _everywhere):
        for module in found(family, kinds):
            holders[id(vars(module))] = vars(module)
        if _account_for(counts, seen, holders.values()):
            return known
    return None


def _account_for(counts: dict[int, int], known: dict[int, int], holders: Iterable[Any]) -> bool:
    """Tell whether the references of the holders, and the instances that are known, are all that there are."""
    seen = collections.Counter(known)
    for holder in holders:
        for held in gc.get_referents(holder):
            if id(held) in counts:
                seen[id(held)] += 1
    usual = counts[id(_Probe)] - seen[id(_Probe)]
    return all(count - seen[key] <= usual for key, count in counts.items())


def _at_home(family: Sequence[type], kinds: set[int]) -> Iterable[types.ModuleType]:
    """Return the modules that the classes are of."""
    homes = [sys.modules.get(cls.__module__) for cls in family]
    return modules.holding(kinds, [home for home in homes if isinstance(home, types.ModuleType)])


def _in_their_packages(family: Sequence[type], kinds: set[int]) -> Iterable[types.ModuleType]:
    return modules.holding(kinds, modules.of({modules.package_of(cls) for cls in family}))


def _everywhere(family: Sequence[type], kinds: set[int]) -> Iterable[types.ModuleType]:
    return modules.holding(kinds, modules.loaded())


def _holders(family: Sequence[type], kinds: set[int], parts: Iterable[Any]) -> dict[int, Any]:
    """Return what the classes consist of, and what that does, by id: no instance is among them."""
    found: dict[int, Any] = {}
    todo = [*parts]
    for cls in family:
        # The class refers to its base, too.
        found[id(cls)] = cls
        todo += [part for part in gc.get_referents(cls) if isinstance(part, (dict, tuple))]
    while todo and len(found) < _MANY:
        item = todo.pop()
        if id(item) in found or id(type(item)) in kinds:
            continue
        found[id(item)] = item
        apart = item.__globals__ if isinstance(item, types.FunctionType) else None
        todo += [
            part
            for part in gc.get_referents(item)
            if part is not apart and isinstance(part, (*PLAIN, *_WRAPPING, *_OF_A_CLASS))
        ]
    return found
