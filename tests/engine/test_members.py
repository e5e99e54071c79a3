"""An enumeration gets one more member: by name, by value, in pickles, in compiled decoders and validators."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import pytest
from declared_members import LIB, World

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError
from ascend_overlay.patches import Applied, Context
from ascend_overlay.patches.members import Member
from ascend_overlay.places.slots import Slots


@pytest.fixture
def lib(site: Any) -> ModuleType:
    """A module with one class of each kind."""
    site.write({"declaring/lib.py": LIB})
    return importlib.import_module("declaring.lib")


@pytest.fixture
def declare(offer: Callable[..., Any]) -> Callable[..., Overlay]:
    """Declare an overlay with one member."""

    def make(target: str, value: Any) -> Overlay:
        overlay = Overlay("one_more", reason="r")
        overlay.member(f"declaring.lib:{target}", value)
        offer(overlay)
        return overlay

    return make


MEMBERS = {"IntEnum": ("Number", 3), "Flag": ("Colour", 4), "str, Enum": ("Word", "no"), "Enum": ("Anything", (1, 2))}


@pytest.mark.parametrize(("name", "value"), MEMBERS.values(), ids=MEMBERS)
def test_a_new_member(lib: Any, declare: Any, name: str, value: Any) -> None:
    before, cls = World(lib), getattr(lib, name)
    stock = list(cls)
    with ascend_overlay.enabled(only=[declare(f"{name}.NEW", value).name]):
        new = cls.NEW
        assert type(new) is cls
        assert (new.name, new.value) == ("NEW", value)
        assert cls["NEW"] is cls(value) is cls.__members__["NEW"] is new
        assert list(cls) == [*stock, new]
        assert (len(cls), new in cls) == (len(stock) + 1, True)
        assert pickle.loads(pickle.dumps(new)) is new
        assert {new: "found"}[cls(value)] == "found"
        assert repr(new).startswith(f"<{name}.NEW")
    assert list(cls) == stock
    assert not hasattr(cls, "NEW")
    with pytest.raises(ValueError, match="valid"):
        cls(value)
    assert before.differences() == []


def test_flags_combine_and_invert(lib: Any, declare: Any) -> None:
    colour = lib.Colour
    assert ~colour.RED is colour.GREEN
    assert colour.RED | colour.GREEN  # Python keeps it
    before = World(lib)
    with ascend_overlay.enabled(only=[declare("Colour.BLUE", 4).name]):
        assert colour.BLUE in ~colour.RED
        assert colour(7) == colour.RED | colour.GREEN | colour.BLUE
    assert ~colour.RED is colour.GREEN
    with pytest.raises(ValueError, match="Colour"):
        colour(5)
    assert before.differences() == []


def test_missing_is_asked_as_before(lib: Any, declare: Any) -> None:
    with ascend_overlay.enabled(only=[declare("Anything.NUMBER", 5).name]):
        assert lib.Anything("words") is lib.Anything.TEXT
        with pytest.raises(ValueError, match="nonsense"):
            lib.Anything("nonsense")


@pytest.mark.parametrize("made_before", [True, False])
def test_compiled_decoders_know_it(lib: Any, declare: Any, made_before: bool) -> None:
    three = msgspec.json.encode([3])
    decoder = msgspec.json.Decoder(list[lib.Number])
    if made_before:
        assert decoder.decode(b"[1]") == [lib.Number.ONE]
    with ascend_overlay.enabled(only=[declare("Number.THREE", 3).name]):
        decoder = decoder if made_before else msgspec.json.Decoder(list[lib.Number])
        assert decoder.decode(three)[0] is lib.Number.THREE
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.Decoder(list[lib.Number]).decode(three)


def test_compiled_validators_know_it(lib: Any, declare: Any) -> None:
    before = World(lib)
    with ascend_overlay.enabled(only=[declare("Number.THREE", 3).name]):
        assert lib.Holder(number=3).number is lib.Number.THREE
        assert lib.Holder.model_json_schema()["$defs"]["Number"]["enum"] == [1, 2, 3]
    with pytest.raises(ValueError, match="number"):
        lib.Holder(number=3)
    assert before.differences() == []


@pytest.mark.parametrize("left", [0, 1])
def test_two_overlays_leave_in_any_order(lib: Any, left: int) -> None:
    before, slots = World(lib), Slots()
    done = [applied(slots, lib, f"Number.{name}", value) for name, value in (("THREE", 3), ("FOUR", 4))]
    done[left].revert()
    assert [number.name for number in lib.Number] == ["ONE", "TWO", ("FOUR", "THREE")[left]]
    done[1 - left].revert()
    assert before.differences() == []


REFUSED = {
    "there already": ("Number.ONE", 5, "exists already, with the value 1"),
    "a value of another": ("Number.NEW", 2, "another name of Number.TWO"),
    "a method": ("Number.bit_length", 5, "exists already, as an attribute"),
    "not one bit": ("Colour.NEW", 6, "one bit"),
    "not a number": ("Number.NEW", "many", "makes no member NEW of 'many': ValueError"),
    "no hash": ("Anything.NEW", [], "cannot be hashed"),
    "no enumeration": ("Plain.NEW", 5, "member: Plain is not an enumeration; use overlay.add"),
    "no name of a member": ("Number", 5, "write 'declaring.lib:Number.NAME'"),
    "a private name": ("Number._new", 5, "not the name of one"),
}


@pytest.mark.parametrize(("target", "value", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason(lib: Any, declare: Any, target: str, value: Any, sentence: str) -> None:
    before = World(lib)
    with pytest.raises(TargetError, match=sentence):
        ascend_overlay.enable(only=[declare(target, value).name], propagate=False)
    assert before.differences() == []


def test_effect_tells_when_somebody_else_took_it_out(lib: Any) -> None:
    done = applied(Slots(), lib, "Number.THREE", 3)
    patch = Member(target="declaring.lib:Number.THREE", value=3)
    assert patch.effect(done) is None
    del lib.Number._member_map_["THREE"]
    assert "no longer the member" in str(patch.effect(done))
    done.revert()


def applied(slots: Slots, lib: Any, target: str, value: Any) -> Applied:
    """Apply a patch without an engine."""
    patch, result = Member(target=f"declaring.lib:{target}", value=value), Applied(slots)
    patch.apply(lib, patch.load(), Context(slots, 0, "a test", {}), result)
    return result


@pytest.mark.parametrize("again", [False, True])
def test_a_decoder_that_is_made_meanwhile_leaves_no_table_behind(lib: Any, declare: Any, again: bool) -> None:
    overlay = declare("Word.NO", "no")
    for _ in range(2 if again else 1):
        with ascend_overlay.enabled(only=[overlay.name]):
            assert msgspec.json.Decoder(list[lib.Word]).decode(b'["no"]') == [lib.Word.NO]
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.Decoder(list[lib.Word]).decode(b'["no"]')
    with ascend_overlay.enabled(only=[overlay.name]):
        assert lib.Word("no") is lib.Word.NO
    assert msgspec.json.Decoder(list[lib.Word]).decode(b'["yes"]') == [lib.Word.YES]


def test_what_is_equal_and_of_another_type_is_no_member(lib: Any, declare: Any) -> None:
    with ascend_overlay.enabled(only=[declare("Number.NEW", 3).name]):
        assert lib.Number._missing_(3) is lib.Number.NEW
        assert lib.Number._missing_(3.0) is None and lib.Number._missing_(4) is None
        assert lib.Number(3.0) is lib.Number.NEW  # as Python has it for those that it knows


REBUILT = {"Number.NEW": (3, True), "Word.NEW": ("no", False)}


@pytest.mark.parametrize("target", REBUILT)
def test_the_ledger_names_the_validators_that_were_rebuilt(lib: Any, declare: Any, target: str) -> None:
    value, told = REBUILT[target]
    with ascend_overlay.enabled(only=[declare(target, value).name]):
        (entry,) = ascend_overlay.ledger().of("one_more")
    expected = ["pydantic validators rebuilt: declaring.lib.Holder"] if told else []
    assert (entry.notes, entry.seam, entry.detail) == (expected, "enumeration", f"member = {value!r}")


def test_a_table_that_was_compiled_before_stays(lib: Any, declare: Any) -> None:
    msgspec.json.Decoder(list[lib.Number])
    assert "__msgspec_cache__" in vars(lib.Number)
    with ascend_overlay.enabled(only=[declare("Number.THREE", 3).name]):
        assert "__msgspec_cache__" in vars(lib.Number)
    assert "__msgspec_cache__" in vars(lib.Number)
