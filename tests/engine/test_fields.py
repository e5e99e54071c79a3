"""A declared field gets another default, or a class another field: derived and embedding classes follow."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from declared_members import LATER, LIB, USER, World

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.errors import ConflictError, TargetError
from ascend_overlay.patches import Applied, Context
from ascend_overlay.patches.fields import Field
from ascend_overlay.places import fields
from ascend_overlay.places.slots import Slots

NEW = {"default": 5, "annotation": int}


@pytest.fixture
def lib(site: Any) -> ModuleType:
    """A module with one class of each kind."""
    site.write({"declaring/lib.py": LIB, "declaring/user.py": USER, "declaring/later.py": LATER})
    importlib.import_module("declaring.user")
    return importlib.import_module("declaring.lib")


@pytest.fixture
def declare(offer: Callable[..., Any]) -> Callable[..., Overlay]:
    """Declare an overlay with one field."""
    count = 0

    def make(target: str, **options: Any) -> Overlay:
        nonlocal count
        count += 1
        overlay = Overlay(f"fields{count}", reason="r")
        overlay.field(f"declaring.lib:{target}", **options)
        offer(overlay)
        return overlay

    return make


DEFAULTS = {
    "dataclass": ("Plain.count", lambda lib: lib.Plain().count),
    "the derived class follows": ("Plain.count", lambda lib: lib.Derived().count),
    "a class with no fields of its own follows": ("Plain.count", lambda lib: lib.Bare().count),
    "the class attribute": ("Plain.count", lambda lib: lib.Plain.count),
    "the signature": ("Plain.count", lambda lib: inspect.signature(lib.Derived).parameters["count"].default),
    "what took its default": ("Plain.count", lambda lib: sys.modules["declaring.user"].Taking().count),
    "dataclasses.fields": (
        "Plain.count",
        lambda lib: next(field.default for field in dataclasses.fields(lib.Derived) if field.name == "count"),
    ),
    "a derived class alone": ("Derived.count", lambda lib: lib.Derived().count),
    "slots": ("Slotted.count", lambda lib: lib.Slotted().count),
    "frozen": ("Frozen.count", lambda lib: lib.Frozen().count),
    "by name only": ("Named.count", lambda lib: lib.Named().count),
    "pydantic dataclass": ("Compiled.count", lambda lib: lib.Compiled().count),
    "pydantic, the signature": (
        "Compiled.count",
        lambda lib: inspect.signature(lib.Compiled).parameters["count"].default,
    ),
    "pydantic, derived": ("Compiled.count", lambda lib: lib.CompiledDerived().count),
    "pydantic, embedded": ("Compiled.count", lambda lib: lib.Embedding(inner={}).inner.count),
    "pydantic, the derived class alone": ("CompiledDerived.count", lambda lib: lib.CompiledDerived().count),
    "model": ("Model.count", lambda lib: lib.Model().count),
    "model, the signature": ("Model.count", lambda lib: inspect.signature(lib.Model).parameters["count"].default),
    "model, derived": ("Model.count", lambda lib: lib.ModelDerived().count),
    "model, embedded": ("Model.count", lambda lib: lib.ModelEmbedding(inner={}).inner.count),
    "named tuple": ("Pair.second", lambda lib: lib.Pair(1).second),
    "named tuple, its table": ("Pair.second", lambda lib: lib.Pair._field_defaults["second"]),
}


@pytest.mark.parametrize(("target", "look"), DEFAULTS.values(), ids=DEFAULTS)
def test_another_default(lib: Any, declare: Any, target: str, look: Callable[[Any], Any]) -> None:
    before, was = World(lib), look(lib)
    with ascend_overlay.enabled(only=[declare(target, default=5).name]):
        assert look(lib) == 5
    assert look(lib) == was != 5
    assert before.differences() == []


UNTOUCHED = {
    "an explicit value": ("Plain.count", lambda lib: lib.Plain(count=4).count, 4),
    "an explicit value of the derived": ("Plain.count", lambda lib: lib.Derived("n", 4).count, 4),
    "a derived class that declares it itself": ("Plain.count", lambda lib: lib.Overriding().count, 7),
    "the base": ("Derived.count", lambda lib: lib.Plain().count, 1),
    "the pydantic base": ("CompiledDerived.count", lambda lib: lib.Compiled().count, 1),
}


@pytest.mark.parametrize(("target", "look", "value"), UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_another_default_leaves_alone(lib: Any, declare: Any, target: str, look: Any, value: int) -> None:
    with ascend_overlay.enabled(only=[declare(target, default=5).name]):
        assert look(lib) == value


ADDED = {
    "dataclass": ("Plain.site", lambda lib: lib.Plain),
    "derived": ("Plain.site", lambda lib: lib.Derived),
    "frozen": ("Frozen.site", lambda lib: lib.Frozen),
    "by name only": ("Named.site", lambda lib: lib.Named),
    "pydantic dataclass": ("Compiled.site", lambda lib: lib.Compiled),
    "pydantic, derived": ("Compiled.site", lambda lib: lib.CompiledDerived),
}


@pytest.mark.parametrize(("target", "find"), ADDED.values(), ids=ADDED)
def test_a_new_field(lib: Any, declare: Any, target: str, find: Callable[[Any], Any]) -> None:
    before, cls = World(lib), find(lib)
    with ascend_overlay.enabled(only=[declare(target, **NEW).name]):
        made = cls(site=6)
        assert (made.site, cls().site) == (6, 5)
        assert "site=6" in repr(made)
        assert made == cls(site=6) != cls(site=7)
        assert "site" in [field.name for field in dataclasses.fields(cls)]
        assert inspect.signature(cls).parameters["site"].kind is inspect.Parameter.KEYWORD_ONLY
        assert dataclasses.replace(made, site=8).site == 8
        assert pickle.loads(pickle.dumps(made)).site == 6
        assert cls.__match_args__ == tuple(name for name in cls.__match_args__ if name != "site")
        if cls is lib.Frozen:
            assert hash(made) != hash(cls(site=7))
            assert cls(site=6) < cls(site=7)
            with pytest.raises(dataclasses.FrozenInstanceError):
                made.site = 1
    with pytest.raises(Exception, match="site"):
        cls(site=6)
    assert before.differences() == []


def test_a_new_field_of_a_model(lib: Any, declare: Any) -> None:
    before = World(lib)
    with ascend_overlay.enabled(only=[declare("Model.site", **NEW).name]):
        assert lib.Model(site="6").site == 6
        assert lib.ModelDerived(site=6).model_dump()["site"] == 6
        assert lib.ModelEmbedding(inner={"site": 6}).inner.site == 6
        assert pickle.loads(pickle.dumps(lib.Model(site=6))).site == 6
    assert "site" not in lib.Model(site=6).model_dump()
    assert before.differences() == []


@pytest.mark.parametrize("owner", ["Plain", "Derived", "Compiled", "Model", "ModelDerived"])
def test_a_new_field_with_a_factory(lib: Any, declare: Any, owner: str) -> None:
    before, cls = World(lib), getattr(lib, owner)
    with ascend_overlay.enabled(only=[declare(f"{owner}.site", default_factory=list, annotation=list).name]):
        one, other = cls(), cls()
        assert one.site == other.site == [] and one.site is not other.site
        assert cls(site=[1]).site == [1]
    assert not hasattr(cls(), "site")
    assert before.differences() == []


@pytest.mark.parametrize("left", [0, 1])
def test_a_class_with_no_annotations_of_its_own(lib: Any, left: int) -> None:
    before, slots = World(lib), Slots()
    options: list[tuple[str, dict[str, Any]]] = [("count", {"default": 5}), ("site", NEW)]
    done = [applied(slots, lib, Field(target=f"declaring.lib:Unannotated.{name}", **said)) for name, said in options]
    assert (lib.Unannotated().count, lib.Unannotated(site=6).site, lib.Plain().count) == (5, 6, 1)
    assert vars(lib.Unannotated)["__annotations__"] == {"count": int, "site": int}
    done[left].revert()
    assert vars(lib.Unannotated)["__annotations__"] == ({"site": int}, {"count": int})[left]
    done[1 - left].revert()
    assert before.differences() == []


def test_what_vllm_has_computed_from_fields_is_computed_anew(site: Any, lib: Any, declare: Any) -> None:
    tables = "import functools\n@functools.cache\ndef _compute_kwargs(cls): return {'count': cls().count}\n"
    site.vllm("0.32.0", {"vllm/engine/arg_utils.py": tables})
    computed = importlib.import_module("vllm.engine.arg_utils")._compute_kwargs
    assert computed(lib.Plain) == {"count": 1}
    with ascend_overlay.enabled(only=[declare("Plain.count", default=5).name]):
        assert computed(lib.Plain) == {"count": 5}
    assert computed(lib.Plain) == {"count": 1}


def test_pydantic_validates_a_new_field_where_the_class_is_embedded(lib: Any, declare: Any) -> None:
    with ascend_overlay.enabled(only=[declare("Compiled.site", **NEW).name]):
        assert lib.Embedding(inner={"site": "6"}).inner.site == 6
        with pytest.raises(Exception, match="valid integer"):
            lib.Embedding(inner={"site": "many"})


def test_the_constraints_of_a_changed_field_stay(lib: Any, declare: Any) -> None:
    with (
        ascend_overlay.enabled(only=[declare("Compiled.count", default=5).name]),
        pytest.raises(Exception, match="greater than or equal"),
    ):
        lib.Compiled(count=-1)


def test_a_rebuilt_pydantic_class_keeps_its_signature(lib: Any, declare: Any) -> None:
    stock = str(inspect.signature(lib.Compiled))
    with ascend_overlay.enabled(only=[declare("Compiled.count", default=5).name]):
        assert str(inspect.signature(lib.Compiled)) == stock.replace("int = 1", "int = 5") != stock


def test_another_type(lib: Any, declare: Any) -> None:
    before = World(lib)
    with ascend_overlay.enabled(only=[declare("Model.count", annotation=str).name]):
        assert lib.Model(count="many").count == "many"
        assert lib.ModelDerived(count="many").count == "many"
    assert before.differences() == []


def test_a_factory_by_name(site: Any, lib: Any, declare: Any) -> None:
    site.write({"factories.py": "def three(): return [1, 2, 3]\n"})
    before = World(lib)
    with ascend_overlay.enabled(only=[declare("Plain.parts", default_factory="factories:three").name]):
        one, other = lib.Derived(), lib.Derived()
        assert one.parts == [1, 2, 3]
        assert one.parts is not other.parts
    assert before.differences() == []


def test_a_key_of_a_typed_dict(lib: Any, declare: Any) -> None:
    before = World(lib)
    with ascend_overlay.enabled(only=[declare("Keys.site", annotation=str).name]):
        assert lib.Keys.__annotations__ == {"count": int, "site": str}
        assert lib.Keys.__optional_keys__ == {"site"}
    assert before.differences() == []


def test_classes_that_come_later_follow_and_go_back(lib: Any, declare: Any) -> None:
    before = World(lib)
    with ascend_overlay.enabled(only=[declare("Plain.count", default=5).name, declare("Compiled.site", **NEW).name]):
        later: Any = importlib.import_module("declaring.later")
        assert later.Later().count == later.LaterTaking().count == 5
        assert later.LaterCompiled(site=6).site == later.LaterEmbedding(inner={"site": 6}).inner.site == 6
    assert later.Later().count == later.LaterTaking().count == later.Later.count == 1
    for make in (lambda: later.LaterCompiled(site=6), lambda: later.LaterEmbedding(inner={"site": 6})):
        with pytest.raises(Exception, match="site"):
            make()
    assert later.LaterCompiled().last == 4
    assert before.differences() == []


def test_a_class_that_comes_later_may_be_changed_itself(lib: Any, offer: Any) -> None:
    overlay = Overlay("both", reason="r")
    overlay.field("declaring.lib:Plain.count", default=5)
    overlay.field("declaring.later:LaterTaking.site", **NEW)
    offer(overlay)
    with ascend_overlay.enabled(only=["both"]):
        later: Any = importlib.import_module("declaring.later")
        assert (later.LaterTaking(site=6).count, later.LaterTaking(site=6).site) == (5, 6)
    assert later.LaterTaking().count == later.LaterTaking.count == 1
    assert inspect.signature(later.LaterTaking).parameters["count"].default == 1
    with pytest.raises(TypeError):
        later.LaterTaking(site=6)


@pytest.mark.parametrize("first", ["default", "site"])
def test_a_class_that_comes_later_is_given_back_in_any_order(lib: Any, offer: Any, first: str) -> None:
    default, site = Overlay("default", reason="r"), Overlay("site", reason="r")
    default.field("declaring.lib:Plain.count", default=5)
    site.field("declaring.later:LaterTaking.site", **NEW)
    offer(default, site)
    ascend_overlay.enable()
    later: Any = importlib.import_module("declaring.later")
    assert (later.LaterTaking().count, later.LaterTaking().site) == (5, 5)
    ascend_overlay.disable(only=[first])
    assert later.LaterTaking().count == (1 if first == "default" else 5)
    assert hasattr(later.LaterTaking(), "site") is (first == "default")
    ascend_overlay.disable()
    assert later.LaterTaking().count == later.LaterTaking.count == 1
    assert str(inspect.signature(later.LaterTaking)) == "(count: int = 1) -> None"


def test_models_that_come_later_follow_and_go_back(lib: Any, declare: Any) -> None:
    with ascend_overlay.enabled(only=[declare("Model.count", default=5).name, declare("Model.site", **NEW).name]):
        later: Any = importlib.import_module("declaring.later")
        assert later.LaterModel().model_dump() == {"count": 5, "size": None, "site": 5, "last": 4}
    assert later.LaterModel().model_dump() == {"count": 1, "size": None, "last": 4}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("owner", ["Plain", "Compiled", "Model"])
def test_several_overlays_change_one_class_and_leave_in_any_order(
    lib: Any, declare: Any, owner: str, first: int
) -> None:
    before, cls = World(lib), getattr(lib, owner)
    names = [declare(f"{owner}.count", default=5).name, declare(f"{owner}.site", **NEW).name]
    with ascend_overlay.enabled(only=[names[first]]):
        with ascend_overlay.enabled(only=[names[1 - first]]):
            assert (cls().count, cls(site=6).site) == (5, 6)
        assert cls().count == (5 if first == 0 else 1)
    assert before.differences() == []


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("owner", ["Plain", "Compiled", "Model", "Pair", "Keys"])
def test_the_first_to_come_may_be_the_first_to_leave(lib: Any, owner: str, left: int) -> None:
    before, cls, slots = World(lib), getattr(lib, owner), Slots()
    options: list[tuple[str, dict[str, Any]]] = [("count", {"default": 5}), ("site", NEW)]
    if owner == "Pair":
        options = [("second", {"default": 5}), ("first", {"default": 6})]
    if owner == "Keys":
        options = [("count", {"annotation": str}), ("site", {"annotation": int})]
    done = [applied(slots, lib, Field(target=f"declaring.lib:{owner}.{name}", **said)) for name, said in options]
    done[left].revert()
    if owner not in ("Pair", "Keys"):
        assert (cls().count, hasattr(cls(), "site")) == ((1, True) if left == 0 else (5, False))
    done[1 - left].revert()
    assert before.differences() == []


def test_a_wrapper_and_a_field_share_a_constructor(lib: Any, offer: Any, declare: Any) -> None:
    before, seen = World(lib), []
    wrapping = Overlay("wrapping", reason="r")

    @wrapping.wrap("declaring.lib:Plain.__init__")
    def init(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(type(instance).__name__)
        return wrapped(*args, **kwargs)

    offer(wrapping)
    with ascend_overlay.enabled(only=["wrapping"]):
        with ascend_overlay.enabled(only=[declare("Plain.site", **NEW).name]):
            assert lib.Derived(site=6).site == 6
        assert lib.Derived().more == 3
        assert seen == ["Derived", "Derived"]
    assert before.differences() == []


REFUSED = {
    "a msgspec field": ("Struct.count", {"default": 5}, "msgspec.Struct Struct.*overlay.subclass"),
    "a new msgspec field": ("Struct.site", NEW, "msgspec.Struct Struct.*overlay.subclass"),
    "a new field with slots": ("Slotted.site", NEW, "__slots__.*overlay.subclass"),
    "a new field of a named tuple": ("Pair.site", NEW, "as long as whoever unpacks it"),
    "a default before one without": ("Pair.first", {"default_factory": list}, "no factories"),
    "a default of a key": ("Keys.count", {"default": 5}, "TypedDict, which has no defaults"),
    "a misspelt field": ("Plain.cuont", {"default": 5}, "no field 'cuont'. Did you mean 'count'.*annotation="),
    "a new field without a default": ("Plain.site", {"annotation": int}, "give default= or default_factory="),
    "a list": ("Plain.parts", {"default": []}, "mutable default"),
    "a text for a number": (
        "Plain.count",
        {"default": "two"},
        "what is there is an int, and this is a str. If.*as_is=True",
    ),
    "a text for a number, compiled": (
        "Compiled.count",
        {"default": "two"},
        "what is there is an int, and this is a str",
    ),
    "a text for a number of a model": ("Model.count", {"default": "two"}, "what is there is an int, and this is a str"),
    "a number for a text": (
        "Plain.name",
        {"default": 2},
        "what is there is a str, and this is an int. If.*annotation=",
    ),
    "the name of an object": ("Plain.parts", {"default": "declaring.lib:Plain"}, r"write ref\('declaring.lib:Plain'\)"),
    "a class variable": ("Plain.LIMIT", {"default": 5}, "not a field"),
    "a method": ("Struct.method", {"default": 5}, "msgspec"),
    "a class that declares nothing": ("Number.ONE", {"default": 5}, "declares none"),
    "a class with no fields of its own": ("Bare.count", {"default": 5}, "name the class that declares 'count'"),
    "both": ("Plain.parts", {"default_factory": list, "default": 5}, "give one"),
    "neither": ("Plain.parts", {}, "give default="),
}


@pytest.mark.parametrize(("target", "options", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_what_to_do(lib: Any, declare: Any, target: str, options: dict[str, Any], sentence: str) -> None:
    before = World(lib)
    name = declare(target, **options).name
    with pytest.raises(TargetError, match=f"(?s){target}.*{sentence}|{sentence}"):
        ascend_overlay.enable(only=[name], propagate=False)
    assert before.differences() == []


TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "as it is": ("Plain.count", {"default": "two", "as_is": True}),
    "with a type of its own": ("Plain.count", {"default": "two", "annotation": str}),
    "what its type takes": ("Model.size", {"default": "large"}),
    "nothing": ("Plain.count", {"default": None}),
    "another number": ("Plain.count", {"default": 2.5}),
}


@pytest.mark.parametrize(("target", "options"), TAKEN.values(), ids=TAKEN)
def test_taken_although_it_is_of_another_type(lib: Any, declare: Any, target: str, options: dict[str, Any]) -> None:
    owner, name = target.split(".")
    with ascend_overlay.enabled(only=[declare(target, **options).name]):
        assert getattr(getattr(lib, owner)(), name) == options["default"]


def test_two_that_decide_one_field(site: Any, lib: Any, offer: Any, declare: Any) -> None:
    overlay = Overlay("by_another_name", reason="r")
    overlay.field("declaring.user:Plain.count", default=6)
    offer(overlay)
    with pytest.raises(ConflictError, match=r"Plain.count is decided by overlay '\w+' .* already"):
        ascend_overlay.enable(only=[declare("Plain.count", default=5).name, overlay.name], propagate=False)


DECIDES: dict[str, dict[str, Any]] = {
    "a default": {"default": 5},
    "another default": {"default": 6},
    "a factory": {"default_factory": int},
    "a type": {"annotation": str},
    "another type": {"annotation": float},
    "both": {"default": 7, "annotation": bytes},
}


@pytest.mark.parametrize("owner", ["Plain", "Model"])
@pytest.mark.parametrize(("one", "two"), [(one, two) for one in DECIDES for two in DECIDES if one < two])
def test_a_default_and_a_type_are_decided_apart(lib: Any, one: str, two: str, owner: str) -> None:
    before, slots, defaults = World(lib), Slots(), {"a default", "another default", "a factory"}
    patches = [Field(target=f"declaring.lib:{owner}.count", **DECIDES[case]) for case in (one, two)]
    first = applied(slots, lib, patches[0])
    if "both" not in (one, two) and (one in defaults) != (two in defaults):
        applied(slots, lib, patches[1]).revert()
    else:
        with pytest.raises(ConflictError, match=f"{owner}.count is decided by a test already; leave one of the two"):
            applied(slots, lib, patches[1])
    applied(slots, lib, Field(target=f"declaring.lib:{owner}.site", **NEW)).revert()
    first.revert()
    applied(slots, lib, patches[1]).revert()
    assert before.differences() == []


def test_the_ledger_names_what_follows(lib: Any, declare: Any) -> None:
    overlay = declare("Plain.count", default=5)
    with ascend_overlay.enabled(only=[overlay.name]):
        (entry,) = ascend_overlay.ledger().of(overlay.name)
        assert (entry.state, entry.detail, entry.seam) == ("applied", "field: default = 5", "dataclass field")
        assert {
            "declaring.lib.Derived.count (inherited)",
            "declaring.user.Taking.count (took its default)",
        } <= set(entry.copies)
        assert "declaring.lib.Overriding declares count itself" in entry.notes


ARGUMENTS = """
    import argparse
    from dataclasses import dataclass, field
    @dataclass
    class Args:
        count: int = 1
        parts: list = field(default_factory=list)
        hidden: int = 1
        @staticmethod
        def add_cli_args(parser):
            parser.add_argument("--count", type=int, default=1)
            parser.add_argument("--parts", default=[])
            return parser
    @dataclass
    class More(Args):
        more: int = 3
        @staticmethod
        def add_cli_args(parser):
            parser = Args.add_cli_args(parser)
            parser.add_argument("--more", type=int, default=3)
            return parser
    @dataclass
    class Silent(Args):
        count: int = 7
    class Other:
        @staticmethod
        def add_cli_args(parser): return "no parser"
    @dataclass
    class Odd(Other):
        count: int = 1
    def three(): return [1, 2, 3]
