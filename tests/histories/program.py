"""What a program that knows nothing of overlays does: it imports, reloads, copies, and changes things by hand."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

from _pytest.monkeypatch import MonkeyPatch

from .labels import Labels
from .scenes import Place, Scene

HOLDERS = {
    "name": "{h} = X",
    "list": "{h} = [X]",
    "deque": "import collections\n{h} = collections.deque([X])",
    "tuple": "{h} = (X, (X,))",
    "set": "{h} = {{X}}",
    "frozenset": "{h} = frozenset([X])",
    "entry": "{h} = {{'entry': X}}",
    "key": "{h} = {{X: 'row'}}",
    "partial": "import functools\n{h} = functools.partial(X)",
    "default": "def {h}(x=X): return x",
    "keyword": "def {h}(*, x=X): return x",
    "member": "class {h}:\n    held = staticmethod(X)",
    "closure": "def {h}_maker(x):\n    def {h}(): return x\n    return {h}\n{h} = {h}_maker(X)",
    "namedtuple": "import collections\n{h}_type = collections.namedtuple('{h}_type', 'held')\n{h} = {h}_type(X)",
    "weak": "import weakref\n{h} = weakref.WeakSet([X])",
    "weakvalue": "import weakref\n{h} = weakref.WeakValueDictionary(held=X)",
    "context": "import contextvars\n{h} = contextvars.ContextVar('{h}')\n{h}.set(X)",
    "instance": "class Keeper: pass\n{h} = Keeper()\n{h}.{h}_held = X",
}
"""Kinds of holders: the statements that make the holder {h} of X."""

HELD = {
    "name": "{h}",
    "list": "{h}[0]",
    "deque": "{h}[0]",
    "tuple": "{h}[1][0]",
    "set": "next(iter({h}))",
    "frozenset": "next(iter({h}))",
    "entry": "{h}['entry']",
    "key": "next(iter({h}))",
    "partial": "{h}.func",
    "default": "{h}()",
    "keyword": "{h}()",
    "member": "{h}.held",
    "closure": "{h}()",
    "namedtuple": "{h}.held",
    "weak": "next(iter({h}), None)",
    "weakvalue": "{h}.get('held')",
    "context": "{h}.get()",
    "instance": "{h}.{h}_held",
}
"""How what is held is got at."""

OUT_OF_REACH = ("key", "closure", "namedtuple", "weak", "weakvalue", "context", "instance")
"""What holds an object for good: where it was given a patch, the patch must step aside, but stays the held object."""

_MADE = ("default", "keyword", "member", "closure")
"""Kinds of which the holder is itself a function or class."""

WAYS = ("fresh", "closure", "global", "attribute")
"""How a program changes a place: with something new, or around what was there, kept in one of three ways."""

_PREVIOUS = {
    "closure": "previous",
    "global": "globals()['{label}_previous']",
    "attribute": "{label}_kept.{label}_previous",
}


class Program:
    """The program, in the middle of its history.

    Attributes:
        scene: where it plays.
        labels: the names of things.
        module: a module in sys.modules that stands for the program itself.
        open: what it has changed and may put back: number -> how to do so.
        copies: the copies that it made: (holder, kind, expression for what is held, what was copied).
        kept: where something of ours may be for good: methods of implementations, read from a class that was one,
            and a constant that it had saved and has put back when its own was not there any more.
        constants: these constants.
    """

    def __init__(self, scene: Scene, labels: Labels) -> None:
        self.scene = scene
        self.labels = labels
        self.module = types.ModuleType("history_program")
        sys.modules["history_program"] = self.module
        self.open: dict[str, Callable[[], object]] = {}
        self.copies: list[tuple[str, str, str, str]] = []
        self.kept: list[str] = []
        self.constants: set[str] = set()

    def names(self) -> dict[str, Any]:
        """Return the modules of the scene that are loaded, by their short names, and the program's own."""
        loaded = {short: sys.modules[full] for short, full in self.scene.modules.items() if full in sys.modules}
        return {**loaded, "program": self.module}

    def value(self, expression: str) -> Any:
        """Evaluate an expression over the modules of the scene."""
        return eval(expression, self.names())

    # --- modules ------------------------------------------------------------------------------------------------

    def do_import(self, short: str) -> None:
        """Import a module."""
        importlib.import_module(self.scene.modules[short])

    def do_reload(self, short: str) -> None:
        """Execute a module once more, if it is loaded."""
        if module := sys.modules.get(self.scene.modules[short]):
            importlib.reload(module)

    def do_forget(self, short: str, *also: str) -> None:
        """Take a module out of sys.modules, and out of its package if `also` says so."""
        full = self.scene.modules[short]
        sys.modules.pop(full, None)
        package, _, child = full.rpartition(".")
        if "parent" in also and hasattr(sys.modules.get(package), child):
            delattr(sys.modules[package], child)

    # --- changes by hand ----------------------------------------------------------------------------------------

    def do_set(self, number: str, place: str, way: str) -> None:
        """Change a place by hand."""
        found = self._find(place)
        if found is None:
            return
        where, owner = found
        before = _read(where, owner)
        label = f"foreign{number}"
        new = self._made(where, owner, label, way if before is not _NOTHING else "fresh")
        setattr(self.module, f"{label}_saved", before)
        _write(where, owner, new)
        self.open[number] = lambda: self._put_back(where, owner, new, self.module.__dict__.pop(f"{label}_saved"))

    def _put_back(self, where: Place, owner: Any, new: Any, saved: Any) -> None:
        if isinstance(saved, str) and saved in self.scene.overlays and _read(where, owner) is not new:
            self.kept.append(f"[{where.name!r}]" if where.sort == "item" else f".{where.name}")
            self.constants.add(saved)
        _write(where, owner, saved)

    def do_remove(self, place: str) -> None:
        """Remove an entry of a mapping."""
        if (found := self._find(place)) is not None and found[0].sort == "item":
            found[1].pop(found[0].name, None)

    def do_mock(self, number: str, place: str) -> None:
        """Start mock.patch."""
        if (found := self._find(place)) is None:
            return
        where, owner = found
        new = self._made(where, owner, f"foreign{number}", "fresh")
        if where.sort == "item":
            patcher: Any = mock.patch.dict(owner, {where.name: new})
        else:
            patcher = mock.patch.object(owner, where.name, new)
        patcher.start()
        self.open[number] = patcher.stop

    def do_monkeypatch(self, number: str, place: str) -> None:
        """Change a place with pytest's monkeypatch."""
        if (found := self._find(place)) is None:
            return
        where, owner = found
        new, patch = self._made(where, owner, f"foreign{number}", "fresh"), MonkeyPatch()
        if where.sort == "item":
            patch.setitem(owner, where.name, new)
        else:
            patch.setattr(owner, where.name, new)
        self.open[number] = patch.undo

    def do_undo(self, number: str) -> None:
        """Put back what the change of that number found."""
        if number in self.open:
            with contextlib.suppress(AttributeError, KeyError):
                self.open.pop(number)()

    def do_setenv(self, name: str, value: str) -> None:
        """Set an environment variable."""
        os.environ[name] = value

    def _find(self, place: str) -> tuple[Place, Any] | None:
        where = self.scene.places[place]
        try:
            return where, self.value(where.owner)
        except (NameError, AttributeError):
            return None

    def _made(self, where: Place, owner: Any, label: str, way: str) -> Any:
        """Return what the program puts in a place: it calls itself `label`."""
        if where.sort in ("value", "item"):
            return label
        previous = getattr(owner, where.name) if where.sort != "property" else vars(owner)[where.name]
        space = vars(self.module)
        if way == "global":
            space[f"{label}_previous"] = previous
            if getattr(previous, "__module__", "").endswith("_implementations"):
                self.kept.append(f"{label}_previous")
        if way == "attribute":
            exec(f"class Keeper: pass\n{label}_kept = Keeper()", space)
            setattr(space[f"{label}_kept"], f"{label}_previous", previous)
        exec(_source(where.sort, label, way), space)
        made = space.pop(f"{label}_maker")(previous)
        self.labels.note(made, label)
        if where.sort == "static":
            return staticmethod(made)
        return property(made) if where.sort == "property" else made

    # --- copies -------------------------------------------------------------------------------------------------

    def do_copy(self, number: str, kind: str, what: str) -> None:
        """Keep what an expression gives in a holder."""
        try:
            value = self.value(what)
        except (NameError, AttributeError):
            return
        holder, space = f"held{number}", vars(self.module)
        space["held_now"] = value
        exec(HOLDERS[kind].format(h=holder).replace("X", "held_now"), space)
        del space["held_now"]
        if kind in _MADE:
            self.labels.note(space[holder], holder)
        self.labels.note_container(space[holder], f"history_program.{holder}")
        self.copies.append((holder, kind, "program." + HELD[kind].format(h=holder), what))


_NOTHING = object()


def _read(where: Place, owner: Any) -> Any:
    if where.sort == "item":
        return owner.get(where.name, _NOTHING)
    return vars(owner).get(where.name, _NOTHING)


def _write(where: Place, owner: Any, value: Any) -> None:
    if where.sort == "item":
        if value is _NOTHING:
            owner.pop(where.name, None)
        else:
            owner[where.name] = value
    elif value is _NOTHING:
        delattr(owner, where.name)
    else:
        setattr(owner, where.name, value)


def _source(sort: str, label: str, way: str) -> str:
    """Return the source of a function that is given what was there, and makes what the program puts in its place."""
    if sort == "class":
        body = f"class {label}(previous):\n        def size(self): return '{label}(' + super().size() + ')'"
        return f"def {label}_maker(previous):\n    {body}\n    return {label}"
    arguments, call = ("self", ".__get__(self)") if sort == "property" else ("*args, **kwargs", "(*args, **kwargs)")
    before = _PREVIOUS.get(way, "").format(label=label)
    result = f"'{label}(' + str({before}{call}) + ')'" if before else f"'{label}'"
    return f"def {label}_maker(previous):\n    def {label}({arguments}): return {result}\n    return {label}"
