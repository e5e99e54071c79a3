"""What a class declares: of which kind it is, what its fields are, and what of it Python or a library wrote."""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
import typing_extensions
from pydantic.dataclasses import dataclass as compiled

from ascend_overlay.errors import TargetError
from ascend_overlay.places import declared
from ascend_overlay.places.target import MISSING, Place


@dataclasses.dataclass(order=True, unsafe_hash=True)
class Plain:
    count: int = 1
    LIMIT: ClassVar[int] = 2

    def method(self) -> None: ...


class Bare(Plain): ...


@dataclasses.dataclass(frozen=True)
class Frozen:
    count: int = 1


@compiled
class Compiled:
    count: int = 1


class OfCompiled(Compiled): ...


class Model(pydantic.BaseModel):
    count: int = 1


class Struct(msgspec.Struct):
    count: int = 1

    def __post_init__(self) -> None: ...


class OfStruct(Struct): ...


class Pair(NamedTuple):
    first: int
    second: int = 2


class Keys(TypedDict):
    count: int


class OtherKeys(typing_extensions.TypedDict):
    count: int


class Rows(tuple[int, ...]): ...


class Defaults:
    _field_defaults: ClassVar[dict[str, int]] = {}
    __required_keys__ = ()


class Number(enum.IntEnum):
    ONE = 1


class Nothing: ...


NONE = (Rows, Defaults, Number, Nothing, int, tuple, type)
INSTANCES = (Plain(), Compiled(), Model(), Struct(), Pair(1), 1, None)
# what is asked -> the classes of which it is so
KINDS: dict[Callable[[Any], bool], set[type]] = {
    declared.is_struct: {Struct, OfStruct},
    declared.is_model: {Model},
    declared.is_named_tuple: {Pair},
    declared.is_typed_dict: {Keys, OtherKeys},  # type: ignore[arg-type]
    dataclasses.is_dataclass: {Plain, Bare, Compiled, OfCompiled},  # type: ignore[dict-item]
}
CLASSES = (Plain, Bare, Compiled, OfCompiled, Model, Struct, OfStruct, Pair, Keys, OtherKeys)


@pytest.mark.parametrize("asked", KINDS, ids=lambda asked: asked.__name__)
def test_kinds(asked: Callable[[Any], bool]) -> None:
    assert {cls for cls in (*CLASSES, *NONE) if asked(cls)} == KINDS[asked]
    if asked is not dataclasses.is_dataclass:
        assert not any(map(asked, INSTANCES))


def test_without_msgspec_nothing_is_a_struct(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "msgspec")
    assert not declared.is_struct(Struct) and not declared.is_struct(Plain)


