"""What classes write for themselves or capture: wrapped in the whole family, or refused with the kind that works."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from declared_members import LATER, LIB, World

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError

FAMILY = """
    from dataclasses import dataclass

    @dataclass
    class Base:
        count: int = 1

    @dataclass
    class Written(Base):
        more: int = 2

    @dataclass
    class Calling(Base):
        def __init__(self): super().__init__(count=5)

    @dataclass
    class Twice(Base):
        more: int = 2
        def __post_init__(self): Base.__init__(self, self.count + 1)
"""


@pytest.fixture
def lib(site: Any) -> ModuleType:
    """A module with one class of each kind."""
    site.write({"declaring/lib.py": LIB, "declaring/later.py": LATER, "declaring/family.py": FAMILY})
    return importlib.import_module("declaring.lib")


@pytest.fixture
def family(lib: ModuleType) -> Any:
    """Dataclasses of one family."""
    return importlib.import_module("declaring.family")


@pytest.fixture
def wrap(offer: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Declare the overlay `wrapping`; returns the list of the objects that the wrapper met."""

    def declare(target: str) -> list[Any]:
        overlay, met = Overlay("wrapping", reason="r"), []

        @overlay.wrap(f"declaring.{target}")
        def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            met.append(type(instance).__name__)
            return wrapped(*args, **kwargs)

        offer(overlay)
        return met

    return declare


@pytest.mark.parametrize("name", ["Base", "Written", "Calling", "Twice"])
def test_each_constructor_of_a_family_meets_the_wrapper_once(family: Any, wrap: Any, name: str) -> None:
    met, before = wrap("family:Base.__init__"), World(family)
    with ascend_overlay.enabled(only=["wrapping"]):
        assert getattr(family, name)().count >= 1
        assert met == [name]
    getattr(family, name)()
    assert met == [name]
    assert before.differences() == []


OTHERS = {"__repr__": repr, "__eq__": lambda made: made == made}


@pytest.mark.parametrize("name", OTHERS)
def test_other_generated_methods(family: Any, wrap: Any, name: str) -> None:
    met, before = wrap(f"family:Base.{name}"), World(family)
    with ascend_overlay.enabled(only=["wrapping"]):
        OTHERS[name](family.Written())
        assert met == ["Written"]
    assert before.differences() == []


def test_what_msgspec_captured_meets_a_wrapper(lib: Any, wrap: Any) -> None:
    met, before = wrap("lib:Struct.__post_init__"), World(lib)
    code = lib.Struct.__post_init__.__code__
    with ascend_overlay.enabled(only=["wrapping"]):
        lib.Struct()
        lib.StructDerived()
        assert met == ["Struct", "StructDerived"]
    lib.Struct()
    assert len(met) == 2
    assert lib.Struct.__post_init__.__code__ is code
    assert before.differences() == []


def test_what_msgspec_captured_meets_a_replacement(lib: Any, offer: Any) -> None:
    overlay, met, before = Overlay("replacing", reason="r"), [], World(lib)

    @overlay.replace("declaring.lib:Struct.__post_init__")
    def post_init(self: Any) -> None:
        met.append(self.count)

    offer(overlay)
    with ascend_overlay.enabled(only=["replacing"]):
        lib.Struct(count=4)
    lib.Struct(count=5)
    assert met == [4]
    assert before.differences() == []


def test_hash_and_order_of_a_frozen_class(lib: Any, wrap: Any) -> None:
    met = wrap("lib:Frozen.__hash__")
    with ascend_overlay.enabled(only=["wrapping"]):
        hash(lib.Frozen())
        assert met == ["Frozen"]


def test_classes_that_come_later_meet_the_wrapper_and_go_back(lib: Any, wrap: Any) -> None:
    met = wrap("lib:Plain.__init__")
    with ascend_overlay.enabled(only=["wrapping"]):
        later: Any = importlib.import_module("declaring.later")
        later.Later()
        assert met == ["Later"]
    later.Later()
    assert met == ["Later"]


