"""The namespaces of a package in this process, before and after: what was set, added, removed, who keeps the old."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from ascend_overlay.source.sources import LOADABLE

_MADE_BY_PYTHON = {"__builtins__", "__warningregistry__", "__abstractmethods__", "_abc_impl", "__dict__", "__weakref__"}
_TRIVIAL = (int, float, complex, str, bytes, bool, type(None), tuple, frozenset)
"""Equal values of these are often one object, so that it tells nothing who else has it."""
_MOST = 20_000
"""Entries of a container that are looked at."""
_GONE = object()


@dataclass
class Changed:
    """One change.

    Attributes:
        target: "module:Name".
        kind: one of the kinds of `scan`: "attribute", "wrap", "remove", "item", "entry" or "module".
        key: of an item or an entry, as source.
        name: "module:Name" by which what is there now can be imported; "".
        literal: its source, where it is a literal.
        text: what it is, for people.
        shape: "function", "class" or "value".
        there: the same of what was there; "" where nothing was.
        derived: it is a class that is derived from what was there.
        adds: nothing was there.
        home: the place where the name is defined, which is another where it is imported.
        missed: places that still have what was there.
    """

    target: str
    kind: str
    key: str = ""
    name: str = ""
    literal: str = ""
    text: str = ""
    shape: str = ""
    there: str = ""
    derived: bool = False
    adds: bool = False
    home: str = ""
    missed: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


class Snapshot:
    """What the modules of a package, and the classes that they define, have at this moment.

    Args:
        package: the name of the package.
    """

    def __init__(self, package: str) -> None:
        self.modules = dict(_modules(package))
        self.owners: dict[str, dict[str, Any]] = {}
        self.containers: dict[str, tuple[Any, Any]] = {}
        self.codes: dict[str, tuple[FunctionType, Any]] = {}
        self._package = package
        self._objects: set[int] = set()
        for name, module in self.modules.items():
            if isinstance(module, ModuleType):
                self._take(f"{name}:", dict(vars(module)), name)

    def _take(self, owner: str, names: dict[str, Any], module: str) -> None:
        if owner in self.owners:
            return
        self.owners[owner] = {name: value for name, value in names.items() if name not in _MADE_BY_PYTHON}
        for name, value in self.owners[owner].items():
            place = f"{owner}{name}"
            if isinstance(value, (dict, list, set)) and type(value) in (dict, list, set) and len(value) <= _MOST:
                self.containers[place] = (value, value.copy())
            elif isinstance(value, type) and getattr(value, "__module__", None) == module:
                if value.__qualname__ == f"{owner}{name}".partition(":")[2]:
                    self._take(f"{place}.", dict(vars(value)), module)
            elif _is_object_of(value, self._package) and owner.endswith(":") and id(value) not in self._objects:
                # A registry, say; by the first of the modules that have it.
                self._objects.add(id(value))
                self._take(f"{place}.", dict(vars(value)), module)
            function = _function(value)
            if isinstance(function, FunctionType):
                self.codes[place] = (function, function.__code__)


def changes(before: Snapshot, after: Snapshot) -> list[Changed]:
    """Return what differs, in the order of the modules, and who still has what was there."""
    found: list[Changed] = []
    old: list[tuple[Changed, Any]] = []
    fresh: set[str] = set()
    for name, module in after.modules.items():
        was = before.modules.get(name, _GONE)
        if was is not module and (was is not _GONE or _is_put(module, name)):
            found.append(_made(Changed(name, "module", adds=was is _GONE), module))
            found[-1].name = getattr(module, "__name__", "") if getattr(module, "__name__", "") != name else ""
    found += [Changed(name, "module", "", text="removed") for name in before.modules if name not in after.modules]
    for owner, names in before.owners.items():
        now = after.owners.get(owner)
        if now is None:
            continue
        for name in dict.fromkeys([*names, *now]):
            was, new = names.get(name, _GONE), now.get(name, _GONE)
            if was is new or (was is _GONE and isinstance(new, ModuleType)):
                continue
            change = _changed(f"{owner}{name}", was, new)
            change.home = home(change.target)
            found.append(change)
            fresh.add(change.target)
            if was is not _GONE:
                old.append((change, was))
    found += _in_containers(before, fresh)
    for place, (function, code) in before.codes.items():
        if function.__code__ is not code:
            found.append(Changed(place, "attribute", text="other code in the same function", shape="function"))
    for change, was in old:
        change.missed = sorted(_holders(was, after, fresh | {change.target}))
    return found


def home(place: str) -> str:
    """Return where the name of a module is defined, as far as its source tells."""
    module, _, path = place.partition(":")
    name, dot, rest = path.partition(".")
    return ":".join(LOADABLE.origin(module, name)) + dot + rest if name.isidentifier() else place


def _is_put(module: Any, name: str) -> bool:
    """Tell whether an entry of sys.modules is none that an import made."""
    return getattr(module, "__spec__", None) is None or getattr(module, "__name__", name) != name


def _is_object_of(value: Any, package: str) -> bool:
    cls = type(value)
    if isinstance(value, (type, ModuleType)) or cls.__module__.partition(".")[0] != package:
        return False
    return isinstance(getattr(value, "__dict__", None), dict)


def _modules(package: str) -> Iterator[tuple[str, Any]]:
    for name, module in list(sys.modules.items()):
        if (name == package or name.startswith(f"{package}.")) and module is not None:
            yield name, module


def _function(value: Any) -> Any:
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    return value.fget if isinstance(value, property) else getattr(value, "func", value) if _cached(value) else value


def _cached(value: Any) -> bool:
    return type(value).__name__ == "cached_property"


def _changed(place: str, was: Any, new: Any) -> Changed:
    if new is _GONE:
        return Changed(place, "remove", text="removed", there=_shape(was))
    change = _made(Changed(place, "attribute", adds=was is _GONE), new)
    if was is not _GONE:
        change.there = _shape(was)
        change.derived = isinstance(new, type) and isinstance(was, type) and issubclass(new, was)
        if _uses(_function(new), _function(was)):
            change.kind = "wrap"
    return change


def _shape(value: Any) -> str:
    if isinstance(value, type):
        return "class"
    return "function" if callable(_function(value)) else "value"


def _made(change: Changed, new: Any) -> Changed:
    function = _function(new)
    change.shape = _shape(new)
    change.name = _name(function)
    change.text = change.name or _short(new)
    if not change.name:
        change.literal = _literal(new)
    return change


def _name(value: Any) -> str:
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or "<" in path:
        return ""
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = _function(vars(found).get(part)) if hasattr(found, "__dict__") else None
    return f"{module}:{path}" if found is value and found is not None else ""


def _literal(value: Any) -> str:
    text = _short(value, 2_000)
    try:
        same = bool(ast.literal_eval(text) == value)
    except Exception:
        return ""
    return text if same else ""


def _short(value: Any, limit: int = 120) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _uses(new: Any, was: Any) -> bool:
    """Tell whether a function holds what was there: in a closure, or in a name of its module that it mentions."""
    if not isinstance(new, FunctionType) or was is _GONE:
        return False
    cells = [cell.cell_contents for cell in new.__closure__ or () if cell != type(cell)()]
    named = [new.__globals__.get(name) for name in new.__code__.co_names]
    return any(each is was for each in (*cells, *named, getattr(new, "__wrapped__", None)))


def _in_containers(before: Snapshot, fresh: set[str]) -> Iterator[Changed]:
    places: dict[int, list[str]] = {}
    for place, (live, _) in before.containers.items():
        places.setdefault(id(live), []).append(place)
    for held in places.values():
        live, was = before.containers[held[0]]
        if len(was) == len(live) and _alike(live, was):
            continue
        # Others may have it from the module that made it.
        place = next((each for each in held if home(each) == each), held[0])
        if place in fresh:
            continue
        if isinstance(was, dict):
            for key in [*was, *(key for key in live if key not in was)]:
                new = live.get(key, _GONE)
                if new is was.get(key, _GONE):
                    continue
                if new is _GONE:
                    yield Changed(place, "remove", _short(key), text="removed")
                else:
                    yield _made(Changed(place, "item", _short(key), adds=key not in was), new)
        else:
            kept, now = [id(each) for each in was], [id(each) for each in live]
            for each in live:
                if id(each) not in kept:
                    yield _made(Changed(place, "entry", adds=True), each)
            for each in was:
                if id(each) not in now:
                    yield Changed(place, "remove", _short(each), text="removed")


def _alike(live: Any, was: Any) -> bool:
    if isinstance(was, dict):
        return all(key in live and live[key] is value for key, value in was.items())
    return {id(each) for each in live} == {id(each) for each in was}


def _holders(was: Any, after: Snapshot, ours: set[str]) -> Iterator[str]:
    if isinstance(was, (*_TRIVIAL, ModuleType)):
        return
    for owner, names in after.owners.items():
        for name, value in names.items():
            if value is was and f"{owner}{name}" not in ours:
                yield f"{owner}{name}"
    for place, (live, _) in after.containers.items():
        for key, value in live.items() if isinstance(live, dict) else ():
            if value is was and place not in ours:
                yield f"{place}[{_short(key)}]"