"""


def flags(cls: Any, *arguments: str) -> dict[str, Any]:
    return vars(cls.add_cli_args(argparse.ArgumentParser()).parse_args(arguments))


def test_the_default_of_a_flag_is_that_of_the_field(site: Any, offer: Any) -> None:
    site.write({"arguing.py": ARGUMENTS})
    overlay = Overlay("one", reason="r")
    overlay.field("arguing:Args.count", default=5)
    overlay.field("arguing:Args.parts", default_factory="arguing:three")
    overlay.field("arguing:Args.hidden", default=5)
    offer(overlay)
    lib: Any = importlib.import_module("arguing")
    before = World(lib)
    with ascend_overlay.enabled():
        assert flags(lib.Args) == {"count": 5, "parts": [1, 2, 3]}
        assert flags(lib.More) == {"count": 5, "parts": [1, 2, 3], "more": 3}
        assert flags(lib.More, "--count", "2")["count"] == 2
        assert lib.Silent().count == 7
    assert flags(lib.Args) == {"count": 1, "parts": []} and flags(lib.More)["count"] == 1
    assert before.differences() == []


def test_what_adds_no_flags_to_a_parser_is_called_as_ever(site: Any, offer: Any) -> None:
    site.write(
        {
            "arguing.py": ARGUMENTS.replace(
                "class Odd(Other):", "class Odd(Other):\n        def add_cli_args(parser): return 'odd'"
            )
        }
    )
    overlay = Overlay("one", reason="r")
    overlay.field("arguing:Odd.count", default=5)
    offer(overlay)
    with ascend_overlay.enabled():
        lib: Any = importlib.import_module("arguing")
        assert lib.Odd.add_cli_args(None) == "odd" and lib.Odd().count == 5


@pytest.mark.parametrize(("name", "told"), [("Args", True), ("Odd", True), ("Plain", False)])
def test_a_new_field_gets_no_flag_and_the_ledger_says_so(site: Any, offer: Any, name: str, told: bool) -> None:
    site.write({"arguing.py": ARGUMENTS + "    @dataclass\n    class Plain:\n        count: int = 1\n"})
    overlay = Overlay("one", reason="r")
    overlay.field(f"arguing:{name}.site", **NEW)
    offer(overlay)
    with ascend_overlay.enabled():
        importlib.import_module("arguing")
        (entry,) = ascend_overlay.ledger().of("one")
        note = f"no command-line flag: wrap arguing:{name}.add_cli_args to add one"
        assert (note in entry.notes) is told
        assert "add_cli_args" not in " ".join(entry.notes) or told


TAKING = """
    import arguing_stock
    from arguing_stock import Stock
    from dataclasses import dataclass, field
    def get_field(cls, name): return getattr(cls, name)
    @dataclass
    class Taking:
        count: int = Stock.count
        counts: int = Stock.count * 2
        asked: int = get_field(Stock, "count")
        through: int = arguing_stock.Stock.count
        other: int = Stock.counter
    class Bare:
        count: int = Stock.count
    Also = Taking
