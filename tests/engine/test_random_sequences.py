"""Random sequences of declaring, enabling, importing, copying and disabling, held against a model of what they mean."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay.engine.engine import Engine
from ascend_overlay.hooks import hookimpl
from ascend_overlay.places import importing

LIBRARY = """
def function(): return "function"
class Base:
    def method(self): return "method"
    @staticmethod
    def static(): return "static"
    @classmethod
    def of_class(cls): return "of_class"
    @property
    def value(self): return "value"
class Thing(Base):
    def own(self): return "own"
class Child(Thing): pass
FLAG = "flag"
TABLE = {"key": "entry"}
"""
USER = """
from {package}.lib import function, Thing, Child
from {package}.lib import function as other
KEPT = (function, [Thing])
"""
OURS = "from {package}.lib import Thing\nclass Ours(Thing):\n    ours = True\n"
WRAPPED = {
    "lib:function": lambda lib: lib.function(),
    "lib:Thing.own": lambda lib: lib.Thing().own(),
    "lib:Thing.method": lambda lib: lib.Thing().method(),
    "lib:Base.method": lambda lib: lib.Base().method(),
    "lib:Base.static": lambda lib: lib.Base.static(),
    "lib:Base.of_class": lambda lib: lib.Base.of_class(),
    "lib:Base.value": lambda lib: lib.Base().value,
    "user:function": lambda lib: lib.function(),
}
REPLACED = {
    "lib:function": lambda: "new",
    "lib:Thing.own": lambda self: "new",
    "lib:Base.static": lambda: "new",
}
KINDS = ("wrap", "replace", "attribute", "item", "add", "subclass")


class Sequences(RuleBasedStateMachine):
    """Overlays named o0, o1, ... of one or two patches each, over a fresh package."""

    serial = 0

    @initialize()
    def start(self) -> None:
        type(self).serial += 1
        self.package = f"random_package_{self.serial}"
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / self.package).mkdir()
        for name, text in (("__init__", ""), ("lib", LIBRARY), ("user", USER), ("ours", OURS)):
            (self.folder / self.package / f"{name}.py").write_text(
                text.format(package=self.package) if "{package}" in text else text
            )
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        self.before = api._engine
        api._engine = Engine()
        self.declared: dict[str, list[tuple[str, str]]] = {}
        self.enabled: list[str] = []
        self.stock: Any = None

    def teardown(self) -> None:
        if not hasattr(self, "package"):
            return
        ascend_overlay.disable(force=True)
        self.enabled = []
        self.compare()
        if self.stock is not None:
            self.assert_stock()
        for name in [name for name in sys.modules if name.startswith(self.package)]:
            del sys.modules[name]
        sys.path.remove(str(self.folder))
        shutil.rmtree(self.folder)
        api._engine = self.before

    @precondition(lambda self: len(self.declared) < 5)
    @rule(patches=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 20)), min_size=1, max_size=2))
    def declare(self, patches: list[tuple[str, int]]) -> None:
        name = f"o{len(self.declared)}"
        overlay = Overlay(name, reason="a test")
        made: list[tuple[str, str]] = []
        for kind, number in patches:
            target = self.declare_one(overlay, name, kind, number)
            decides = kind != "wrap"
            taken = {target for patches in self.declared.values() for k, target in patches if k != "wrap"}
            taken |= {other for k, other in made if k != "wrap"}
            if decides and target in taken:
                continue
            overlay._patches.append(self.last)
            made.append((kind, target))
        if not made:
            return
        self.declared[name] = made
        plugin = SimpleNamespace(ascend_overlay_overlays=hookimpl(lambda: [overlay]))
        ascend_overlay.register(plugin, f"plugin_{name}")

    def declare_one(self, overlay: Overlay, name: str, kind: str, number: int) -> str:
        """Make one patch, kept in `last`, and return its target without the package."""
        scratch = Overlay(name, reason="a test")
        if kind == "wrap":
            target = list(WRAPPED)[number % len(WRAPPED)]

            def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> str:
                return f"{name}({wrapped(*args, **kwargs)})"

            scratch.wrap(f"{self.package}.{target}")(wrapper)
        elif kind == "replace":
            target = list(REPLACED)[number % len(REPLACED)]
            scratch.replace(f"{self.package}.{target}")(REPLACED[target])
        elif kind == "attribute":
            target = "lib:FLAG"
            scratch.attribute(f"{self.package}.{target}", "new")
        elif kind == "item":
            target = "lib:TABLE"
            scratch.item(f"{self.package}.{target}", "key", "new")
        elif kind == "add":
            target = "lib:Thing.added"
            scratch.add(f"{self.package}.{target}", "new")
        else:
            target = "lib:Thing"
            scratch.subclass(f"{self.package}.{target}", f"{self.package}.ours:Ours")
        (self.last,) = scratch.patches
        return target

    @precondition(lambda self: self.declared)
    @rule(number=st.integers(0, 20))
    def enable(self, number: int) -> None:
        name = list(self.declared)[number % len(self.declared)]
        ascend_overlay.enable(only=[name])
        if name not in self.enabled:
            self.enabled.append(name)

    @precondition(lambda self: self.declared)
    @rule()
    def enable_all(self) -> None:
        ascend_overlay.enable(only=list(self.declared))
        self.enabled = [*self.enabled, *(name for name in self.declared if name not in self.enabled)]

    @precondition(lambda self: self.enabled)
    @rule(number=st.integers(0, 20))
    def disable_one(self, number: int) -> None:
        name = self.enabled[number % len(self.enabled)]
        ascend_overlay.disable(only=[name])
        self.enabled.remove(name)

    @rule()
    def disable_all(self) -> None:
        ascend_overlay.disable()
        self.enabled = []
        if self.stock is not None:
            self.assert_stock()

    @rule()
    def load(self) -> None:
        fresh = f"{self.package}.lib" not in sys.modules
        user = importlib.import_module(f"{self.package}.user")
        importlib.import_module(f"{self.package}.ours")
        if fresh and not self.enabled:
            lib = sys.modules[f"{self.package}.lib"]
            # In attributes of live objects, which re-binding leaves alone.
            self.stock = SimpleNamespace(
                **{part.__name__: SimpleNamespace(**vars(part)) for part in (lib, user, lib.Base, lib.Thing, lib.Child)}
            )
            self.bases = SimpleNamespace(child=lib.Child.__bases__)

    def assert_stock(self) -> None:
        lib, user = (sys.modules[f"{self.package}.{name}"] for name in ("lib", "user"))
        for part in (lib, user, lib.Base, lib.Thing, lib.Child):
            was = vars(vars(self.stock)[part.__name__])
            now = vars(part)
            assert was.keys() == now.keys(), part
            for name, value in was.items():
                assert now[name] is value, (part, name)
        assert lib.Child.__bases__ == self.bases.child and lib.TABLE == {"key": "entry"}

    @invariant()
    def compare(self) -> None:
        """What the package does is what the enabled overlays say, in the order of their contribution."""
        if not hasattr(self, "package") or f"{self.package}.lib" not in sys.modules:
            return
        importing.sweep()
        lib, user = (sys.modules[f"{self.package}.{name}"] for name in ("lib", "user"))
        active = [name for name in self.declared if name in self.enabled]
        patches = [(name, kind, target) for name in active for kind, target in self.declared[name]]

        def expected(stock: str, *targets: str) -> str:
            inside = "new" if any(kind == "replace" and target in targets for _, kind, target in patches) else stock
            for name, kind, target in patches:
                if kind == "wrap" and target in targets:
                    inside = f"{name}({inside})"
            return inside

        assert (
            lib.function()
            == user.function()
            == user.other()
            == user.KEPT[0]()
            == expected("function", "lib:function", "user:function")
        )
        own = expected("own", "lib:Thing.own")
        assert lib.Thing().own() == user.Thing().own() == user.KEPT[1][0]().own() == lib.Child().own() == own
        base = expected("method", "lib:Base.method")
        assert lib.Base().method() == base
        inherited = base
        for name, kind, target in patches:
            if (kind, target) == ("wrap", "lib:Thing.method"):
                inherited = f"{name}({inherited})"
        assert lib.Thing().method() == inherited
        assert lib.Base.static() == lib.Thing.static() == expected("static", "lib:Base.static")
        assert lib.Base.of_class() == expected("of_class", "lib:Base.of_class")
        assert lib.Base().value == expected("value", "lib:Base.value")
        kinds = {kind for _, kind, _ in patches}
        assert ("new" if "attribute" in kinds else "flag") == lib.FLAG
        assert lib.TABLE["key"] == ("new" if "item" in kinds else "entry")
        assert hasattr(lib.Thing, "added") == ("add" in kinds)
        assert (
            hasattr(lib.Thing, "ours")
            == hasattr(lib.Child, "ours")
            == hasattr(user.Thing, "ours")
            == ("subclass" in kinds)
        )


@pytest.mark.parametrize("length", [8, 25])
def test_any_sequence(engine: Any, length: int) -> None:
    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=25 if length == 8 else 12,
            stateful_step_count=length,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
