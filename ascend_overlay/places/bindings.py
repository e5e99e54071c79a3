"""Copies of a name: who else holds an object that a patch replaces, and re-binding them.

``from x import y`` copies the object, and so do class attributes, registries, default arguments and partials. One pass
of the garbage collector over the process finds the holders of all replaced objects. A holder that can be changed is;
what holds the object and cannot be changed (a live instance, a closure, a dispatcher of operators) is left behind: the
caller may send the calls of the object itself elsewhere, and reports the rest as stale.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ascend_overlay.errors import told
from ascend_overlay.places import holders, immutable, modules, references, suspended, weak
from ascend_overlay.places.accounts import Accounts

_DEPTH = 5
"""How deep a copy can be inside immutable containers: a tuple in a tuple, and so on."""
CONSTANTS = (type(None), bool, int, float, complex, str, bytes)
"""What has no identity: there may be one object of a value in the whole process, which everybody holds."""
_SHARED_CONSTANTS = (*CONSTANTS, tuple, frozenset)


@dataclass(eq=False, slots=True)
class Swap:
    """One object that gives way to another, and what became of its holders.

    Attributes:
        old: the object that holders have now.
        new: the object that they shall have.
        name: the attribute name of the target.
        owner: the target's owner; its own attribute `name` is not a copy.
        by_name: only holders that call it `name` are copies: an attribute was set, the object itself was not replaced.
        borrowed: `old` exists in its own right, elsewhere, under its own name.
        lent: `old` is borrowed, and yet whoever has it outside of its package got it from the target.
        restoring: `new` is what was there first; `old` goes.
        shared: somebody beside the target may hold `old`.
        kept: modules, or names in them, that keep `old`, because the implementation uses it there.
        only: modules, or names in them, that are the only holders to be re-bound; None: all are.
        stray: on whose behalf; for the caller.
        copies: filled in: the names of the holders that were re-bound.
        left: filled in: descriptions of the holders that keep `old`, and could not be re-bound.
        apart: filled in: descriptions of those that keep it, and are to keep it.
        notes: filled in: what else is to be known.
        going: filled in: descriptions of calls that were begun before, and go on as they were.
    """

    old: Any
    new: Any
    name: str = ""
    owner: Any = None
    by_name: bool = False
    borrowed: bool = False
    lent: bool = False
    restoring: bool = False
    shared: bool = True
    kept: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    stray: Any = None
    copies: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    going: list[str] = field(default_factory=list)

    @property
    def is_thorough(self) -> bool:
        """Whether holders are re-bound that else are left alone: the variables of closures, attributes of objects.

        What a patch put in the world goes out of it wherever it got to, unless others may have it in its own right; and
        what an implementation holds is its own.
        """
        return (self.restoring and not self.borrowed) or self.only is not None or self.lent


def rebindable(value: Any) -> bool:
    """Tell whether `value` has an identity worth following, rather than being a constant that many share."""
    return not isinstance(value, _SHARED_CONSTANTS) and (callable(value) or hasattr(value, "__get__"))


def is_shared(namespace: Any, name: str) -> bool:
    """Tell whether anybody beside `namespace` may hold what it has under `name`."""
    if isinstance(namespace[name], type) or sys.getrefcount(namespace[name]) > _UNSHARED:
        return True
    inside = getattr(namespace[name], "__func__", None)
    # A variable and the descriptor hold it.
    return bool(weakref.getweakrefcount(namespace[name])) or (
        inside is not None and sys.getrefcount(inside) > _UNSHARED + 1
    )


def rebind_everywhere(swaps: Sequence[Swap], records: Sequence[Any] = ()) -> None:
    """Re-bind every copy in the process that can be re-bound, and describe the rest.

    Args:
        swaps: what is to be re-bound.
        records: what leads to our own records of it: the fewer holders are unknown, the fewer searches there are.
    """
    immutable.forget_unheld()
    if not swaps:
        return
    swaps = _rebind_the_accounted(swaps, records)
    with unfrozen():
        for turn in range(_DEPTH):
            if not swaps:
                break
            swaps = _Sweep(swaps).run(count=not turn)
    # The last ones, where there are more than so many levels.
    swaps = ()
    immutable.forget_unheld()


def _rebind_the_accounted(swaps: Sequence[Swap], records: Sequence[Any]) -> list[Swap]:
    """Re-bind what is held by known holders only; return the swaps of what others hold, too."""
    objects = list({id(swap.old): swap.old for swap in swaps}.values())
    probe = references.Probe()
    owners = [swap.owner for swap in swaps if isinstance(swap.owner, type)]
    accounts = Accounts(objects, probe, owners, records)
    complete: set[int] = set()
    for among in (_homes, _in_their_packages, _everywhere):
        accounts.add_modules(among(swaps))
        complete = accounts.complete([objects, *swaps])
        if len(complete) == len(objects):
            break
    sweep = _Sweep([swap for swap in swaps if id(swap.old) in complete])
    further = sweep.visit(accounts)
    return [*further, *(swap for swap in swaps if id(swap.old) not in complete)]


def _homes(swaps: Sequence[Swap]) -> list[types.ModuleType]:
    """Return the modules in which there is a copy for sure; to look at all takes a while."""
    names = [getattr(part, "__module__", None) for swap in swaps for part in (swap.old, swap.new)]
    owners = [swap.owner for swap in swaps]
    found = [*owners, *(sys.modules.get(name) for name in names if isinstance(name, str))]
    return [home for home in found if isinstance(home, types.ModuleType)]


def _in_their_packages(swaps: Sequence[Swap]) -> list[types.ModuleType]:
    parts = [part for swap in swaps for part in (swap.owner, swap.old, swap.new)]
    return modules.of({modules.package_of(part) for part in parts})


def _everywhere(swaps: Sequence[Swap]) -> list[types.ModuleType]:
    return modules.loaded()


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
        self.further: dict[int, list[_Rebuilding]] = {}

    def visit(self, accounts: Accounts) -> list[Swap]:
        """Re-bind where nobody holds anything beside the holders of `accounts`; return as run() does."""
        self.names = holders.Names.known(accounts.modules, accounts.owners)
        for holder in accounts.holders if self.by_id else ():
            if not isinstance(holder, Swap) and id(holder) not in accounts.kept:
                self._visit(holder)
        for swaps in self.by_id.values():
            self._look_for_the_unseen(swaps, set(), {})
        return [swap for swaps in self.further.values() for swap in swaps]

    def run(self, *, count: bool) -> list[Swap]:
        """Re-bind; return the swaps of immutable holders that were built anew, for whoever holds those.

        Args:
            count: see whether there are holders that the garbage collector does not know of.
        """
        olds = [swaps[0].old for swaps in self.by_id.values()]
        probe = references.Probe() if count else None
        wanted = [*olds, probe.subject] if probe is not None else olds
        own = {id(olds), id(wanted)}
        every = holders.referrers(wanted)
        own.add(id(every))
        unseen, running = references.unseen(wanted, every, probe) if probe is not None else (set(), {})
        found = [referrer for referrer in every if id(referrer) not in own and not isinstance(referrer, Swap)]
        owners = [swap.owner for swaps in self.by_id.values() for swap in swaps]
        self.names = holders.Names(found, own, [owner for owner in owners if isinstance(owner, type)])
        for referrer in found:
            self._visit(referrer)
        for swaps in self.by_id.values():
            self._look_for_the_unseen(swaps, unseen, running)
        return [swap for swaps in self.further.values() for swap in swaps]

    def _visit(self, found: Any) -> None:
        # Not isinstance(): a proxy says that it is of the class of what it wraps.
        kind = type(found)
        if issubclass(kind, (dict, list, set, tuple)) and self.names.is_ours(found):
            return
        if issubclass(kind, dict):
            self._visit_dict(found)
        elif issubclass(kind, (list, collections.deque)):
            for index, value in enumerate(_items(found)):
                put = functools.partial(_set_index, found, index)
                self._rebind(value, None, self._named(found, f"[{index}]"), put)
        elif issubclass(kind, set):
            for value in list(set.__iter__(found)):
                put = functools.partial(_exchange, found, value)
                self._rebind(value, None, self._named(found, "{}"), put)
        elif immutable.is_rebuildable(found):
            self._rebuild(found)
        elif issubclass(kind, functools.partial):
            self._visit_partial(found)
        elif issubclass(kind, types.FunctionType):
            self._visit_function(found)
        elif issubclass(kind, types.CellType):
            self._visit_cell(found)
        else:
            self._visit_object(found)

    def _named(self, found: Any, part: str) -> Callable[[], str]:
        return lambda: f"{self.names.of(found)}{part}"

    def _visit_dict(self, found: dict[Any, Any]) -> None:
        if _is_schema(found):
            return
        # By the methods of dict: a subclass may load what it is asked for (transformers' lazy mappings).
        for key, value in list(dict.items(found)):
            if id(value) in self.by_id:
                self._visit_entry(found, key, value)
        for key in list(dict.keys(found)):
            if id(key) in self.by_id:
                put = functools.partial(_change_key, found, key)
                self._rebind(key, None, lambda: f"a key of {self.names.of(found)}", put, thoroughly=True)

    def _visit_entry(self, found: dict[Any, Any], key: Any, value: Any) -> None:
        home = self.names.home(found, key, value)
        put = functools.partial(found.__setitem__, key)
        if home is None:
            self._rebind(value, None, self._named(found, f"[{key!r}]"), put)
        elif isinstance(home, types.ModuleType):
            self._rebind(value, key, lambda: f"{home.__name__}.{key}", put)
        elif isinstance(home, type):
            put = functools.partial(type.__setattr__, home, key)
            self._rebind(value, key, lambda: f"{home.__module__}.{home.__qualname__}.{key}", put, of_class=True)
        elif isinstance(home, types.FunctionType):
            # Its defaults are copies; __wrapped__ and annotations are as they should be.
            if home.__kwdefaults__ is found and not key.startswith("__ascend_overlay"):
                self._rebind(value, None, lambda: f"{holders.described(home)}(default {key})", put)
            elif home.__kwdefaults__ is not found:
                self._rebind(
                    value, None, lambda: f"{holders.described(home)}.{key}", put, thoroughly=True, silently=True
                )
        elif not holders.is_ours(home):
            self._rebind(value, None, lambda: f"attribute {key} of {holders.described(home)}", put, thoroughly=True)

    def _visit_partial(self, found: Any) -> None:
        for part, words in (("func", "(function)"), ("args", "(arguments)")):
            value = getattr(found, part)
            put = functools.partial(_set_partial, found, part)
            self._rebind(value, None, self._named(found, words), put)

    def _visit_function(self, found: types.FunctionType) -> None:
        put = functools.partial(setattr, found, "__defaults__")
        self._rebind(found.__defaults__, None, lambda: f"{holders.described(found)}(default", put)

    def _visit_cell(self, found: types.CellType) -> None:
        value = found.cell_contents
        put = functools.partial(setattr, found, "cell_contents")
        for swap in self.by_id.get(id(value), ()):
            if text := self.names.keeper(found, swap.old):
                self._rebind(value, None, functools.partial(str, text), put, thoroughly=True, swap=swap)

    def _visit_object(self, found: Any) -> None:
        if holders.is_ours(found):
            return
        if suspended.is_suspended(found):
            self._visit_suspended(found)
            return
        for held in gc.get_referents(found):
            for swap in self.by_id.get(id(held), ()):
                if swap.by_name or not (text := self.names.keeper(found, swap.old)):
                    continue
                put = holders.attribute_setter(found, swap.old)
                if put is not None:
                    self._rebind(held, None, functools.partial(str, text), put, thoroughly=True, swap=swap)
                elif swap.only is None:
                    _left(swap, text)

    def _visit_suspended(self, found: Any) -> None:
        words = suspended.described(found)
        for held in {id(held): held for held in gc.get_referents(found)}.values():
            for swap in self.by_id.get(id(held), ()):
                if swap.only is not None or swap.by_name:
                    continue
                ours, call = suspended.is_ours(found), suspended.is_call_of(found, held)
                names = [] if ours else suspended.variables(found, held)
                for name in names:
                    _left(swap, f"variable {name} of {words}")
                if call or (isinstance(held, types.FunctionType) and not names and not ours):
                    swap.going.append(f"a call of it, {words}, which goes on as it was")

    def _look_for_the_unseen(self, swaps: list[Swap], unseen: set[int], running: dict[int, list[str]]) -> None:
        for named, put in list(weak.holders(swaps[0].old)) if swaps else ():
            self._rebind(swaps[0].old, None, functools.partial(str, named), put)
        for swap in swaps:
            if swap.only is None and not swap.by_name and not swap.restoring:
                frames = dict.fromkeys(running.get(id(swap.old), ()))
                swap.notes.extend(f"{name}, which runs right now, keeps the original in a variable" for name in frames)
            if swap.by_name or swap.only is not None or isinstance(swap.old, type) or isinstance(swap, _Rebuilding):
                continue
            # What is registered with a dispatcher is the function inside a descriptor, which has a swap of its own.
            if id(swap.old) in unseen and not isinstance(swap.old, (staticmethod, classmethod)):
                _left(swap, "somebody outside of Python's reach, such as PyTorch's dispatcher of operators")
            if count := weakref.getweakrefcount(swap.old):
                _left(swap, f"{count} weak reference{'s' if count > 1 else ''}")

    def _rebuild(self, found: Any) -> None:
        """Have an immutable holder built anew, with the new objects in it, and put in place of the old one."""
        if id(found) in self.by_id or id(found) in self.further:
            return
        if isinstance(found, tuple) and self.names.is_of_type(found):
            return
        variants = dict.fromkeys(swap.only for part in _parts(found) for swap in self.by_id.get(id(part), ()))
        for only in variants:
            parts: list[tuple[Swap, str]] = []
            stays = found[0] if self._is_saved_place(found) else None
            fresh = immutable.rebuilt(found, self._new_for(parts, only, stays))
            if not parts:
                continue
            kept = frozenset[str]().union(*(swap.kept for swap, _ in parts))
            restoring = any(swap.restoring for swap, _ in parts)
            self.further.setdefault(id(found), []).append(
                _Rebuilding(found, fresh, kept=kept, only=only, restoring=restoring, parts=parts)
            )

    def _is_saved_place(self, found: Any) -> bool:
        """Tell whether `found` is (owner, name, value) in what pytest's monkeypatch is going to put back.

        It puts the value back where it took it from, whoever stands in for the owner meanwhile.
        """
        if type(found) is not tuple or len(found) != 3 or not isinstance(found[0], type):
            return False
        return ".MonkeyPatch._setattr[" in self.names.of(found)

    def _new_for(
        self, parts: list[tuple[Swap, str]], only: frozenset[str] | None, stays: Any
    ) -> Callable[[Any, str], Any]:
        def new_for(value: Any, suffix: str) -> Any:
            swaps = [swap for swap in self.by_id.get(id(value), ()) if not swap.by_name and swap.only == only]
            if not swaps or value is stays:
                return value
            parts.append((swaps[0], suffix))
            return swaps[0].new

        return new_for

    def _rebind(
        self,
        value: Any,
        key: str | None,
        named: Callable[[], str],
        put: Callable[[Any], None],
        *,
        of_class: bool = False,
        thoroughly: bool = False,
        silently: bool = False,
        swap: Swap | None = None,
    ) -> None:
        """Re-bind one holder, or note that it keeps the old object.

        Args:
            value: what it holds.
            key: the name that it has for it, where that is a name.
            named: makes the name of the holder.
            put: gives it another.
            of_class: it is a member of a class.
            thoroughly: it is changed only where a swap is thorough.
            silently: it may keep the old object without a word.
            swap: the swap, where only one is meant.
        """
        if id(value) not in self.by_id:
            return
        where = named()
        swap = swap or self._swap_for(value, key, where)
        if swap is None or swap.new is value or _is_home(swap, key, where):
            return
        if within(where, swap.kept):
            # That a subclass is written against its base goes without saying.
            if not (isinstance(swap.old, type) and isinstance(swap.new, type) and issubclass(swap.new, swap.old)):
                note = f"{where} keeps the original, which the implementation uses"
                swap.notes.extend([note] if note not in swap.notes else [])
            return
        if swap.only is not None and not within(where, swap.only):
            return
        if of_class and isinstance(swap.owner, type) and key != swap.name and not swap.restoring:
            # `forward_hip = forward_cuda` in a class body means another name, not a copy of this one.
            swap.apart.append(f"{where} (an alias under another name, left as it is)")
            return
        own = swap.lent and within(where, frozenset({swap.old.__module__.partition(".")[0]}))
        if thoroughly and (own or not swap.is_thorough):
            if not silently and not swap.by_name:
                _left(swap, where)
            return
        try:
            put(swap.new)
        except MemoryError:
            raise
        except Exception as error:  # whatever a holder of somebody else's making raises
            _left(swap, f"{where} ({told(error)})")
        else:
            _copied(swap, where)

    def _swap_for(self, value: Any, key: str | None, where: str) -> Swap | None:
        swaps = self.by_id.get(id(value), [])
        named = [swap for swap in swaps if swap.name == key] or [swap for swap in swaps if not swap.by_name]
        inside = [swap for swap in named if swap.only is not None and within(where, swap.only)]
        return next(iter(inside or [swap for swap in named if swap.only is None]), None)


@dataclass(eq=False, slots=True)
class _Rebuilding(Swap):
    """The swap of an immutable holder, on behalf of the swaps of what it holds."""

    parts: list[tuple[Swap, str]] = field(default_factory=list)


def within(where: str, homes: frozenset[str]) -> bool:
    """Tell whether the holder called `where` is one of `homes`, or is in one of them: "module", "module.name"."""
    if not homes:
        return False
    for home in homes:
        if where == home:
            return True
        if not where.startswith(home) or where[len(home)] not in ".[({ ":
            continue
        if home not in sys.modules or not _is_of_submodule(where, home):
            return True
    return any(f" {home}." in where for home in homes)


def _is_of_submodule(where: str, package: str) -> bool:
    below = where[len(package) + 1 :].partition(".")[0]
    return f"{package}.{below}" in sys.modules


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
    elif text not in swap.left:
        swap.left.append(text)


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


def _is_schema(found: dict[Any, Any]) -> bool:
    """Tell whether a dict is pydantic's description of a class or field, which was compiled already."""
    return type(found) is dict and isinstance(found.get("type"), str) and ("schema" in found or "cls" in found)


def _parts(found: Any) -> list[Any]:
    return gc.get_referents(found)


def _items(container: list[Any] | collections.deque[Any]) -> list[Any]:
    return list(list.__iter__(container) if isinstance(container, list) else collections.deque.__iter__(container))


def _set_index(container: Any, index: int, value: Any) -> None:
    container[index] = value


def _exchange(container: set[Any], old: Any, new: Any) -> None:
    container.add(new)
    container.discard(old)


def _change_key(mapping: dict[Any, Any], old: Any, new: Any) -> None:
    """Give an entry another key, at the same position."""
    entries = [(new if key is old else key, value) for key, value in dict.items(mapping)]
    mapping.clear()
    mapping.update(entries)


def _set_partial(partial: Any, part: str, value: Any) -> None:
    state = {"func": partial.func, "args": partial.args} | {part: value}
    partial.__setstate__((state["func"], state["args"], partial.keywords, vars(partial)))


def _unshared_count() -> int:
    namespace = {"probe": lambda: None}
    return sys.getrefcount(namespace["probe"])


# Asked of Python itself: how many references a call of sys.getrefcount() adds is up to its release.
_UNSHARED = _unshared_count()
