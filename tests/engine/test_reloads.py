"""Modules that execute again, are imported anew, or replace themselves: patched again, and stock when all is over."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, api

TARGET = """
    import dataclasses, enum
    def run(x=1): return ("stock", x)
    def long(x=1):
        word = "stock"
        return word, x
    class Thing:
        def method(self): return "stock"
        size = 1
    class Derived(Thing): pass
    class Made:
        def method(self): return "stock"
    CONSTANT = 1
    TABLE = {"key": "stock"}
    NAMES = ["stock"]
    LEGACY = "stock"
    ROWS = {"old": "stock"}
    @dataclasses.dataclass
    class Options:
        size: int = 1
    class Colour(enum.Enum):
        RED = 1
    KEYS = {run: 1}
"""
IMPLEMENTATION = """
    import sys
    from pkg.mod import Thing, Made
    class Ours(Thing):
        def method(self): return "ours over " + super().method()
    def make(*args, **kwargs): return "made"
    def run(x=1): return ("ours", x)
    CALLS = []
    def do():
        names = sys.modules["pkg.mod"].NAMES
        names.append("called")
        return names
    def undo(names):
        if "called" in names: names.remove("called")
"""


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return ("around", wrapped(*args, **kwargs))


# kind -> how it is declared, and what is seen of it
KINDS: dict[str, tuple[Callable[[Overlay], Any], Callable[[Any], Any]]] = {
    "wrap": (lambda o: o.wrap("pkg.mod:run")(around), lambda m: m.run()),
    "wrap, held by a key": (lambda o: o.wrap("pkg.mod:run")(around), lambda m: next(iter(m.KEYS))()),
    "wrap of a method": (lambda o: o.wrap("pkg.mod:Thing.method")(around), lambda m: m.Thing().method()),
    "wrap of an inherited method": (lambda o: o.wrap("pkg.mod:Derived.method")(around), lambda m: m.Derived().method()),
    "replace": (lambda o: o.replace("pkg.mod:run", "impl:run"), lambda m: m.run()),
    "edit": (lambda o: o.edit("pkg.mod:long", find="word = 'stock'", put="word = 'edited'"), lambda m: m.long()),
    "subclass": (lambda o: o.subclass("pkg.mod:Thing", "impl:Ours"), lambda m: m.Thing().method()),
    "subclass, derived": (lambda o: o.subclass("pkg.mod:Thing", "impl:Ours"), lambda m: m.Derived().method()),
    "attribute": (lambda o: o.attribute("pkg.mod:CONSTANT", 2), lambda m: m.CONSTANT),
    "attribute of a class": (lambda o: o.attribute("pkg.mod:Thing.size", 2), lambda m: m.Derived.size),
    "add": (lambda o: o.add("pkg.mod:new", 2), lambda m: getattr(m, "new", None)),
    "item": (lambda o: o.item("pkg.mod:TABLE", "key", "ours"), lambda m: m.TABLE["key"]),
    "new item": (lambda o: o.item("pkg.mod:TABLE", "new", "ours"), lambda m: m.TABLE.get("new")),
    "entry": (lambda o: o.entry("pkg.mod:NAMES", "ours"), lambda m: list(m.NAMES)),
    "remove": (lambda o: o.remove("pkg.mod:LEGACY"), lambda m: getattr(m, "LEGACY", None)),
    "remove of an entry": (lambda o: o.remove("pkg.mod:ROWS", key="old"), lambda m: dict(m.ROWS)),
    "field": (lambda o: o.field("pkg.mod:Options.size", default=2), lambda m: m.Options().size),
    "member": (lambda o: o.member("pkg.mod:Colour.BLUE", 2), lambda m: [each.name for each in m.Colour]),
    "factory": (lambda o: o.factory("pkg.mod:Made", "impl:make"), lambda m: m.Made() == "made"),
    "call": (lambda o: o.call("pkg.mod", do="impl:do", undo="impl:undo"), lambda m: list(m.NAMES)),
}


@pytest.fixture(autouse=True)
def _package(site: Any) -> None:
    site.write(
        {"pkg/mod.py": TARGET, "impl.py": IMPLEMENTATION, "copies.py": "from pkg.mod import *\nimport pkg.mod\n"}
    )


def load() -> Any:
    return importlib.import_module("pkg.mod")


def reload(module: Any) -> Any:
    """Execute it again, in the same namespace."""
    return importlib.reload(module)


def import_again(module: Any) -> Any:
    """Forget it and import it."""
    del sys.modules["pkg.mod"]
    return importlib.import_module("pkg.mod")


def import_all_again(module: Any) -> Any:
    """Forget it, and that its package has it, and import it."""
    del sys.modules["pkg.mod"]
    del sys.modules["pkg"].mod
    return importlib.import_module("pkg.mod")


def import_with_package_again(module: Any) -> Any:
    """Forget the package and import it."""
    del sys.modules["pkg.mod"], sys.modules["pkg"]
    return importlib.import_module("pkg.mod")


def reload_implementation(module: Any) -> Any:
    """Execute what the implementation is in again."""
    if "impl" in sys.modules:
        importlib.reload(sys.modules["impl"])
    return module


def reload_copies(module: Any) -> Any:
    """Execute what only has copies again."""
    importlib.reload(importlib.import_module("copies"))
    return module


AGAIN = [reload, import_again, import_all_again, import_with_package_again, reload_implementation, reload_copies]


def stock_of(use: Callable[[Any], Any]) -> Any:
    """Return what a program without overlays sees."""
    module = ModuleType("stock")
    sys.modules["stock"] = module
    try:
        import textwrap

        exec(textwrap.dedent(TARGET), module.__dict__)
        return use(module)
    finally:
        del sys.modules["stock"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", AGAIN, ids=lambda again: again.__name__)
@pytest.mark.parametrize("early", [True, False], ids=["late", "before the import"])
def test_each_kind_is_applied_again(offer: Any, kind: str, again: Callable[[Any], Any], early: bool) -> None:
    # given
    declare, use = KINDS[kind]
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay)
    stock = stock_of(use)
    if early:
        load()
    ascend_overlay.enable()
    module = load()
    importlib.import_module("copies")
    patched = use(module)
    assert patched != stock
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied", entry
    # when
    for _ in range(2):
        module = again(module)
        # then: without anybody's looking
        assert use(module) == patched
        (entry,) = ascend_overlay.ledger()
        assert entry.state == "applied", entry
        assert use(module) == patched
    # and then
    ascend_overlay.disable()
    assert use(module) == stock
    assert use(sys.modules["pkg.mod"]) == stock
    assert list(api._engine._patcher.slots) == [] and api._engine._patcher._stand_ins == {}
    # and once more
    ascend_overlay.enable()
    assert use(sys.modules["pkg.mod"]) == patched
    ascend_overlay.disable()
    assert use(sys.modules["pkg.mod"]) == stock


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", AGAIN[:4], ids=lambda again: again.__name__)
def test_nobody_looks_until_disable(offer: Any, kind: str, again: Callable[[Any], Any]) -> None:
    """What executes again while it is not enabled is stock; what is enabled afterwards is patched."""
    declare, use = KINDS[kind]
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay)
    stock = stock_of(use)
    module = load()
    ascend_overlay.enable()
    patched = use(module)
    ascend_overlay.disable()
    module = again(module)
    assert use(module) == stock
    ascend_overlay.enable()
    assert use(module) == patched
    ascend_overlay.disable()
    assert use(module) == stock


def test_a_module_that_replaces_itself(offer: Any, site: Any) -> None:
    site.write(
        {
            "lazy.py": """
                import sys, types
                def run(): return "stock"
                class Lazy(types.ModuleType):
                    pass
                fresh = Lazy(__name__)
                fresh.run, fresh.__spec__, fresh.__file__ = run, __spec__, __file__
                sys.modules[__name__] = fresh
            """
        }
    )
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lazy:run")(around)
    offer(overlay)
    ascend_overlay.enable()
    lazy = importlib.import_module("lazy")
    assert type(lazy).__name__ == "Lazy" and lazy.run() == ("around", "stock")
    del sys.modules["lazy"]
    lazy = importlib.import_module("lazy")
    assert lazy.run() == ("around", "stock")
    ascend_overlay.disable()
    assert lazy.run() == "stock"


@pytest.mark.parametrize("late", [True, False])
def test_a_reload_that_fails_and_one_that_does_not(offer: Any, site: Any, late: bool) -> None:
    site.write({"flaky.py": "import flag\ndef run(): return 'stock'\nif flag.FAIL: raise RuntimeError('flaky')\n"})
    site.write({"flag.py": "FAIL = False\n"})
    flag: Any = importlib.import_module("flag")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("flaky:run")(around)
    offer(overlay)
    if late:
        importlib.import_module("flaky")
    ascend_overlay.enable()
    flaky = importlib.import_module("flaky")
    flag.FAIL = True
    with pytest.raises(RuntimeError, match="flaky"):
        importlib.reload(flaky)
    # What has executed halfway is stock in the module, or the ledger mends it.
    (entry,) = ascend_overlay.ledger()
    assert (entry.state == "applied") == (flaky.run() == ("around", "stock")), entry
    flag.FAIL = False
    importlib.reload(flaky)
    assert flaky.run() == ("around", "stock")
    ascend_overlay.disable()
    assert flaky.run() == "stock"


@pytest.mark.parametrize("way", [["-m", "app.main"], ["app/main.py"]])
def test_a_target_in_the_module_that_is_run_is_said(python: Any, site: Any, way: list[str]) -> None:
    site.write(
        {
            "app/main.py": """
                import sys, os
                sys.path.insert(0, os.getcwd())
                import ascend_overlay
                def run(): return "stock"
                ascend_overlay.enable(load=["app_plugin"], only=["one"], propagate=False)
                if __name__ == "__main__":
                    import app.main
                    (entry,) = ascend_overlay.ledger().of("one")
                    print(entry.state, run(), app.main.run(), "|".join(entry.stale + entry.notes))
            """,
            "app_plugin.py": """
                from ascend_overlay import Overlay
                from ascend_overlay.hooks import hookimpl
                one = Overlay("one", reason="a test")
                one.wrap("app.main:run")(lambda wrapped, instance, args, kwargs: "ours")
                @hookimpl
                def ascend_overlay_overlays(): return [one]
            """,
        }
    )
    done = python(*way)
    assert done.stdout.startswith("applied stock ours")
    if way[0] == "-m":
        assert "__main__" in done.stdout


def test_a_target_that_runs_when_the_patch_arrives_is_said(offer: Any, site: Any) -> None:
    site.write(
        {
            "loop.py": """
                import ascend_overlay
                class Core:
                    def __init__(self): self.state = start()
                    @classmethod
                    def make(cls): return cls()
                def start():
                    ascend_overlay.enable()
                    return run()
                def run(): return "stock"
                def generate():
                    yield 1
                    ascend_overlay.enable()
                    yield 2
            """
        }
    )
    overlay = Overlay("one", reason="a test")
    targets = ["loop:Core.__init__", "loop:Core.make", "loop:start", "loop:run", "loop:generate"]
    for target in targets:
        overlay.wrap(target)(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
    offer(overlay)
    loop = importlib.import_module("loop")
    loop.Core.make()
    running = {entry.target for entry in ascend_overlay.ledger() if any("runs right now" in s for s in entry.stale)}
    assert running == {"loop:Core.__init__", "loop:Core.make", "loop:start"}
    ascend_overlay.disable()
    assert list(itertools.islice(loop.generate(), 2)) == [1, 2]
    running = {entry.target for entry in ascend_overlay.ledger() if any("runs right now" in s for s in entry.stale)}
    assert running == {"loop:generate"}


BEHIND = ["made anew", "put back"]


@pytest.mark.parametrize("how", BEHIND)
def test_what_happened_behind_our_back_is_mended_by_looking(site: Any, offer: Any, how: str) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    before = lib = importlib.import_module("lib")
    stock = lib.run
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(overlay)
    ascend_overlay.enable()
    if how == "made anew":
        # By hand, past the import system.
        lib = importlib.util.module_from_spec(before.__spec__)
        sys.modules["lib"] = lib
        exec(before.__loader__.get_code("lib"), vars(lib))
        stock = lib.run
    else:
        lib.run = stock
    assert lib.run() == "stock"
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]
    assert lib.run() == "<stock>"
    ascend_overlay.disable()
    assert lib.run is stock and before.run() == "stock"
