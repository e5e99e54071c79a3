"""A target that leads past the place that was changed; members that cannot go; abstract methods that get a body."""

from __future__ import annotations

import importlib
import itertools
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ActivationError, ForeignError, TargetError

LIBRARY = """
    import abc, dataclasses, enum
    class Thing:
        def run(self): return "stock"
        size = 1
        class Inner:
            def run(self): return "stock"
    TABLE = {"key": 1}
    class Color(enum.Enum):
        RED = 1
        BLUE = 2
    @dataclasses.dataclass
    class Row:
        size: int = 1
    class Base(abc.ABC):
        @abc.abstractmethod
        def run(self): ...
    class Derived(Base): pass
    class Other(Base):
        @abc.abstractmethod
        def more(self): ...
    def function(): return "stock"
"""


@pytest.fixture
def lib(site: Any) -> ModuleType:
    site.write({"lib.py": LIBRARY})
    return importlib.import_module("lib")


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> str:
    return f"<{wrapped(*args, **kwargs)}>"


def declare(kind: str) -> Overlay:
    overlay = Overlay("one", reason="a test")
    if kind == "wrap":
        overlay.wrap("lib:Thing.run")(around)
    elif kind == "replace":
        overlay.replace("lib:Thing.run")(lambda self: "ours")
    elif kind == "attribute":
        overlay.attribute("lib:Thing.size", 2)
    elif kind == "add":
        overlay.add("lib:Thing.more", 2)
    elif kind == "nested":
        overlay.wrap("lib:Thing.Inner.run")(around)
    else:
        overlay.item("lib:TABLE", "key", 2)
    return overlay


@pytest.mark.parametrize("kind", ["wrap", "replace", "attribute", "add", "nested", "item"])
def test_another_owner_in_place_of_the_patched_one_is_said(lib: ModuleType, offer: Any, kind: str) -> None:
    offer(declare(kind))
    ascend_overlay.enable(foreign="accept")
    name = "TABLE" if kind == "item" else "Thing"
    stock = vars(lib)[name]
    theirs = {"key": 9} if kind == "item" else type("Thing", (), {"run": lambda self: "theirs", "size": 3})
    setattr(lib, name, theirs)
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "without effect", entry
    assert any("somebody put in place of" in note or "leads nowhere" in note for note in entry.notes), entry.notes
    setattr(lib, name, stock)
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied"
    setattr(lib, name, theirs)
    ascend_overlay.disable()
    assert vars(lib)[name] is theirs


@pytest.mark.parametrize("kind", ["wrap", "replace", "attribute"])
def test_a_derived_class_in_its_place_is_no_other(lib: ModuleType, offer: Any, kind: str) -> None:
    offer(declare(kind))
    ascend_overlay.enable(foreign="accept")
    lib.Thing = type("Thing", (lib.Thing,), {})
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("lib:Color.RED", "member of an enumeration.*overlay.wrap"),
        ("lib:Row.size", "a declared field.*overlay.field"),
    ],
)
def test_what_is_declared_cannot_be_removed(lib: ModuleType, offer: Any, target: str, why: str) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.remove(target)
    offer(overlay)
    with pytest.raises(TargetError, match=why):
        ascend_overlay.enable()
    assert lib.Color(1) is lib.Color.RED and lib.Row().size == 1