def test_dataclasses_are_not_watched_any_more(family: Any, wrap: Any) -> None:
    import dataclasses

    before = dataclasses._process_class  # type: ignore[attr-defined]
    wrap("family:Base.__init__")
    with ascend_overlay.enabled(only=["wrapping"]):
        assert dataclasses._process_class is not before  # type: ignore[attr-defined]
    assert dataclasses._process_class is before  # type: ignore[attr-defined]


def test_a_replacement_names_the_classes_that_do_not_meet_it(family: Any, offer: Any) -> None:
    overlay = Overlay("replacing", reason="r")

    @overlay.replace("declaring.family:Base.__init__")
    def init(self: Any, count: int = 1) -> None:
        self.count = count + 10

    offer(overlay)
    with ascend_overlay.enabled(only=["replacing"]):
        (entry,) = ascend_overlay.ledger().of("replacing")
        assert family.Base().count == 11
        assert any("declaring.family.Written.__init__ (generated" in text for text in entry.stale)


REFUSED: dict[str, tuple[Callable[[Overlay], Any], str]] = {
    "wrap a msgspec constructor": (
        lambda overlay: overlay.wrap("declaring.lib:Struct.__init__", "functions:wrapper"),
        "builds its objects in C.*overlay.subclass",
    ),
    "replace a msgspec constructor": (
        lambda overlay: overlay.replace("declaring.lib:Struct.__init__", "functions:method"),
        "builds its objects in C.*overlay.subclass",
    ),
    "wrap an inherited msgspec __post_init__": (
        lambda overlay: overlay.wrap("declaring.lib:StructDerived.__post_init__", "functions:wrapper"),
        "captured it.*overlay.subclass",
    ),
    "attribute of a dataclass field": (
        lambda overlay: overlay.attribute("declaring.lib:Plain.count", 5),
        r"field of a dataclass.*overlay.field\('declaring.lib:Plain.count', default=5\)",
    ),
    "attribute of an inherited field": (
        lambda overlay: overlay.attribute("declaring.lib:Derived.count", 5),
        "overlay.field",
    ),
    "attribute of a slot": (lambda overlay: overlay.attribute("declaring.lib:Slotted.count", 5), "overlay.field"),
    "attribute of a pydantic field": (
        lambda overlay: overlay.attribute("declaring.lib:Compiled.count", 5),
        "pydantic dataclass.*overlay.field",
    ),
    "attribute of a model's field": (
        lambda overlay: overlay.attribute("declaring.lib:Model.count", 5),
        "pydantic model.*overlay.field",
    ),
    "attribute of a msgspec field": (
        lambda overlay: overlay.attribute("declaring.lib:Struct.count", 5),
        "msgspec.Struct.*overlay.subclass",
    ),
    "attribute of a named tuple": (lambda overlay: overlay.attribute("declaring.lib:Pair.second", 5), "overlay.field"),
    "attribute of a key": (lambda overlay: overlay.attribute("declaring.lib:Keys.count", 5), "overlay.field"),
    "attribute of a member": (
        lambda overlay: overlay.attribute("declaring.lib:Number.ONE", 5),
        r"overlay.member\('declaring.lib:Number.NEW', value\)",
    ),
    "attribute of a Literal": (
        lambda overlay: overlay.attribute("declaring.lib:Size", 5),
        r"overlay.entry\('declaring.lib:Size', value\)",
    ),
    "add to a dataclass": (lambda overlay: overlay.add("declaring.lib:Plain.site", 5), "overlay.field"),
    "add to a model": (lambda overlay: overlay.add("declaring.lib:Model.site", 5), "overlay.field"),
    "add to a msgspec class": (lambda overlay: overlay.add("declaring.lib:Struct.site", 5), "overlay.subclass"),
    "add to an enumeration": (
        lambda overlay: overlay.add("declaring.lib:Number.THREE", 3),
        r"overlay.member\('declaring.lib:Number.THREE', 3\)",
    ),
    "replace a field": (
        lambda overlay: overlay.replace("declaring.lib:Plain.count", "functions:method"),
        "overlay.field",
    ),
}


