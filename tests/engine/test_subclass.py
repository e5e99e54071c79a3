"""A subclass in the place of a class: for the class, what is derived from it, and what will be."""

from __future__ import annotations

import importlib
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError

LIB = """
    class Meta(type):
        def __call__(cls, *args, **kwargs):
            thing = super().__call__(*args, **kwargs)
            thing.made_by = "meta"
            return thing

    class Root: pass

    class Thing(Root, metaclass=Meta):
        kind = "stock"
        def __init__(self, size=1): self.size = size
        def run(self): return "stock"
        @classmethod
        def make(cls): return cls(5)

    class Derived(Thing):
        def __init__(self):
            super().__init__(2)
            self.derived = True
        def extra(self): return "extra"

    class Deeper(Derived): pass

    class Own(Thing):
        def run(self): return "own"

    REGISTRY = {"thing": Thing, "derived": Derived}

    def build(cls=Thing): return cls()
"""
OURS = """
    from lib import Thing
    class Ours(Thing):
        def __init__(self, size=1):
            super().__init__(size)
            self.ours = True
        def run(self): return f"ours over {super().run()}"
"""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIB, "ours.py": OURS, "user.py": "from lib import Thing, build\nKEPT = Thing()\n"})


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Thing", "ours:Ours")
    offer(overlay)
    return overlay


@pytest.mark.parametrize("early", [True, False])
def test_the_subclass_is_used_everywhere_and_taken_back(overlay: Overlay, snapshot: Any, early: bool) -> None:
    if early:
        importlib.import_module("user")
        lib = sys.modules["lib"]
        before = snapshot(lib, sys.modules["user"], lib.Thing, lib.Derived, lib.Own)
        bases = {cls: cls.__bases__ for cls in (lib.Thing, lib.Derived, lib.Deeper, lib.Own)}
    ascend_overlay.enable()
    user, lib = importlib.import_module("user"), importlib.import_module("lib")
    ours = importlib.import_module("ours")
    stock = ours.Ours.__mro__[1]
    assert lib.Thing is user.Thing is lib.REGISTRY["thing"] is ours.Ours
    for thing in (lib.Thing(), user.Thing(3), lib.build(), lib.Thing.make()):
        assert type(thing) is ours.Ours and thing.ours and thing.made_by == "meta"
        assert thing.run() == "ours over stock"
        assert isinstance(thing, lib.Thing) and isinstance(thing, stock)

    ascend_overlay.disable()

    assert lib.Thing is user.Thing is lib.REGISTRY["thing"] is stock
    assert type(lib.build()) is stock and type(lib.Derived()) is lib.Derived
    assert lib.Derived.__bases__ == (stock,) and issubclass(lib.Deeper, stock)
    assert ours.Ours is not stock and ours.Ours.__bases__ == (stock,)
    if early:
        before.assert_same(lib, user, lib.Thing, lib.Derived, lib.Own)
        assert bases == {cls: cls.__bases__ for cls in bases}


@pytest.mark.parametrize("early", [True, False])
def test_existing_subclasses_of_two_levels_follow(overlay: Overlay, early: bool) -> None:
    if early:
        importlib.import_module("lib")
    ascend_overlay.enable()
    lib = importlib.import_module("lib")
    for cls in (lib.Derived, lib.Deeper):
        thing = cls()
        assert (thing.run(), thing.ours, thing.derived, thing.size) == ("ours over stock", True, True, 2)
    (entry,) = ascend_overlay.ledger()
    assert any("lib.Derived (base class)" in copy for copy in entry.copies)


def test_subclass_with_its_own_version_keeps_it_and_the_ledger_says_so(overlay: Overlay) -> None:
    lib = importlib.import_module("lib")
    ascend_overlay.enable()
    assert lib.Own().run() == "own"
    (entry,) = ascend_overlay.ledger()
    assert any("lib.Own keeps its own run" in note for note in entry.notes)


def test_future_subclasses_follow(overlay: Overlay, site: Any) -> None:
    site.write({"future.py": "from lib import Thing\nclass Future(Thing):\n    pass\n"})
    ascend_overlay.enable()
    future = importlib.import_module("future")
    assert future.Future().run() == "ours over stock"
    ascend_overlay.disable()
    assert future.Future().run() == "stock"


def test_live_instances_are_reported(overlay: Overlay) -> None:
    importlib.import_module("user")
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    assert entry.stale == ["a live instance of lib.Thing"]
    assert sys.modules["user"].KEPT.run() == "stock"


def test_instances_can_be_pickled(overlay: Overlay) -> None:
    lib = importlib.import_module("lib")
    ascend_overlay.enable()
    thing = pickle.loads(pickle.dumps(lib.Thing(7)))
    assert (type(thing).__name__, thing.size) == ("Ours", 7)
    assert pickle.loads(pickle.dumps(lib.Thing)) is lib.Thing


