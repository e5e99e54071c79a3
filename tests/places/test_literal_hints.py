"""Type hints and what they are made of: exchanged parts, Literals that grow and shrink."""

from __future__ import annotations

import importlib
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest

from ascend_overlay.places import hints, literals


class Old: ...


class New: ...


class Other: ...


T = TypeVar("T")


class Box(Generic[T]): ...


def of(cls: Any) -> dict[str, Any]:
    """Return hints of every kind that mention a class."""
    return {
        "itself": cls,
        "a list": list[cls],
        "typing's list": typing.List[cls],  # noqa: UP006
        "a dict": dict[str, cls],
        "a tuple": tuple[cls, ...],
        "a union": typing.Union[cls, None],  # noqa: UP007
        "a union by |": cls | None,
        "a union of more": int | list[cls] | str,
        "annotated": Annotated[cls, "a note", 3],
        "inside of annotated": Annotated[list[cls], "a note"],
        "of a generic class": Box[cls],
        "a class": type[cls],
        "inside": dict[str, list[tuple[int, typing.Optional[cls]]]],  # noqa: UP045
    }


def to_new(part: Any) -> Any:
    return New if part is Old else part


@pytest.mark.parametrize("case", of(Old))
def test_exchanged(case: str) -> None:
    before, after, other = of(Old)[case], of(New)[case], of(Other)[case]
    found = hints.exchanged(before, to_new)
    assert found == after != before and hints.exchanged(found, to_new) is found
    unions = (typing.Union, types.UnionType)
    assert typing.get_origin(found) is typing.get_origin(after) or {typing.get_origin(found)} <= {*unions}
    assert hints.exchanged(other, to_new) is other
    assert any(part is Old for part in hints.parts(before)) and not any(part is Old for part in hints.parts(other))
    assert next(hints.parts(before)) is before


def test_the_outer_part_is_asked_first() -> None:
    asked: list[Any] = []

    def ask(part: Any) -> Any:
        asked.append(part)
        return part

    assert hints.exchanged(dict[str, list[int]], ask) == dict[str, list[int]]
    assert asked == [dict[str, list[int]], str, list[int], int]


Size = Literal["a test of hints", "another"]


def test_a_literal_grows_and_shrinks() -> None:
    one = literals.extended(Size, "one")
    assert typing.get_args(one) == (*typing.get_args(Size), "one")
    assert literals.extended(Size, "one") is one
    two = literals.extended(one, "two")
    assert typing.get_args(two) == (*typing.get_args(Size), "one", "two")
    assert literals.root(two) is literals.root(one) is literals.root(Size) is Size
    assert literals.reduced(two, "two") is one and literals.reduced(one, "one") is Size
    assert typing.get_args(literals.reduced(two, "one")) == (*typing.get_args(Size), "two")
    assert literals.reduced(Size, "one") is Size


def test_what_is_equal_and_of_another_type_is_another_value() -> None:
    true, one = literals.extended(Size, True), literals.extended(Size, 1)
    assert typing.get_args(true)[-1] is True and typing.get_args(one)[-1] is not True
    assert literals.extended(Size, True) is true and literals.extended(Size, 1) is one
    both = literals.extended(true, 1)
    assert [type(value) for value in typing.get_args(literals.reduced(both, True))[-1:]] == [int]
    assert [type(value) for value in typing.get_args(literals.reduced(both, 1))[-1:]] == [bool]


def test_substituted() -> None:
    grown = literals.extended(Size, "x")
    change: Callable[[Any], Any] = lambda part: literals.extended(part, "y")  # noqa: E731
    assert literals.substituted(list[Size], Size, change) == list[literals.extended(Size, "y")]
    assert literals.substituted(dict[str, grown], Size, change) == dict[str, literals.extended(grown, "y")]  # type: ignore[valid-type]
    unrelated = list[Literal["a literal of another root"]]
    assert literals.substituted(unrelated, Size, change) is unrelated and literals.substituted(int, int, change) is int


LIB = """
    import dataclasses
    from typing import Literal, Optional
    import pydantic
    from literal_elsewhere import Elsewhere
    Alias = Literal["x", "y", 1]
    Copy = Alias
    More = Literal["x", "y", 1, "z"]
    Fewer = Literal["x", "y"]
    Like = Literal["x", "y", True, "z"]
    Unlike = Literal["p", "q", "r", "s"]
    number = 1
    @dataclasses.dataclass
    class Plain:
        first: Optional[Alias] = None
        second: int = 1
    @dataclasses.dataclass
    class Derived(Plain):
        third: Alias = "x"
    class Bare(Plain): ...
    class Model(pydantic.BaseModel):
        fourth: list[Alias] = []
    class OfModel(Model): ...
    class Nothing:
        fifth: Alias
"""
USER = "from literal_lib.lib import Alias as Renamed, Plain\nimport dataclasses\n"
BLIND = (
    "import dataclasses\nfrom literal_lib import lib\n@dataclasses.dataclass\nclass Blind:\n    x: lib.Alias = 'x'\n"
)


@pytest.fixture
def lib(site: Any) -> Any:
    files = {"literal_lib/lib.py": LIB, "literal_lib/user.py": USER, "literal_lib/blind.py": BLIND}
    site.write({**files, "literal_elsewhere.py": "class Elsewhere: ...\n", "literal_library.py": USER})
    for name in ("literal_lib.user", "literal_lib.blind", "literal_library"):
        importlib.import_module(name)
    sys.modules["literal_lib.none"] = None  # type: ignore[assignment]
    yield sys.modules["literal_lib.lib"]
    for name in [name for name in sys.modules if name.startswith("literal_")]:
        del sys.modules[name]


def test_who_knows_a_literal(lib: Any) -> None:
    names = {(module.__name__, name) for module, name in literals.names_of(lib.Alias, "literal_lib")}
    assert names == {("literal_lib.lib", "Alias"), ("literal_lib.lib", "Copy"), ("literal_lib.user", "Renamed")}
    assert literals.names_of(lib.Alias, "literal_elsewhere") == []
    assert literals.made_of(lib.Alias, "literal_lib") == ["literal_lib.lib.More"]
    assert literals.made_of(lib.Unlike, "literal_lib") == []


def test_whose_fields_mention_a_literal(lib: Any) -> None:
    found = list(literals.declaring(lib.Alias, "literal_lib"))
    assert {(cls.__name__, name) for cls, name, _ in found} == {
        ("Plain", "first"),
        ("Derived", "third"),
        ("Model", "fourth"),
    }
    assert all(any(part is lib.Alias for part in hints.parts(annotation)) for _, _, annotation in found)
    order = [cls for cls, _, _ in found]
    assert order.index(lib.Plain) < order.index(lib.Derived)
    assert literals.field_of(lib.Derived, "third").type is lib.Alias
    assert literals.field_of(lib.Model, "fourth").annotation == list[lib.Alias]
    assert list(literals.declaring(lib.Unlike, "literal_lib")) == []
