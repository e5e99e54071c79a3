"""Every kind of target, wrapped and replaced, whatever was imported first, and put back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError

MODULE = """
    def function(x): return f"function {x}"

    class Base:
        @staticmethod
        def inherited_static(x): return f"inherited static {x}"
        @classmethod
        def inherited_class(cls, x): return f"inherited class {cls.__name__} {x}"
        def inherited(self, x): return f"inherited {x}"
        @property
        def inherited_property(self): return "inherited property"

    class Thing(Base):
        def method(self, x): return f"method {x}"
        @staticmethod
        def static(x): return f"static {x}"
        @classmethod
        def of_class(cls, x): return f"class {cls.__name__} {x}"
        @property
        def size(self): return "size"
        @size.setter
        def size(self, value): self.value = value
        async def later(self, x): return x
        class Inner:
            def deep(self, x): return f"deep {x}"

    class Sibling(Base): pass
"""


@pytest.fixture(autouse=True)
def _package(site: Any) -> None:
    site.write(
        {
            "pkg/mod.py": MODULE,
            "pkg/api.py": "from pkg.mod import function, Thing\n",
            "pkg/user.py": "from pkg.api import function\nfrom pkg.mod import Thing as Renamed\n",
        }
    )


def around(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    return f"<{wrapped(*args, **kwargs)}>"


def mod() -> Any:
    return importlib.import_module("pkg.mod")


# target, how it is called, what stock gives, a replacement, what that gives
CASES: dict[str, tuple[str, Callable[[], Any], str, Callable[..., Any], str]] = {
    "function": ("pkg.mod:function", lambda: mod().function(1), "function 1", lambda x: f"new {x}", "new 1"),
    "method": (
        "pkg.mod:Thing.method",
        lambda: mod().Thing().method(1),
        "method 1",
        lambda self, x: f"new {x}",
        "new 1",
    ),
    "static": ("pkg.mod:Thing.static", lambda: mod().Thing.static(1), "static 1", lambda x: f"new {x}", "new 1"),
    "static of instance": (
        "pkg.mod:Thing.static",
        lambda: mod().Thing().static(1),
        "static 1",
        lambda x: f"new {x}",
        "new 1",
    ),
    "classmethod": (
        "pkg.mod:Thing.of_class",
        lambda: mod().Thing.of_class(1),
        "class Thing 1",
        lambda cls, x: f"new {cls.__name__} {x}",
        "new Thing 1",
    ),
    "property": ("pkg.mod:Thing.size", lambda: mod().Thing().size, "size", lambda self: "new", "new"),
    "nested": ("pkg.mod:Thing.Inner.deep", lambda: mod().Thing.Inner().deep(1), "deep 1", lambda self, x: "new", "new"),
    "inherited": (
        "pkg.mod:Thing.inherited",
        lambda: mod().Thing().inherited(1),
        "inherited 1",
        lambda self, x: f"new {x}",
        "new 1",
    ),
    "inherited static": (
        "pkg.mod:Thing.inherited_static",
        lambda: mod().Thing.inherited_static(1),
        "inherited static 1",
        lambda x: f"new {x}",
        "new 1",
    ),
    "inherited classmethod": (
        "pkg.mod:Thing.inherited_class",
        lambda: mod().Thing.inherited_class(1),
        "inherited class Thing 1",
        lambda cls, x: f"new {cls.__name__} {x}",
        "new Thing 1",
    ),
    "inherited property": (
        "pkg.mod:Thing.inherited_property",
        lambda: mod().Thing().inherited_property,
        "inherited property",
        lambda self: "new",
        "new",
    ),
    "re-exported": (
        "pkg.api:function",
        lambda: importlib.import_module("pkg.api").function(1),
        "function 1",
        lambda x: f"new {x}",
        "new 1",
    ),
    "through a re-exported class": (
        "pkg.api:Thing.method",
        lambda: mod().Thing().method(1),
        "method 1",
        lambda self, x: f"new {x}",
        "new 1",
    ),
}


def namespaces() -> list[Any]:
    """Everything that could have been touched."""
    modules = [sys.modules[name] for name in ("pkg.mod", "pkg.api", "pkg.user")]
    return [*modules, mod().Base, mod().Thing, mod().Thing.Inner, mod().Sibling]


@pytest.mark.parametrize("early", [True, False], ids=["imported before", "imported after"])
@pytest.mark.parametrize("kind", ["wrap", "replace"])
@pytest.mark.parametrize("case", list(CASES))
def test_patch_and_undo(offer: Any, snapshot: Any, case: str, kind: str, early: bool) -> None:
    target, call, stock, replacement, replaced = CASES[case]
    overlay = Overlay("one", reason="a test")
    getattr(overlay, kind)(target)(around if kind == "wrap" else replacement)
    offer(overlay)
    if early:
        for name in ("pkg.mod", "pkg.api", "pkg.user"):
            importlib.import_module(name)
        before = snapshot(*namespaces())

    ascend_overlay.enable()

    if not early:
        assert "pkg.mod" not in sys.modules, "the target must not be imported by enable()"
        assert [entry.state for entry in ascend_overlay.ledger()] == ["pending"]
        importlib.import_module(target.partition(":")[0])
    assert call() == (f"<{stock}>" if kind == "wrap" else replaced)
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, entry.target, entry.kind) == ("applied", target, kind)

    ascend_overlay.disable()
    assert call() == stock
    if early:
        before.assert_same(*namespaces())
    assert [entry.state for entry in ascend_overlay.ledger()] == ["reverted"]


@pytest.mark.parametrize("kind", ["wrap", "replace"])
@pytest.mark.parametrize("name", ["inherited", "inherited_static", "inherited_class", "inherited_property"])
def test_patch_of_an_inherited_member_stays_in_the_class(offer: Any, name: str, kind: str) -> None:
    replacements: dict[str, Callable[..., Any]] = {
        "inherited": lambda self, x: "new",
        "inherited_static": lambda x: "new",
        "inherited_class": lambda cls, x: "new",
        "inherited_property": lambda self: "new",
    }
    before = dict(vars(mod().Base))
    overlay = Overlay("one", reason="a test")
    getattr(overlay, kind)(f"pkg.mod:Thing.{name}")(around if kind == "wrap" else replacements[name])
    offer(overlay)
    ascend_overlay.enable()

    def of(cls: Any) -> Any:
        value = getattr(cls(), name)
        return value(1) if callable(value) else value

    assert of(mod().Thing) in ("new", f"<{of(mod().Base)}>".replace("Base", "Thing"))
    assert "new" not in of(mod().Sibling) and "<" not in of(mod().Sibling)
    assert dict(vars(mod().Base)) == before
    ascend_overlay.disable()
    assert name not in vars(mod().Thing)


def test_wrapped_inherited_method_sees_a_later_patch_of_the_base(offer: Any) -> None:
    mod()
    derived, base = Overlay("derived", reason="a test"), Overlay("base", reason="a test")
    derived.wrap("pkg.mod:Thing.inherited")(around)
    base.replace("pkg.mod:Base.inherited")(lambda self, x: "base's new")
    offer(derived, base)
    ascend_overlay.enable(only=["derived"])
    ascend_overlay.enable(only=["derived", "base"])
    assert mod().Thing().inherited(1) == "<base's new>"


def test_setter_survives_a_patched_getter(offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.replace("pkg.mod:Thing.size")(lambda self: "new")
    offer(overlay)
    ascend_overlay.enable()
    thing = mod().Thing()
    thing.size = 3
    assert (thing.value, thing.size) == (3, "new")


def test_replaced_function_goes_by_the_name_of_the_original(offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.replace("pkg.mod:Thing.method")(lambda self, x: "new")
    offer(overlay)
    ascend_overlay.enable()
    method = mod().Thing.method
    assert (method.__module__, method.__qualname__) == ("pkg.mod", "Thing.method")


def test_re_exported_name_is_patched_everywhere_and_once(offer: Any) -> None:
    importlib.import_module("pkg.user")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("pkg.api:function")(around)
    overlay.wrap("pkg.mod:function")(lambda wrapped, instance, args, kwargs: f"[{wrapped(*args, **kwargs)}]")
    offer(overlay)
    ascend_overlay.enable()
    for name in ("pkg.mod", "pkg.api", "pkg.user"):
        assert sys.modules[name].function(1) in ("[<function 1>]", "<[function 1]>"), name


def test_lazily_exported_name_is_refused_with_the_reason(offer: Any, site: Any) -> None:
    site.write(
        {
            "lazy/__init__.py": """
                def __getattr__(name):
                    if name == "Thing":
                        from lazy.impl import Thing
                        return Thing
                    raise AttributeError(name)
            """,
            "lazy/impl.py": "class Thing:\n    def run(self): return 1\n",
        }
    )
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lazy:Thing.run")(around)
    offer(overlay)
    with pytest.raises(TargetError, match="on demand; name the module that defines 'Thing'"):
        ascend_overlay.enable()
        importlib.import_module("lazy")
    assert "lazy.impl" not in sys.modules


def test_a_name_that_a_part_of_the_module_lacks_is_not_made_on_demand(offer: Any, site: Any) -> None:
    lazy = "def __getattr__(name): raise AttributeError(name)\n"
    site.write({"lazy/__init__.py": lazy, "lazy/part.py": lazy, "lazy/other.py": "def run(): ...\n"})
    importlib.import_module("lazy.part")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lazy:part.run")(around)
    offer(overlay)
    with pytest.raises(TargetError, match="'run'") as raised:
        ascend_overlay.enable()
    assert "on demand" not in str(raised.value)


def test_name_that_was_made_on_demand_follows_the_patch(offer: Any, site: Any) -> None:
    site.write(
        {
            "lazy/__init__.py": """
                def __getattr__(name):
                    if name == "run":
                        from lazy.impl import run
                        return run
                    raise AttributeError(name)
            """,
            "lazy/impl.py": "def run(): return 'stock'\n",
        }
    )
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lazy.impl:run")(around)
    offer(overlay)
    ascend_overlay.enable()
    assert importlib.import_module("lazy").run() == "<stock>"


def test_class_cannot_be_wrapped_or_replaced(offer: Any) -> None:
    mod()
    for kind in ("wrap", "replace"):
        overlay = Overlay(kind, reason="a test")
        getattr(overlay, kind)("pkg.mod:Thing")(around)
        offer(overlay)
        with pytest.raises(TargetError, match=r"is a class.*overlay.subclass"):
            ascend_overlay.enable(only=[kind])


def test_target_in_the_standard_library(offer: Any) -> None:
    import shlex

    original = shlex.quote
    overlay = Overlay("one", reason="a test")
    overlay.wrap("shlex:quote")(around)
    offer(overlay)
    with ascend_overlay.enabled():
        assert shlex.quote("a") == "<a>"
    assert shlex.quote is original


def test_module_that_stands_for_itself_under_another_name(offer: Any, site: Any) -> None:
    """A module can put another object in sys.modules, or rename itself; its import is noticed all the same."""
    site.write({"odd.py": "__name__ = 'something.else'\ndef run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("odd:run")(around)
    offer(overlay)
    ascend_overlay.enable()
    odd = importlib.import_module("odd")
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]
    assert odd.run() == "<stock>"


OBJECTS = {
    "unhashable": "class O:\n    __hash__ = None\n",
    "with equality": "class O:\n    def __eq__(self, other): return True\n",
    "dict": "class O(dict): pass\n",
    "list": "class O(list): pass\n",
    "plain": "class O: pass\n",
}


@pytest.mark.parametrize("text", OBJECTS.values(), ids=OBJECTS)
def test_attribute_of_an_object_whatever_it_is(site: Any, offer: Any, text: str) -> None:
    site.write({"lib.py": f"{text}OBJECT = O()\nOBJECT.run = lambda: 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:OBJECT.run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(overlay)
    lib = importlib.import_module("lib")
    stock = lib.OBJECT.run
    with ascend_overlay.enabled():
        assert lib.OBJECT.run() == "<stock>"
    assert lib.OBJECT.run is stock