@pytest.mark.parametrize(("declare", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_kind_that_works(site: Any, lib: Any, offer: Any, declare: Any, sentence: str) -> None:
    site.write({"functions.py": "def wrapper(wrapped, instance, args, kwargs): ...\ndef method(self): ...\n"})
    overlay, before = Overlay("declared", reason="r"), World(lib)
    declare(overlay)
    offer(overlay)
    with pytest.raises(TargetError, match=sentence):
        ascend_overlay.enable(only=["declared"], propagate=False)
    assert before.differences() == []


ALLOWED: dict[str, tuple[Callable[[Overlay], Any], Callable[[Any], Any], Any]] = {
    "a class variable": (
        lambda overlay: overlay.attribute("declaring.lib:Plain.LIMIT", 5),
        lambda lib: lib.Plain.LIMIT,
        5,
    ),
    "an unannotated attribute": (
        lambda overlay: overlay.attribute("declaring.lib:Plain.unannotated", 5),
        lambda lib: lib.Derived.unannotated,
        5,
    ),
    "a new constant": (lambda overlay: overlay.add("declaring.lib:Plain.SITE", 5), lambda lib: lib.Plain.SITE, 5),
    "a new method": (
        lambda overlay: overlay.add("declaring.lib:Plain.site", lambda self: 5),
        lambda lib: lib.Derived().site(),
        5,
    ),
    "a method of a msgspec class": (
        lambda overlay: overlay.replace("declaring.lib:Struct.method", lambda self: 5),
        lambda lib: lib.Struct().method(),
        5,
    ),
    "a new method of an enumeration": (
        lambda overlay: overlay.add("declaring.lib:Number.double", lambda self: self.value * 2),
        lambda lib: lib.Number.TWO.double(),
        4,
    ),
}


@pytest.mark.parametrize(("declare", "look", "value"), ALLOWED.values(), ids=ALLOWED)
def test_what_is_not_declared_is_as_it_was(lib: Any, offer: Any, declare: Any, look: Any, value: int) -> None:
    overlay, before = Overlay("undeclared", reason="r"), World(lib)
    declare(overlay)
    offer(overlay)
    with ascend_overlay.enabled(only=["undeclared"]):
        assert look(lib) == value
    assert before.differences() == []


def test_dataclasses_of_no_kin_do_not_meet_the_wrapper(site: Any, family: Any, wrap: Any) -> None:
    stranger = "from dataclasses import dataclass\n@dataclass\nclass Stranger:\n    count: int = 1\n"
    site.write({"declaring/before.py": stranger, "declaring/meanwhile.py": stranger})
    met, before = wrap("family:Base.__init__"), importlib.import_module("declaring.before")
    with ascend_overlay.enabled(only=["wrapping"]):
        meanwhile = importlib.import_module("declaring.meanwhile")
        assert before.Stranger().count == meanwhile.Stranger().count == 1 and met == []
        assert not hasattr(meanwhile.Stranger.__init__, "__wrapped__")


def test_what_a_later_class_writes_itself_is_called_as_it_is(site: Any, family: Any, offer: Any) -> None:
    written = "def __init__(self, more):\n        super().__init__(count=more)\n        self.more = more\n"
    imports = "from dataclasses import dataclass\nfrom declaring.family import Base\n"
    site.write({"declaring/meanwhile.py": f"{imports}@dataclass\nclass Later(Base):\n    {written}"})
    overlay, met = Overlay("wrapping", reason="r"), []

    @overlay.wrap("declaring.family:Base.__init__")
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        met.append((type(instance).__name__, args, kwargs))
        return wrapped(*args, **kwargs)

    offer(overlay)
    with ascend_overlay.enabled(only=["wrapping"]):
        later = importlib.import_module("declaring.meanwhile").Later
        assert later(3).more == 3 and not hasattr(later.__init__, "__wrapped__")
    assert met == [("Later", (), {"count": 3})]