"""


def test_only_what_took_the_default_follows(site: Any, offer: Any) -> None:
    stock = "from dataclasses import dataclass\n@dataclass\nclass Stock:\n    count: int = 1\n    counter: int = 1\n"
    site.write({"pkg/stock.py": stock, "pkg/taking.py": TAKING.replace("arguing_stock", "pkg.stock")})
    site.write({"elsewhere.py": TAKING.replace("arguing_stock", "pkg.stock")})
    overlay = Overlay("one", reason="r")
    overlay.field("pkg.stock:Stock.count", default=5)
    offer(overlay)
    taking, elsewhere = importlib.import_module("pkg.taking"), importlib.import_module("elsewhere")
    before = World(taking)
    # Somebody makes a module by hand.
    made: Any = ModuleType("pkg.made")
    made.Stock = taking.Stock
    sys.modules["pkg.made"] = made
    with ascend_overlay.enabled():
        found = taking.Taking()
        assert (found.count, found.asked, found.counts, found.other) == (5, 5, 2, 1)
        assert elsewhere.Taking().count == 1 and taking.Bare.count == 1
        (entry,) = ascend_overlay.ledger().of("one")
        followers = [text for text in entry.copies if "took its default" in text]
        assert sorted(followers) == [f"pkg.taking.Taking.{name} (took its default)" for name in ("asked", "count")]
    assert before.differences() == []


LEDGER = {
    "a dataclass": (
        "Plain.count",
        {"default": 5},
        "dataclass field",
        ["declaring.lib.Overriding declares count itself"],
        [f"declaring.lib.{name}.count (inherited)" for name in ("Bare", "Derived", "Unannotated")],
    ),
    "a new field": (
        "Plain.site",
        NEW,
        "dataclass field",
        [],
        [f"declaring.lib.{name}.site (inherited)" for name in ("Bare", "Derived", "Overriding", "Unannotated")],
    ),
    "a derived class": ("Derived.more", {"default": 5}, "dataclass field", [], []),
    "a model": (
        "Model.count",
        {"default": 5},
        "pydantic model field",
        ["declaring.more.Own declares count itself"],
        ["declaring.lib.ModelDerived.count (inherited)"],
    ),
    "a pydantic dataclass": (
        "Compiled.count",
        {"default": 5},
        "pydantic dataclass field",
        [],
        ["declaring.lib.CompiledDerived.count (inherited)"],
    ),
    "a named tuple": ("Pair.second", {"default": 5}, "named tuple field", [], []),
    "a key": ("Keys.count", {"annotation": str}, "TypedDict field", [], []),
}


@pytest.mark.parametrize(("target", "said", "seam", "notes", "copies"), LEDGER.values(), ids=LEDGER)
def test_the_ledger_tells_all_that_follows(
    site: Any, lib: Any, declare: Any, target: str, said: Any, seam: str, notes: list[str], copies: list[str]
) -> None:
    site.write({"declaring/more.py": "from declaring.lib import Model\nclass Own(Model):\n    count: int = 7\n"})
    more: Any = importlib.import_module("declaring.more")
    overlay = declare(target, **said)
    with ascend_overlay.enabled(only=[overlay.name]):
        (entry,) = ascend_overlay.ledger().of(overlay.name)
        assert more.Own().count == 7
    rebuilt = [note for note in entry.notes if "rebuilt" in note]
    assert (entry.state, entry.seam) == ("applied", seam)
    assert [note for note in entry.notes if "rebuilt" not in note] == notes
    assert [text for text in sorted(entry.copies) if "took its default" not in text] == copies
    assert bool(rebuilt) is ("pydantic" in seam) and rebuilt != ["pydantic validators rebuilt: "]


def test_what_took_a_default_and_is_decided_by_another_overlay_keeps_that(lib: Any, offer: Any) -> None:
    taking, stock = Overlay("taking", reason="r"), Overlay("stock", reason="r")
    taking.field("declaring.user:Taking.count", default=9)
    stock.field("declaring.lib:Plain.count", default=5)
    offer(taking, stock, name="plug")
    user: Any = sys.modules["declaring.user"]
    before = World(user)
    ascend_overlay.enable(only=["taking"])
    ascend_overlay.enable(only=["stock"])
    assert (user.Taking().count, lib.Plain().count) == (9, 5)
    (entry,) = ascend_overlay.ledger().of("stock")
    assert "declaring.user.Taking.count is decided by overlay 'taking' (plugin 'plug')" in entry.notes
    assert not any("took its default" in text for text in entry.copies)
    ascend_overlay.disable()
    assert before.differences() == []


ROOM = [
    ("Plain.__site", "'__site' is not the name of one"),
    ("Slotted.site", "Slotted has __slots__, and its objects have no place for another field"),
    ("Plain.unannotated", r"Plain.unannotated exists already \(1\) and is not a field; use overlay.attribute"),
    ("Plain.LIMIT", r"Plain.LIMIT exists already \(9\) and is not a field; use overlay.attribute"),
    ("Bare.site", "Bare is derived from a dataclass without being one; name the class that declares 'site'"),
]


@pytest.mark.parametrize(("target", "why"), ROOM)
def test_where_there_is_no_room_for_a_field(lib: Any, target: str, why: str) -> None:
    before, slots = World(lib), Slots()
    with pytest.raises(TargetError, match=why):
        applied(slots, lib, Field(target=f"declaring.lib:{target}", **NEW))
    assert before.differences() == []


def test_a_factory_is_asked_for_each_object_and_may_be_no_name(lib: Any, declare: Any) -> None:
    with ascend_overlay.enabled(only=[declare("Plain.site", annotation=list, default_factory=list).name]):
        assert lib.Plain().site == [] and lib.Plain().site is not lib.Plain().site
    with pytest.raises(TargetError, match=r"the default of declaring.lib:Plain.parts is a function, .* got 5 \(int\)"):
        declare("Plain.parts", default_factory=5)
    with pytest.raises(TargetError, match=r"the default_factory of declaring\.lib:Plain.parts is 9, which cannot"):
        limit = declare("Plain.parts", default_factory=ref("declaring.lib:Plain.LIMIT"))
        ascend_overlay.enable(only=[limit.name], propagate=False)


def test_effect_tells_when_somebody_else_has_set_the_field(lib: Any) -> None:
    patch = Field(target="declaring.lib:Plain.count", default=5)
    done = applied(Slots(), lib, patch)
    assert patch.effect(done) is None
    ours = lib.Plain.__dataclass_fields__
    lib.Plain.__dataclass_fields__ = {**ours, "count": dataclasses.field(default=9)}
    assert "no longer the field" in str(patch.effect(done))
    lib.Plain.__dataclass_fields__ = ours
    done.revert()


KEYS: dict[str, tuple[str, dict[str, Any], Callable[[Any], Any]]] = {
    "a default": ("Pair.second", {"default": 5}, lambda lib: lib.Pair._field_defaults.update(second=9)),
    "a type": ("Keys.count", {"annotation": str}, lambda lib: lib.Keys.__annotations__.update(count=bytes)),
    "a new key": ("Keys.site", {"annotation": str}, lambda lib: lib.Keys.__annotations__.pop("site")),
}


@pytest.mark.parametrize(("target", "options", "spoil"), KEYS.values(), ids=KEYS)
def test_effect_tells_when_somebody_else_has_set_the_key(lib: Any, target: str, options: Any, spoil: Any) -> None:
    patch = Field(target=f"declaring.lib:{target}", **options)
    done = applied(Slots(), lib, patch)
    assert patch.effect(done) is None
    spoil(lib)
    assert patch.effect(done) == f"declaring.lib:{target} is no longer the field that the overlay made"
    done.revert()


def test_what_is_written_for_a_class_is_written_once(lib: Any) -> None:
    done = applied(Slots(), lib, Field(target="declaring.lib:Plain.count", default=5))
    one, other = fields.methods_of(lib.Plain), fields.methods_of(lib.Plain)
    assert one.keys() == other.keys() >= {"__init__", "__repr__", "__eq__"}
    assert all(one[name] is other[name] for name in one) and lib.Plain.__init__ is one["__init__"]
    done.revert()


def applied(slots: Slots, lib: Any, patch: Any) -> Applied:
    """Apply a patch without an engine."""
    result = Applied(slots)
    patch.apply(lib, patch.load(), Context(slots, 0, "a test", {}), result)
    return result