def test_an_abstract_method_that_gets_a_body_is_abstract_no_more(lib: ModuleType, offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:Base.run")(lambda self: "ours")
    offer(overlay)
    before = [cls.__abstractmethods__ for cls in (lib.Base, lib.Derived, lib.Other)]
    ascend_overlay.enable()
    assert lib.Base().run() == lib.Derived().run() == "ours"
    with pytest.raises(TypeError, match="more"):
        lib.Other()
    ascend_overlay.disable()
    assert all(
        cls.__abstractmethods__ is names for cls, names in zip((lib.Base, lib.Derived, lib.Other), before, strict=True)
    )
    with pytest.raises(TypeError, match="run"):
        lib.Derived()


ORDERS = [
    order
    for order in itertools.permutations(["a", "-a", "b", "-b", "m", "-m"])
    if all(order.index(step) < order.index(f"-{step}") for step in "abm")
]


@pytest.mark.parametrize("kinds", [("wrap", "replace"), ("replace", "wrap"), ("wrap", "wrap")])
def test_a_mock_and_two_overlays_in_any_order_end_with_the_world_as_it_was(
    lib: ModuleType, engine: Any, kinds: tuple[str, str]
) -> None:
    assert len(ORDERS) == 90
    stock = lib.function
    # A sixth of the orders for each pair of kinds: half of them, together.
    first = 2 * ["wrap replace", "replace wrap", "wrap wrap"].index(" ".join(kinds))
    for order in ORDERS[first::6]:
        overlays = {}
        for name, kind in zip("ab", kinds, strict=True):
            overlays[name] = Overlay(name, reason="a test")
            if kind == "wrap":
                overlays[name].wrap("lib:function")(around)
            else:
                overlays[name].replace("lib:function")(lambda: "ours")
        patcher = mock.patch("lib.function", lambda: "mock")
        for step in order:
            if step in overlays:
                ascend_overlay.enable(overlays[step], propagate=False, foreign="accept")
            elif step == "m":
                patcher.start()
            elif step == "-m":
                patcher.stop()
            else:
                ascend_overlay.disable(only=[step[1:]])
        ascend_overlay.ledger()
        assert lib.function is stock, order
        assert lib.function() == "stock"


def test_what_has_no_slot_and_is_not_met_any_more_is_logged_once_and_can_be_an_error(
    site: Any, offer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site.write({"listed.py": "NAMES = ['one']\ndef run(): return 'stock'\n"})
    listed = importlib.import_module("listed")
    overlay = Overlay("one", reason="a test")
    overlay.entry("listed:NAMES", "two")
    overlay.edit("listed:run", find="return 'stock'", put="return 'edited'")
    offer(overlay)
    ascend_overlay.enable()
    listed.NAMES.remove("two")
    listed.run = lambda: "theirs"
    for _ in range(2):
        assert [entry.state for entry in ascend_overlay.ledger()] == ["without effect", "without effect"]
    said = [record.message for record in caplog.records]
    assert len(said) == 2 and all("without effect: " in line and "overlay 'one'" in line for line in said)
    with pytest.raises(ForeignError, match="without effect"):
        ascend_overlay.enable(foreign="error")


LATE = {
    "wrap": lambda o: o.wrap("lib:Thing.run")(around),
    "by name": lambda o: o.wrap("lib:Thing.run", "ours:around"),
    "attribute": lambda o: o.attribute("lib:Thing.size", 1),
    "kernel": lambda o: o.kernel("rms_norm", around),
}


@pytest.mark.parametrize("kind", LATE)
def test_a_patch_that_is_declared_after_enabling_is_an_error_there(lib: ModuleType, engine: Any, kind: str) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:function")(around)
    ascend_overlay.enable(overlay, propagate=False)
    told = r"'one'.*got another patch .*, (wrap|attribute|kernel) of .*declare it before enable\(\), or disable"
    with pytest.raises(ActivationError, match=told):
        LATE[kind](overlay)
    assert len(overlay.patches) == 1
    ascend_overlay.enable(overlay, propagate=False)
    assert lib.function() == "<stock>" and lib.Thing().run() == "stock"
    ascend_overlay.disable()
    LATE[kind](overlay)
    assert len(overlay.patches) > 1


def test_a_patch_that_is_declared_after_a_failed_enabling(lib: ModuleType, engine: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:no_such")(around)
    with pytest.raises(TargetError):
        ascend_overlay.enable(overlay, propagate=False)
    overlay.wrap("lib:function")(around)
    assert len(overlay.patches) == 2


def test_without_strictness_a_late_patch_is_a_warning_each_time(lib: ModuleType, engine: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:function")(around)
    ascend_overlay.enable(overlay, propagate=False, strict=False)
    with pytest.warns(RuntimeWarning, match="has got another patch since"):
        overlay.wrap("lib:Thing.run")(around)
    with pytest.warns(RuntimeWarning, match="has got another patch since"):
        ascend_overlay.enable(overlay, propagate=False, strict=False)
    ascend_overlay.disable()
    ascend_overlay.enable(overlay, propagate=False)
    assert lib.Thing().run() == "<stock>"


def test_a_mapping_that_outlives_a_reload_keeps_its_entry(site: Any, offer: Any) -> None:
    site.write({"kept.py": "TABLE = globals().get('TABLE', {'key': 1})\nFRESH = {'key': 1}\n"})
    kept = importlib.import_module("kept")
    overlay = Overlay("one", reason="a test")
    overlay.item("kept:TABLE", "key", 2)
    overlay.item("kept:FRESH", "key", 2)
    offer(overlay)
    ascend_overlay.enable()
    for _ in range(2):
        importlib.reload(kept)
        assert kept.TABLE == kept.FRESH == {"key": 2}
        assert [entry.state for entry in ascend_overlay.ledger()] == ["applied", "applied"]
    ascend_overlay.disable()
    assert kept.TABLE == kept.FRESH == {"key": 1}


def test_a_literal_that_is_made_of_another_is_named(site: Any, offer: Any) -> None:
    site.write(
        {
            "words/__init__.py": "",
            "words/all.py": """
                from typing import Literal
                Some = Literal["a", "b"]
                More = Literal[Some, "c"]
                Other = Literal["a", "c"]
            """,
        }
    )
    importlib.import_module("words.all")
    overlay = Overlay("one", reason="a test")
    overlay.entry("words.all:Some", "d")
    offer(overlay)
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    assert [text.split(" ")[0] for text in entry.stale] == ["words.all.More"]


@pytest.mark.parametrize("kind", ["wrap", "replace", "attribute"])
def test_another_owner_that_has_what_was_put_in_place_is_no_other(lib: ModuleType, offer: Any, kind: str) -> None:
    offer(declare(kind))
    ascend_overlay.enable(foreign="accept")
    stock = lib.Thing
    lib.Thing = type("Thing", (), {name: vars(stock)[name] for name in ("run", "size")})
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied", entry
    lib.Thing = stock
