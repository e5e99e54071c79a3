"""Members of enumerations: of every kind of them, found by name and by value, and gone without a trace."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable
from typing import Any

import pytest

from ascend_overlay.errors import TargetError
from ascend_overlay.places import enumerations


def classes() -> dict[str, Any]:
    """Return enumerations of every kind, each a new class."""

    class Plain(enum.Enum):
        ONE = 1
        OTHER_NAME_OF_ONE = 1  # noqa: PIE796  (that is what it is for)

    class Number(enum.IntEnum):
        ONE = 1

    class Word(str, enum.Enum):
        YES = "yes"

    class Corner(tuple[int, int], enum.Enum):
        FIRST = (0, 0)

    class Colour(enum.Flag):
        RED = 1
        GREEN = 2
        YELLOW = 3

    class Mode(enum.IntFlag):
        READ = 1

    class Planet(enum.Enum):
        EARTH = (3, 5)

        def __init__(self, mass: int, radius: int) -> None:
            self.density = mass * radius

    class Named(enum.Enum):
        FIRST = ("first", 1)

        def __new__(cls, text: str, number: int) -> Any:
            made = object.__new__(cls)
            made._value_ = text
            made.number = number  # type: ignore[attr-defined]
            return made

    class Base(enum.Enum):
        def method(self) -> str:
            return self.name

    class Derived(Base):
        ONE = 1

    found = (Plain, Number, Word, Corner, Colour, Mode, Planet, Named, Base, Derived)
    return {cls.__name__: cls for cls in found}


# the enumeration, what the member is given -> its value
MADE: dict[str, tuple[str, Any, Any]] = {
    "an Enum": ("Plain", 2, 2),
    "an Enum, of a tuple": ("Plain", (1, 2), (1, 2)),
    "an IntEnum": ("Number", 2, 2),
    "a str": ("Word", "no", "no"),
    "a tuple": ("Corner", (1, 2), (1, 2)),
    "a Flag": ("Colour", 4, 4),
    "an IntFlag": ("Mode", 2, 2),
    "with a constructor": ("Planet", (2, 7), (2, 7)),
    "with a __new__": ("Named", ("second", 2), "second"),
    "of a base with methods": ("Derived", 2, 2),
}
MORE: dict[str, Callable[[Any], bool]] = {
    "an IntEnum": lambda member: member + 1 == 3,
    "a str": lambda member: member.upper() == "NO",
    "a tuple": lambda member: member[1] == 2,
    "a Flag": lambda member: member & type(member)(7) is member,
    "an IntFlag": lambda member: member | 1 == 3,
    "with a constructor": lambda member: member.density == 14,
    "with a __new__": lambda member: member.number == 2,
    "of a base with methods": lambda member: member.method() == "NEW",
}


def tables(cls: Any) -> dict[str, Any]:
    """Return what an enumeration keeps, in a form that can be compared."""
    names = ("_flag_mask_", "_singles_mask_", "_all_bits_")
    return {
        "names": list(cls._member_names_),
        "members": dict(cls._member_map_),
        "values": {value: id(found) for value, found in cls._value2member_map_.items()},
        "attributes": set(vars(cls)),
        **{name: vars(cls)[name] for name in names if name in vars(cls)},
    }


@pytest.mark.parametrize("case", MADE)
def test_a_member_comes_and_goes(case: str) -> None:
    name, given, value = MADE[case]
    cls = classes()[name]
    before, stock = tables(cls), list(cls)
    enumerations.refuse("lib:E.NEW", cls, "NEW", given)
    member = enumerations.made(cls, "NEW", given)
    assert tables(cls) == before and not enumerations.in_force(member)
    enumerations.leave(member)
    assert tables(cls) == before, "nothing was entered"
    enumerations.enter(member)
    assert enumerations.in_force(member)
    assert cls.NEW is cls["NEW"] is cls(value) is member and list(cls) == [*stock, member]
    assert (member.name, member.value, type(member)) == ("NEW", value, cls)
    assert member.__objclass__ is cls and member._sort_order_ == len(before["members"])
    assert MORE.get(case, lambda member: True)(member)
    enumerations.leave(member)
    assert tables(cls) == before and not enumerations.in_force(member)
    enumerations.leave(member)
    assert tables(cls) == before


LOST: dict[str, Callable[[Any], Any]] = {
    "the name": lambda cls: cls._member_map_.pop("NEW"),
    "the value": lambda cls: cls._value2member_map_.pop(4),
    "the attribute": lambda cls: type.__delattr__(cls, "NEW"),
    "its place in the order": lambda cls: cls._member_names_.remove("NEW"),
}


@pytest.mark.parametrize("lost", LOST)
def test_what_somebody_took_out_already(lost: str) -> None:
    cls = classes()["Colour"]
    before, member = tables(cls), enumerations.made(cls, "NEW", 4)
    enumerations.enter(member)
    LOST[lost](cls)
    assert enumerations.in_force(member) == (lost in ("the attribute", "its place in the order"))
    enumerations.leave(member)
    assert tables(cls) == before


@pytest.mark.parametrize("there", ["by name", "by value"])
def test_what_somebody_put_in_its_place_stays(there: str) -> None:
    cls = classes()["Plain"]
    member, other = enumerations.made(cls, "NEW", 4), enumerations.made(cls, "NEW", 5)
    enumerations.enter(member)
    (cls._member_map_ if there == "by name" else cls._value2member_map_)["NEW" if there == "by name" else 4] = other
    assert not enumerations.in_force(member)
    enumerations.leave(member)
    assert (cls._member_map_.get("NEW") is other, cls._value2member_map_.get(4) is other) == (
        there == "by name",
        there == "by value",
    )


@pytest.mark.parametrize("name", ["Colour", "Mode"])
def test_combinations_of_flags_go_with_the_flag(name: str) -> None:
    cls = classes()[name]
    first = next(iter(cls))
    kept = first | cls(2) if name == "Colour" else first
    inverted = ~first
    member = enumerations.made(cls, "NEW", 4)
    enumerations.enter(member)
    assert member in ~first and (first | member) in list(cls._value2member_map_.values())
    assert ~(first | member) is not member and member not in ~member
    enumerations.leave(member)
    assert ~first is inverted
    assert not any(found._value_ & 4 for found in cls._value2member_map_.values()) and kept is cls(kept.value)
    if name == "Colour":
        # An IntFlag keeps bits that it has no name for.
        assert inverted is cls.GREEN
        with pytest.raises(ValueError, match="Colour"):
            cls(5)


MEMBER_OF: list[tuple[str, str, Any, str]] = [
    ("Plain", "_new", 2, "the target lib:E.X cannot be a member: '_new' is not the name of one."),
    ("Plain", "mro", 2, "the target lib:E.X cannot be a member: 'mro' is not the name of one."),
    ("Plain", "ONE", 2, "the target lib:E.X exists already, with the value 1; it is captured in tables, pickles and"),
    ("Plain", "OTHER_NAME_OF_ONE", 2, "the target lib:E.X exists already, with the value 1;"),
    ("Derived", "method", 2, "the target lib:E.X exists already, as an attribute that is no member; choose another"),
    ("Number", "real", 2, "the target lib:E.X exists already, as an attribute that is no member;"),
    ("Base", "NEW", 2, "the target lib:E.X cannot be a member: classes.<locals>.Base has none, it is a base class."),
    ("Plain", "NEW", 1, "would be another name of classes.<locals>.Plain.ONE, which has the value 1; choose another"),
    ("Colour", "NEW", 2, "would be another name of classes.<locals>.Colour.GREEN, which has the value 2;"),
    ("Colour", "NEW", 0, "is in a Flag: its value must be one bit (1, 2, 4, ...), not 0."),
    ("Colour", "NEW", -4, "is in a Flag: its value must be one bit (1, 2, 4, ...), not -4."),
    ("Colour", "NEW", 6, "is in a Flag: its value must be one bit (1, 2, 4, ...), not 6."),
    ("Colour", "NEW", "4", "is in a Flag: its value must be one bit (1, 2, 4, ...), not '4'."),
    ("Plain", "NEW", [], "the value [] of lib:E.X cannot be hashed, so Enum(value) would not find it."),
]


@pytest.mark.parametrize(("of", "name", "value", "words"), MEMBER_OF)
def test_what_cannot_be_a_member(of: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(TargetError) as raised:
        enumerations.refuse("lib:E.X", classes()[of], name, value)
    assert words in str(raised.value)


OWNERS: list[tuple[Any, str]] = [
    (types.ModuleType("lib"), "it has no name of one; write 'lib:E.NAME', with the name of the new member."),
    (dict, "dict is not an enumeration; use overlay.add."),
    (5, "5 is not an enumeration; use overlay.add."),
]


@pytest.mark.parametrize(("owner", "words"), OWNERS, ids=["a module", "a class", "an object"])
def test_what_has_no_members(owner: Any, words: str) -> None:
    with pytest.raises(TargetError) as raised:
        enumerations.refuse("lib:E", owner, "NEW", 5)
    assert str(raised.value) == f"the target lib:E cannot be a member: {words}"


def test_equal_values_of_another_type_are_another_member() -> None:
    enumerations.refuse("lib:E.X", classes()["Plain"], "NEW", 1.0)
    enumerations.refuse("lib:E.X", classes()["Plain"], "NEW", True)


@pytest.mark.parametrize("bit", [1, 2, 4, 1 << 40])
def test_any_bit_that_is_free_is_one_of_a_flag(bit: int) -> None:
    class Free(enum.Flag):
        OTHER = 8

    enumerations.refuse("lib:E.X", Free, "NEW", bit)


def test_what_the_enumeration_itself_refuses() -> None:
    with pytest.raises(TargetError, match=r"Planet makes no member NEW of 5: TypeError: .*radius"):
        enumerations.made(classes()["Planet"], "NEW", 5)


def test_hashes() -> None:
    assert enumerations.hash_of("a") == hash("a") and enumerations.hash_of([]) is None