def test_class_whose_layout_does_not_fit_is_reported(offer: Any, site: Any) -> None:
    site.write(
        {
            "slotted.py": """
                class Thing:
                    __slots__ = ("size",)
                    def run(self): return "stock"
                class Derived(Thing):
                    __slots__ = ("other",)
            """,
            "ours2.py": "from slotted import Thing\nclass Ours(Thing):\n    def run(self): return 'ours'\n",
        }
    )
    slotted = importlib.import_module("slotted")
    overlay = Overlay("one", reason="a test")
    overlay.subclass("slotted:Thing", "ours2:Ours")
    offer(overlay)
    ascend_overlay.enable()
    assert slotted.Thing().run() == "ours" and slotted.Derived().run() == "stock"
    (entry,) = ascend_overlay.ledger()
    assert any("slotted.Derived" in text and "layout" in text for text in entry.stale), entry


def test_nested_and_inherited_class(offer: Any, site: Any) -> None:
    site.write(
        {
            "outer.py": """
                class Outer:
                    class Inner:
                        def run(self): return "stock"
                    def make(self): return self.Inner()
                class Child(Outer): pass
            """,
            "ours2.py": "from outer import Outer\nclass Ours(Outer.Inner):\n    def run(self): return 'ours'\n",
        }
    )
    outer = importlib.import_module("outer")
    overlay = Overlay("one", reason="a test")
    overlay.subclass("outer:Child.Inner", "ours2:Ours")
    offer(overlay)
    ascend_overlay.enable()
    assert outer.Child().make().run() == "ours"
    assert outer.Outer().make().run() == "stock", "patching an inherited attribute must not leak to the base class"
    ascend_overlay.disable()
    assert "Inner" not in vars(outer.Child)


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_member_of_a_replaced_class_is_patched_where_it_counts(overlay: Overlay, offer: Any, order: Any) -> None:
    two = Overlay("two", reason="a test")
    two.wrap("lib:Thing.make")(lambda wrapped, instance, args, kwargs: ("wrapped", wrapped()))
    offer(two)
    lib = importlib.import_module("lib")
    for name in order:
        ascend_overlay.enable(only=[name])
    made = lib.Thing.make()
    assert made[0] == "wrapped" and made[1].ours
    ascend_overlay.disable(only=["one"])
    made = lib.Thing.make()
    assert made[0] == "wrapped" and not hasattr(made[1], "ours")
    ascend_overlay.disable()
    assert type(lib.Thing.make()) is lib.Thing


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_member_that_the_subclass_overrides_is_patched_on_the_subclass(
    overlay: Overlay, offer: Any, order: tuple[str, str]
) -> None:
    two = Overlay("two", reason="a test")
    two.wrap("lib:Thing.run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(two)
    lib = importlib.import_module("lib")
    for name in order:
        ascend_overlay.enable(only=[name])
    assert lib.Thing().run() == "<ours over stock>"
    ascend_overlay.disable(only=["one"])
    assert lib.Thing().run() == "<stock>"


def test_replaced_member_stays_replaced_however_often_the_class_comes_and_goes(overlay: Overlay, offer: Any) -> None:
    two = Overlay("two", reason="a test")
    two.wrap("lib:Thing.make")(lambda wrapped, instance, args, kwargs: ("wrapped", wrapped()))
    overlay.replace("lib:Thing.make")(lambda cls: "replaced")
    offer(two)
    lib = importlib.import_module("lib")
    for _ in range(3):
        ascend_overlay.enable()
        assert lib.Thing.make() == ("wrapped", "replaced")
        ascend_overlay.disable(only=["one"])
        assert lib.Thing.make()[0] == "wrapped" and type(lib.Thing.make()[1]) is lib.Thing


@pytest.mark.parametrize(
    ("implementation", "message"),
    [
        ("ours3:NotDerived", "not a subclass"),
        ("ours3:function", "a function, not a class.*overlay.factory"),
        ("ours3:Missing", "does not exist.*Did you mean 'Missed'"),
        ("ours4:Ours", "cannot be imported: No module named 'no_such_module'"),
        ("ours5:Ours", "the implementation ours5:Ours does not exist: .*'ours5' is not installed"),
    ],
)
def test_implementation_that_does_not_fit(offer: Any, site: Any, implementation: str, message: str) -> None:
    site.write({"ours3.py": "class NotDerived: pass\nclass Missed: pass\ndef function(): pass\n"})
    site.write({"ours4.py": "import no_such_module\n"})
    importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Thing", implementation)
    offer(overlay)
    with pytest.raises(TargetError, match=message):
        ascend_overlay.enable()


def test_target_that_is_no_class(offer: Any) -> None:
    importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:build", "ours:Ours")
    offer(overlay)
    with pytest.raises(TargetError, match=r"not a class; use overlay.replace"):
        ascend_overlay.enable()


def test_class_that_names_itself_in_super_is_refused(offer: Any, site: Any) -> None:
    site.write(
        {
            "old.py": "class Base: pass\nclass Thing(Base):\n    def __init__(self): super(Thing, self).__init__()\n",
            "ours2.py": "import old\nclass Ours(old.Thing): pass\n",
        }
    )
    importlib.import_module("old")
    overlay = Overlay("one", reason="a test")
    overlay.subclass("old:Thing", "ours2:Ours")
    offer(overlay)
    with pytest.raises(TargetError, match=r"calls super\(Thing, self\).*Replace that method"):
        ascend_overlay.enable()


def test_who_uses_the_subclass_by_its_own_name_keeps_it(overlay: Overlay, site: Any) -> None:
    site.write(
        {
            "ours.py": OURS + "    ALL = [Ours]\n    TABLE = {'ours': Ours}\n    def build(cls=Ours): return cls()\n",
            "fan.py": "from ours import Ours\nclass Fan:\n    Ours = Ours\n",
        }
    )
    lib, fan = importlib.import_module("lib"), importlib.import_module("fan")
    ours = sys.modules["ours"]
    theirs = SimpleNamespace(cls=ours.Ours)
    ascend_overlay.enable()
    assert lib.Thing is theirs.cls
    ascend_overlay.disable()
    assert lib.Thing is not theirs.cls
    for held in (ours.Ours, fan.Ours, fan.Fan.Ours, ours.ALL[0], ours.TABLE["ours"], type(ours.build())):
        assert held is theirs.cls


def test_implementation_of_the_same_name(offer: Any, site: Any) -> None:
    site.write(
        {
            "same.py": "import lib\nclass Thing(lib.Thing):\n    def run(self): return 'same'\n",
            "same_user.py": "from same import Thing as Ours\nfrom same import Thing\n",
        }
    )
    lib, same = importlib.import_module("lib"), importlib.import_module("same_user")
    stock, theirs = lib.Thing, same.Ours
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Thing", "same:Thing")
    offer(overlay)
    ascend_overlay.enable()
    assert lib.Thing is theirs
    ascend_overlay.disable()
    assert lib.Thing is stock and sys.modules["same"].Thing is theirs


FANS = {
    "ours": OURS + "    class Fan(Ours): pass\n",
    "by its own name": "from ours import Ours\nclass Fan(Ours): pass\n",
    "by its own name, beside the target": "from ours import Ours\nfrom lib import Thing\nclass Fan(Ours): pass\n",
    "by another name, beside the target": "from ours import Ours as X\nfrom lib import Thing\nclass Fan(X): pass\n",
    "by the module": "import ours\nclass Fan(ours.Ours): pass\n",
}


@pytest.mark.parametrize("fan", FANS.values(), ids=FANS)
def test_what_was_derived_from_the_subclass_before_stays_so(overlay: Overlay, site: Any, fan: str) -> None:
    name = "ours" if "class Ours" in fan else "fan"
    site.write({f"{name}.py": fan})
    fans, ours = importlib.import_module(name), importlib.import_module("ours")
    for _ in range(2):
        with ascend_overlay.enabled():
            assert fans.Fan.__bases__ == (ours.Ours,) and fans.Fan().run() == "ours over stock"
        assert fans.Fan.__bases__ == (ours.Ours,) and fans.Fan().run() == "ours over stock"


LATER = [
    ("from ours import Ours\nclass Fan(Ours): pass\n", "Ours"),
    ("import lib\nfrom ours import Ours\nclass Fan(Ours): pass\n", "Ours"),
    ("from lib import Thing\nclass Fan(Thing): pass\n", "Thing"),
    ("import lib\nclass Fan(lib.Thing): pass\n", "Thing"),
    ("import lib\nclass Other: pass\nclass Fan(Other, lib.Thing): pass\n", "Thing"),
]


@pytest.mark.parametrize(("fan", "base"), LATER)
def test_what_is_derived_meanwhile_is_based_on_what_it_named(overlay: Overlay, site: Any, fan: str, base: str) -> None:
    site.write({"fan.py": fan})
    ascend_overlay.enable()
    fans = importlib.import_module("fan")
    assert fans.Fan().run() == "ours over stock"
    ascend_overlay.disable()
    assert fans.Fan.__bases__[-1].__name__ == base
    assert fans.Fan().run() == ("stock" if base == "Thing" else "ours over stock")


def test_what_the_module_of_the_subclass_derives_later_is_of_the_subclass(overlay: Overlay, site: Any) -> None:
    later = "    def derive():\n        class Fan(Ours): pass\n        return Fan\n"
    site.write(
        {"ours.py": OURS.replace("from lib import Thing", "import lib").replace("(Thing)", "(lib.Thing)") + later}
    )
    ascend_overlay.enable()
    importlib.import_module("lib")
    fan = importlib.import_module("ours").derive()
    ascend_overlay.disable()
    assert fan.__bases__ == (importlib.import_module("ours").Ours,)
