"""Copies of a name: who else holds an object that a patch replaces, and re-binding them.

``from x import y`` copies the object, and so do class attributes, registries, default arguments and partials. One pass
of the garbage collector over the process finds the holders of all replaced objects. A holder that can be changed is;
what holds the object and cannot be changed (a live instance, a closure, a bound method) is reported as stale.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ascend_overlay.places import holders

_DEPTH = 5
"""How deep a copy can be inside immutable containers: a tuple in a tuple, and so on."""
_SHARED_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset)


@dataclass(eq=False)
class Swap:
    """One object that gives way to another, and what became of its holders.

    Attributes:
        old: the object that holders have now.
        new: the object that they shall have.
        name: the attribute name of the target.
        owner: the target's owner; its own attribute `name` is not a copy.
        by_name: only holders that call it `name` are copies: an attribute was set, the object itself was not replaced.
        borrowed: `new` exists in its own right, elsewhere, under its own name.
        restoring: `new` is what was there first; `old` goes.
        shared: somebody beside the target may hold `old`.
        kept: names of globals, "module.name", that keep `old` because the implementation itself uses them.
        copies: filled in: the names of the holders that were re-bound.
        stale: filled in: descriptions of the holders that keep `old`.
        notes: filled in: what else is to be known.
    """

    old: Any
    new: Any
    name: str = ""
    owner: Any = None
    by_name: bool = False
    borrowed: bool = False
    restoring: bool = False
    shared: bool = True
    kept: frozenset[str] = frozenset()
    copies: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def rebindable(value: Any) -> bool:
    """Tell whether `value` has an identity worth following, rather than being a constant that many share."""
    return not isinstance(value, _SHARED_CONSTANTS) and (callable(value) or hasattr(value, "__get__"))


def is_shared(namespace: Any, name: str) -> bool:
    """Tell whether anybody beside `namespace` may hold what it has under `name`."""
    return sys.getrefcount(namespace[name]) > _UNSHARED or isinstance(namespace[name], type)


def names_used(implementation: Any) -> frozenset[str]:
    """Return the globals, as "module.name", that the code of a function or class names."""
    found: set[str] = set()
    members = vars(implementation).values() if isinstance(implementation, type) else [implementation]
    for member in members:
        accessors = (member.fget, member.fset, member.fdel) if isinstance(member, property) else (member,)
        for accessor in accessors:
            function = getattr(accessor, "__func__", accessor)
            if isinstance(function, types.FunctionType):
                module = function.__globals__.get("__name__")
                found |= {f"{module}.{name}" for name in _names_in(function.__code__)}
    return frozenset(found)


def rebind_everywhere(swaps: Sequence[Swap]) -> None:
    """Re-bind every copy in the process that can be re-bound, and describe the rest as stale."""
    _forget_unheld()
    with unfrozen():
        for _ in range(_DEPTH):
            if not swaps:
                break
            swaps = _Sweep(swaps).run()
    # The last ones, where there are more than so many levels.
    swaps = ()
    _forget_unheld()


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


class _Sweep:
    """One pass over the referrers of all swapped objects."""

    def __init__(self, swaps: Sequence[Swap]) -> None:
        self.by_id: dict[int, list[Swap]] = {}
        for swap in swaps:
            self.by_id.setdefault(id(swap.old), []).append(swap)
        self.further: dict[int, _Rebuilding] = {}

    def run(self) -> list[Swap]:
        """Re-bind; return the swaps of immutable holders that were built anew, for whoever holds those."""
        olds = [swaps[0].old for swaps in self.by_id.values()]
        own = {id(olds), *(id(vars(swap)) for swaps in self.by_id.values() for swap in swaps)}
        found = [referrer for referrer in holders.referrers(olds) if id(referrer) not in own]
        owners = [swap.owner for swaps in self.by_id.values() for swap in swaps]
        self.names = holders.Names(found, own, [owner for owner in owners if isinstance(owner, type)])
        for referrer in found:
            if not isinstance(referrer, Swap):
                self._visit(referrer)
        return list(self.further.values())

    def _visit(self, found: Any) -> None:
        if isinstance(found, (dict, list, set)) and self.names.is_ours(found):
            return
        if isinstance(found, dict):
            self._visit_dict(found)
        elif isinstance(found, (list, collections.deque)):
            for index, value in enumerate(_items(found)):
                self._rebind(
                    value, None, f"{self.names.of(found)}[{index}]", functools.partial(_set_index, found, index)
                )
        elif isinstance(found, set):
            for value in list(set.__iter__(found)):
                self._rebind(value, None, f"{self.names.of(found)}{{}}", functools.partial(_exchange, found, value))
        elif type(found) in _REBUILDABLE:
            self._rebuild(found)
        elif isinstance(found, functools.partial):
            self._visit_partial(found)
        elif isinstance(found, types.FunctionType):
            self._visit_function(found)
        else:
            self._report(found)

    def _visit_dict(self, found: dict[Any, Any]) -> None:
        # By the methods of dict: a subclass may load what it is asked for (transformers' lazy mappings).
        for key, value in list(dict.items(found)):
            if id(value) not in self.by_id:
                continue
            home = self.names.home(found, key, value)
            if home is None:
                put = functools.partial(found.__setitem__, key)
                self._rebind(value, None, f"{self.names.of(found)}[{key!r}]", put)
            elif isinstance(home, types.ModuleType):
                self._rebind(value, key, f"{home.__name__}.{key}", functools.partial(found.__setitem__, key))
            elif isinstance(home, type):
                where = f"{home.__module__}.{home.__qualname__}.{key}"
                self._rebind(value, key, where, functools.partial(type.__setattr__, home, key), of_class=True)
            elif isinstance(home, types.FunctionType):
                # Its defaults are copies; __wrapped__ and annotations are as they should be.
                if home.__kwdefaults__ is found:
                    where = f"{holders.described(home)}(default {key})"
                    self._rebind(value, None, where, functools.partial(found.__setitem__, key))
            elif not holders.is_ours(home):
                self._stale(value, f"attribute {key} of {holders.described(home)}")

    def _visit_partial(self, found: Any) -> None:
        if id(found.func) in self.by_id:
            put = functools.partial(_set_partial, found, "func")
            self._rebind(found.func, None, f"{self.names.of(found)}(function)", put)
        if id(found.args) in self.by_id:
            put = functools.partial(_set_partial, found, "args")
            self._rebind(found.args, None, f"{self.names.of(found)}(arguments)", put)

    def _visit_function(self, found: types.FunctionType) -> None:
        if id(found.__defaults__) in self.by_id:
            put = functools.partial(setattr, found, "__defaults__")
            self._rebind(found.__defaults__, None, f"{holders.described(found)}(default", put)

    def _rebuild(self, found: Any) -> None:
        """Have an immutable holder built anew, with the new objects in it, and put in place of the old one."""
        if (
            id(found) in self.by_id
            or id(found) in self.further
            or (isinstance(found, tuple) and self.names.is_of_type(found))
        ):
            return
        parts: list[tuple[Swap, str]] = []
        fresh = _rebuilt(found, self._new_for(parts))
        if parts:
            self.further[id(found)] = _Rebuilding(found, fresh, shared=True, parts=parts)

    def _new_for(self, parts: list[tuple[Swap, str]]) -> Callable[[Any, str], Any]:
        def new_for(value: Any, suffix: str) -> Any:
            swaps = [swap for swap in self.by_id.get(id(value), ()) if not swap.by_name]
            if not swaps:
                return value
            parts.append((swaps[0], suffix))
            return swaps[0].new

        return new_for

    def _rebind(
        self, value: Any, key: str | None, where: str, put: Callable[[Any], None], *, of_class: bool = False
    ) -> None:
        swap = self._swap_for(value, key)
        if swap is None or swap.new is value or _is_home(swap, key, where):
            return
        if where in swap.kept:
            swap.notes.append(f"{where} keeps the original, which the implementation uses by that name")
            return
        if of_class and isinstance(swap.owner, type) and key != swap.name:
            # `forward_hip = forward_cuda` in a class body means another name, not a copy of this one.
            swap.stale.append(f"{where} (an alias under another name, left as it is)")
            return
        try:
            put(swap.new)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            swap.stale.append(f"{where} ({error})")
        else:
            _copied(swap, where)

    def _swap_for(self, value: Any, key: str | None) -> Swap | None:
        swaps = self.by_id.get(id(value), [])
        named = [swap for swap in swaps if swap.name == key]
        return next(iter(named or [swap for swap in swaps if not swap.by_name]), None)

    def _report(self, found: Any) -> None:
        if holders.is_ours(found):
            return
        for held in gc.get_referents(found):
            for swap in self.by_id.get(id(held), ()):
                if not swap.by_name and (text := self.names.keeper(found, swap.old)):
                    self._stale(held, text)

    def _stale(self, value: Any, text: str) -> None:
        for swap in self.by_id.get(id(value), ()):
            if not swap.by_name and text not in swap.stale:
                _left(swap, text)


@dataclass(eq=False)
class _Rebuilding(Swap):
    """The swap of an immutable holder, on behalf of the swaps of what it holds."""

    parts: list[tuple[Swap, str]] = field(default_factory=list)


def _copied(swap: Swap, where: str) -> None:
    """Note that the holder called `where` was re-bound."""
    if isinstance(swap, _Rebuilding):
        for part, suffix in swap.parts:
            # A function's defaults come as "f(default", everything else as a whole name.
            _copied(part, f"{where} {suffix[1:-1]})" if where.endswith("(default") else f"{where}{suffix}")
    else:
        swap.copies.append(where)


def _left(swap: Swap, text: str) -> None:
    """Note that somebody keeps the old object."""
    if isinstance(swap, _Rebuilding):
        for part, _ in swap.parts:
            _left(part, text)
    elif text not in swap.stale:
        swap.stale.append(text)


def _is_home(swap: Swap, key: str | None, where: str) -> bool:
    """Tell whether the holder has the object in its own right rather than as a copy of the target.

    That is the target itself, and, when an object that an overlay lent is put back, every place that has it by its own
    name, and its own module.
    """
    if isinstance(swap, _Rebuilding):
        return any(_is_home(part, None, where) for part, _ in swap.parts)
    if key == swap.name and where == holders.member_name(swap.owner, swap.name):
        return True
    module, own_name = getattr(swap.old, "__module__", None), getattr(swap.old, "__name__", None)
    lent = swap.restoring and swap.borrowed
    if (swap.by_name or lent) and where == f"{module}.{getattr(swap.old, '__qualname__', None)}":
        return True
    if not lent:
        return False
    if key is None:
        return where.startswith(f"{module}.")
    return key == own_name and own_name != swap.name


@dataclass(eq=False)
class _Origin:
    built: Any
    origin: Any


# What was built anew, by id, and what it was built from: taking a patch back restores the very object.
_origins: dict[int, _Origin] = {}


def _rebuilt(found: Any, new_for: Callable[[Any, str], Any]) -> Any:
    """Return `found` with other parts: the object that it was once built from where those are its parts again."""
    parts = _REBUILDABLE[type(found)]
    before = parts[0](found)
    after = [new_for(value, f"[{index}]") for index, value in enumerate(before)]
    origin = _origins[id(found)].origin if id(found) in _origins else found
    was = parts[0](origin)
    if type(found) is frozenset:
        if {id(part) for part in was} == {id(part) for part in after}:
            return _forget(found, origin)
    elif len(was) == len(after) and all(old is new for old, new in zip(was, after, strict=True)):
        return _forget(found, origin)
    fresh = parts[1](found, after)
    _origins[id(fresh)] = _Origin(fresh, origin)
    return fresh


def _forget(found: Any, origin: Any) -> Any:
    _origins.pop(id(found), None)
    return origin


def _forget_unheld() -> None:
    """Forget what nobody holds any more.

    It would live on here, be found by the next search as a holder that wants to be built anew, and so on: each enable()
    would find several times as many as the one before.
    """
    # What goes may have been the last to hold another.
    while unheld := [key for key, entry in _origins.items() if _references(entry) <= _HELD_HERE]:
        for key in unheld:
            del _origins[key]


def _made(kind: type) -> Callable[[Any, list[Any]], Any]:
    return lambda found, parts: kind(*parts)


_REBUILDABLE: dict[type, tuple[Callable[[Any], list[Any]], Callable[[Any, list[Any]], Any]]] = {
    tuple: (list, lambda found, parts: tuple(parts)),
    frozenset: (list, lambda found, parts: frozenset(parts)),
    staticmethod: (lambda found: [found.__func__], _made(staticmethod)),
    classmethod: (lambda found: [found.__func__], _made(classmethod)),
    property: (
        lambda found: [found.fget, found.fset, found.fdel],
        lambda found, parts: property(parts[0], parts[1], parts[2], found.__doc__),
    ),
}


def _items(container: list[Any] | collections.deque[Any]) -> list[Any]:
    return list(list.__iter__(container) if isinstance(container, list) else collections.deque.__iter__(container))


def _set_index(container: Any, index: int, value: Any) -> None:
    container[index] = value


def _exchange(container: set[Any], old: Any, new: Any) -> None:
    container.discard(old)
    container.add(new)


def _set_partial(partial: Any, part: str, value: Any) -> None:
    state = {"func": partial.func, "args": partial.args} | {part: value}
    partial.__setstate__((state["func"], state["args"], partial.keywords, vars(partial)))


def _names_in(code: types.CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _unshared_count() -> int:
    namespace = {"probe": lambda: None}
    return sys.getrefcount(namespace["probe"])


def _references(entry: _Origin) -> int:
    return sys.getrefcount(entry.built)


# Asked of Python itself: how many references a call of sys.getrefcount() adds is up to its release.
_UNSHARED = _unshared_count()
_HELD_HERE = _references(_Origin(object(), None))
"""References to what nobody but its _Origin holds."""
