"""What @dataclass writes for a class, written again for other fields."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, ClassVar

import pytest
from pydantic.dataclasses import dataclass as compiled

from ascend_overlay.places import generated


@dataclasses.dataclass
class Plain:
    name: str
    count: int = 1
    parts: list[int] = dataclasses.field(default_factory=list)
    LIMIT: ClassVar[int] = 3


@dataclasses.dataclass(frozen=True, order=True)
class Frozen:
    count: int = 1


@dataclasses.dataclass(init=False, repr=False, eq=False)
class Nothing:
    count: int = 1


@dataclasses.dataclass
class Deriving:
    count: dataclasses.InitVar[int] = 1
    seen: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, count: int) -> None:
        self.seen = count + 1


ALL = {"__init__", "__repr__", "__eq__"}
WRITTEN: dict[type, set[str]] = {
    Plain: ALL,
    Frozen: ALL | {"__hash__", "__lt__", "__le__", "__gt__", "__ge__"},
    Nothing: set(),
    Deriving: ALL,
}


@pytest.mark.parametrize("cls", WRITTEN, ids=lambda cls: cls.__name__)
def test_the_same_fields_give_the_same_methods(cls: Any) -> None:
    fields = cls.__dataclass_fields__
    before = {name: (field._field_type, field.type, field.default) for name, field in fields.items()}
    found = generated.methods(cls, fields)
    assert set(found) == WRITTEN[cls]
    for name, method in found.items():
        assert inspect.signature(method) == inspect.signature(vars(cls)[name])
        assert method.__qualname__ == vars(cls)[name].__qualname__ and method.__module__ == cls.__module__
    assert {name: (field._field_type, field.type, field.default) for name, field in fields.items()} == before


def test_other_fields_give_other_methods() -> None:
    more = generated.field(Plain, "site", int, dataclasses.field(default=5, kw_only=True))
    assert (more.name, more.type, more.default, more.kw_only) == ("site", int, 5, True)
    init = generated.methods(Plain, {**vars(Plain)["__dataclass_fields__"], "site": more})["__init__"]
    made = object.__new__(Plain)
    init(made, "n")
    assert vars(made) == {"name": "n", "count": 1, "parts": [], "site": 5}


def test_what_runs_after_the_constructor_runs() -> None:
    made = object.__new__(Deriving)
    generated.methods(Deriving, vars(Deriving)["__dataclass_fields__"])["__init__"](made, 4)
    assert made.seen == 5


def test_what_dataclass_refuses() -> None:
    bare = dataclasses.field()
    bare.type = int  # type: ignore[misc, assignment]
    with pytest.raises(TypeError, match="non-default argument 'site' follows default argument"):
        generated.methods(Plain, {**vars(Plain)["__dataclass_fields__"], "site": bare})
    with pytest.raises(ValueError, match="mutable default"):
        generated.field(Plain, "site", list, dataclasses.field(default=[]))


def function(a: int, b: int = 1, c: int = 2, *, d: int = 3, e: int) -> tuple[int, ...]:
    return a, b, c, d, e


# the name -> what the function returns afterwards, called with a=0 and e=9
DEFAULTS = {
    "a": (0, 1, 2, 3, 9),
    "b": (0, 7, 2, 3, 9),
    "c": (0, 1, 7, 3, 9),
    "d": (0, 1, 2, 7, 9),
    "e": (0, 1, 2, 3, 9),
    "f": (0, 1, 2, 3, 9),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_another_default(name: str) -> None:
    defaults, keywords = function.__defaults__, function.__kwdefaults__
    try:
        generated.set_default(function, name, 7)
        assert function(0, e=9) == DEFAULTS[name]
    finally:
        function.__defaults__, function.__kwdefaults__ = defaults, keywords


def test_a_function_without_defaults_has_none_to_change() -> None:
    def bare(a: int) -> int:
        return a

    generated.set_default(bare, "a", 7)
    assert bare.__defaults__ in (None, ()) and bare(1) == 1


def test_a_family_has_its_bases_first() -> None:
    class A: ...

    class B(A): ...

    class C(A): ...

    class D(B, C): ...

    found = generated.derived(A)
    assert found[0] is A and found[-1] is D and set(found) == {A, B, C, D} and len(found) == 4
    assert generated.derived(D) == [D]


def test_classes_that_are_completed_are_told_until_nobody_asks() -> None:
    seen: dict[str, list[type]] = {"one": [], "two": []}
    one, two = seen["one"].append, seen["two"].append
    stock = dataclasses._process_class  # type: ignore[attr-defined]

    def complete(decorate: Any = dataclasses.dataclass) -> type:
        cls = decorate(type("Made", (), {"__annotations__": {"x": int}}))
        assert isinstance(cls, type)
        return cls

    generated.unwatch(one)
    for callback in (one, two):
        generated.watch(callback)
    first = complete()
    assert seen == {"one": [first], "two": [first]}
    complete(compiled)
    assert seen == {"one": [first], "two": [first]}, "pydantic goes on to compile it"
    generated.unwatch(one)
    assert dataclasses._process_class is not stock  # type: ignore[attr-defined]
    second = complete()
    assert seen == {"one": [first], "two": [first, second]}
    generated.unwatch(two)
    generated.unwatch(two)
    assert dataclasses._process_class is stock  # type: ignore[attr-defined]
    complete()
    assert len(seen["two"]) == 2


def test_somebody_elses_change_of_dataclasses_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = dataclasses._process_class  # type: ignore[attr-defined]
    callback = [].append
    generated.watch(callback)
    ours = dataclasses._process_class  # type: ignore[attr-defined]

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    with monkeypatch.context() as changed:
        changed.setattr(dataclasses, "_process_class", theirs)
        generated.unwatch(callback)
        assert dataclasses._process_class is theirs  # type: ignore[attr-defined]
        assert dataclasses.is_dataclass(dataclasses.dataclass(type("Made", (), {})))
    generated.watch(callback)
    generated.unwatch(callback)
    assert dataclasses._process_class is stock  # type: ignore[attr-defined]