FIELDS: dict[type, tuple[str, list[str]]] = {
    Plain: ("dataclass", ["count"]),
    Bare: ("dataclass", ["count"]),
    Compiled: ("pydantic dataclass", ["count"]),
    OfCompiled: ("dataclass", ["count"]),
    Model: ("pydantic model", ["count"]),
    Struct: ("msgspec.Struct", ["count"]),
    OfStruct: ("msgspec.Struct", ["count"]),
    Pair: ("named tuple", ["first", "second"]),
    Keys: ("TypedDict", ["count"]),  # type: ignore[dict-item]
    OtherKeys: ("TypedDict", ["count"]),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("cls", FIELDS, ids=lambda cls: cls.__name__)
def test_fields(cls: type) -> None:
    kind, names = FIELDS[cls]
    assert declared.kind_of(cls) == kind
    assert list(declared.fields_of(cls) or ()) == names


@pytest.mark.parametrize("cls", NONE, ids=lambda cls: cls.__name__)
def test_a_class_without_fields(cls: type) -> None:
    assert declared.fields_of(cls) is None


def test_a_variable_of_the_class_is_no_field() -> None:
    fields = vars(Plain)["__dataclass_fields__"]
    assert [name for name in fields if declared.is_class_variable(fields[name])] == ["LIMIT"]
    assert not declared.is_class_variable(object())


def around(function: Any) -> Any:
    @functools.wraps(function)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return outer


class Own(Plain):
    def __init__(self) -> None: ...


@dataclasses.dataclass
class OwnRepr:
    count: int = 1

    def __repr__(self) -> str:
        return "own"


@dataclasses.dataclass
class Wrapped:
    count: int = 1


Wrapped.__init__ = around(around(Wrapped.__init__))  # type: ignore[method-assign]
# class, name -> @dataclass wrote it, and nobody has put a wrapper around it
WRITTEN: list[tuple[Any, str, bool, bool]] = [
    *((Plain, name, True, True) for name in ("__init__", "__repr__", "__eq__", "__hash__", "__lt__", "__ge__")),
    (Frozen, "__init__", True, True),
    (Frozen, "__setattr__", False, False),
    (Plain, "method", False, False),
    (Plain, "count", False, False),
    (Plain, "__module__", False, False),
    (Bare, "__init__", False, False),
    (Own, "__init__", False, False),
    (OwnRepr, "__repr__", False, False),
    (OwnRepr, "__init__", True, True),
    (Wrapped, "__init__", True, False),
    (Wrapped, "__repr__", True, True),
    (Struct, "__post_init__", False, False),
]


@pytest.mark.parametrize(("cls", "name", "written", "bare"), WRITTEN)
def test_what_dataclass_wrote(cls: Any, name: str, written: bool, bare: bool) -> None:
    assert declared.is_generated(cls, name, vars(cls).get(name)) is written
    assert declared.is_bare(cls, name) is bare


def test_what_is_no_class_has_nothing_written() -> None:
    assert not declared.is_generated(Plain(), "__init__", Plain.__init__)
    assert not declared.is_generated(Bare, "__init__", Plain.__init__)
    assert not declared.is_generated(Plain, "__init__", 1)


def test_literals() -> None:
    assert declared.is_literal(Literal["a"])
    assert not any(map(declared.is_literal, ["a", int, Literal["a"] | None, Literal, None]))


def place(owner: Any, name: str, raw: Any = None, own: bool = True) -> Place:
    return Place(owner, name, raw, own, False)


# what msgspec does with a member of a Struct -> the words in which it is refused; None: it is not
MSGSPEC: list[tuple[Place, bool, str | None]] = [
    (place(Struct, "__post_init__", Struct.__post_init__), True, None),
    (place(OfStruct, "__post_init__", Struct.__post_init__, False), True, "captured it when the class"),
    (place(Struct, "__post_init__", around), True, None),
    (place(Struct, "__post_init__", functools.partial(print)), True, "captured it when the class"),
    (place(Struct, "__init__", Struct.__init__), False, "builds its objects in C"),
    (place(Struct, "__new__", Struct.__new__), False, "builds its objects in C"),
    (place(Struct, "method", print), False, None),
    (place(Plain, "__init__", Plain.__init__), False, None),
    (place(Plain, "__post_init__", None), False, None),
    (place(Struct(), "__init__", None), False, None),
]


@pytest.mark.parametrize(("where", "captured", "words"), MSGSPEC)
def test_what_msgspec_calls(where: Place, captured: bool, words: str | None) -> None:
    assert declared.is_captured(where) is captured
    if words is None:
        declared.refuse_uncalled("lib:Struct.member", where)
        return
    with pytest.raises(TargetError) as raised:
        declared.refuse_uncalled("lib:Struct.member", where)
    assert f"the target lib:Struct.member belongs to a msgspec.Struct: msgspec {words}" in str(raised.value)
    assert "overlay.subclass('lib:Struct', ...)" in str(raised.value)


def member(x: Any = None) -> Any: ...


OTHER_MEMBER = "Add a member of another name with overlay.member('lib:C.NEW', value)."
NO_MEMBER = "would be an attribute of an enumeration, not a member; add a member with overlay.member('lib:C.x', 3)."
CHANGE = "whose constructor does not read the attribute; change its default with overlay.field('lib:C.x', default=3)."
DECLARE = "that its constructor does not know; declare a field with overlay.field('lib:C.x', default=3)."
COMPILED = "are compiled into the class and cannot be changed."
# owner, name, value, adding -> how the sentence that refuses it goes on; None: it is not refused
ATTRIBUTES: list[tuple[Any, str, Any, bool, str | None]] = [
    (Plain, "count", 3, False, f"is a field of a dataclass, {CHANGE}"),
    (Plain, "count", 3, True, f"is a field of a dataclass, {CHANGE}"),
    (Compiled, "count", 3, False, f"is a field of a pydantic dataclass, {CHANGE}"),
    (Model, "count", 3, False, f"is a field of a pydantic model, {CHANGE}"),
    (Pair, "second", 3, False, f"is a field of a named tuple, {CHANGE}"),
    (Keys, "count", 3, False, f"is a field of a TypedDict, {CHANGE}"),
    (Struct, "count", 3, False, COMPILED),
    (Struct, "new", 3, True, COMPILED),
    (Struct, "new", 3, False, None),
    (Struct, "new", member, True, None),
    (Plain, "new", 3, True, f"would be an attribute of a dataclass {DECLARE}"),
    (Plain, "new", 3, False, None),
    (Plain, "new", MISSING, True, "would be an attribute of a dataclass that"),
    (Plain, "new", member, True, None),
    (Plain, "new", property(member), True, None),
    (Plain, "_new", 3, True, None),
    (Plain, "NEW", 3, True, None),
    (Plain, "NEW", MISSING, True, None),
    (Plain, "LIMIT", 3, False, None),
    (Plain, "method", member, False, None),
    (Plain(), "count", 3, False, None),
    (Nothing, "new", 3, True, None),
    (Number, "ONE", 3, False, OTHER_MEMBER),
    (Number, "ONE", 3, True, OTHER_MEMBER),
    (Number, "new", 3, True, NO_MEMBER),
    (Number, "new", 3, False, None),
    (Number, "_new", 3, True, None),
    (Number, "new", member, True, None),
    (Number, "new", property(member), True, None),
    (Nothing(), "Size", 3, False, None),
]


@pytest.mark.parametrize(("owner", "name", "value", "adding", "words"), ATTRIBUTES)
def test_attributes_that_nobody_reads(owner: Any, name: str, value: Any, adding: bool, words: str | None) -> None:
    where = place(owner, name, getattr(owner, name, MISSING))
    if words is None:
        declared.refuse("lib:C.x", where, value, adding=adding)
        return
    with pytest.raises(TargetError) as raised:
        declared.refuse("lib:C.x", where, value, adding=adding)
    assert str(raised.value).startswith("the target lib:C.x ") and words in str(raised.value)


@pytest.mark.parametrize("owner", [typing, Plain], ids=["of a module", "of a class"])
def test_a_literal_is_refused_whoever_has_it(owner: Any) -> None:
    with pytest.raises(TargetError, match=r"is a Literal.*overlay\.entry\('lib:Size', value\)"):
        declared.refuse("lib:Size", place(owner, "Size", Literal["a"]), 3)
