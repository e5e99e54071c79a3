"""A Literal gets one more value: its copies, the annotations and validators that have captured it, in any order."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, get_args, get_type_hints

import pytest
from declared_members import LATER, LIB, USER, World

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError
from ascend_overlay.patches import Applied, Context
from ascend_overlay.patches.entries import Entry
from ascend_overlay.places.slots import Slots


@pytest.fixture
def lib(site: Any) -> ModuleType:
    """A module with one class of each kind."""
    site.write({"declaring/lib.py": LIB, "declaring/user.py": USER, "declaring/later.py": LATER})
    importlib.import_module("declaring.user")
    return importlib.import_module("declaring.lib")


@pytest.fixture
def declare(offer: Callable[..., Any]) -> Callable[..., Overlay]:
    """Declare an overlay with one entry."""

    def make(target: str, value: Any) -> Overlay:
        overlay = Overlay("one_more", reason="r")
        overlay.entry(f"declaring.lib:{target}", value)
        offer(overlay)
        return overlay

    return make


LOOKS = {
    "the name": lambda lib: get_args(lib.Size),
    "a copy": lambda lib: get_args(sys.modules["declaring.user"].Size),
    "a copy by another name": lambda lib: get_args(sys.modules["declaring.user"].Measure),
    "an annotation": lambda lib: get_args(get_type_hints(lib.Compiled)["size"]),
    "an annotation inside": lambda lib: get_args(get_args(get_type_hints(lib.Model)["size"])[0]),
    "a pydantic dataclass": lambda lib: (lib.Compiled(size="huge").size,),
    "a derived one": lambda lib: (lib.CompiledDerived(size="huge").size,),
    "an embedding one": lambda lib: (lib.Embedding(inner={"size": "huge"}).inner.size,),
    "a model": lambda lib: (lib.Model(size="huge").size,),
    "a derived model": lambda lib: (lib.ModelDerived(size="huge").size,),
    "an embedding model": lambda lib: (lib.ModelEmbedding(inner={"size": "huge"}).inner.size,),
    "a schema": lambda lib: lib.Model.model_json_schema()["properties"]["size"]["anyOf"][0]["enum"],
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_one_more_value(lib: Any, declare: Any, look: Callable[[Any], Any]) -> None:
    before = World(lib, sys.modules["declaring.user"])
    with ascend_overlay.enabled(only=[declare("Size", "huge").name]):
        assert "huge" in look(lib)
        with pytest.raises(ValueError, match="size"):
            lib.Compiled(size="tiny")
    with pytest.raises(ValueError, match="size"):
        lib.Embedding(inner={"size": "huge"})
    assert before.differences() == []


def test_classes_that_come_later_follow_and_go_back(lib: Any, declare: Any) -> None:
    with ascend_overlay.enabled(only=[declare("Size", "huge").name]):
        later: Any = importlib.import_module("declaring.later")
        assert later.LaterEmbedding(inner={"size": "huge"}, size="huge").size == "huge"
    assert later.Size is lib.Size
    for values in ({"inner": {"size": "huge"}}, {"inner": {}, "size": "huge"}):
        with pytest.raises(ValueError, match="size"):
            later.LaterEmbedding(**values)


@pytest.mark.parametrize("left", [0, 1])
def test_two_overlays_leave_in_any_order(lib: Any, left: int) -> None:
    before, slots = World(lib, sys.modules["declaring.user"]), Slots()
    values = ["huge", "tiny"]
    done = [applied(slots, lib, value) for value in values]
    assert [lib.Compiled(size=value).size for value in values] == values
    done[left].revert()
    assert lib.Compiled(size=values[1 - left]).size == values[1 - left]
    with pytest.raises(ValueError, match="size"):
        lib.Compiled(size=values[left])
    done[1 - left].revert()
    assert before.differences() == []


def test_an_equal_literal_of_another_package_and_name_stays(site: Any, lib: Any, declare: Any) -> None:
    site.write({"elsewhere.py": "from typing import Literal\nOther = Literal['small', 'large']\n"})
    site.write({"elsewhere_too.py": "from declaring.lib import Size\n"})
    elsewhere, copy = importlib.import_module("elsewhere"), importlib.import_module("elsewhere_too")
    assert elsewhere.Other is copy.Size
    with ascend_overlay.enabled(only=[declare("Size", "huge").name]):
        assert get_args(elsewhere.Other) == ("small", "large")
        assert get_args(copy.Size) == ("small", "large", "huge")
    assert copy.Size is elsewhere.Other


REFUSED = {
    "there already": ("Size", "small", "has the value 'small' already"),
    "not a value of a Literal": ("Size", 1.5, "give a str, bytes, int or bool"),
}


@pytest.mark.parametrize(("target", "value", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason(lib: Any, declare: Any, target: str, value: Any, sentence: str) -> None:
    with pytest.raises(TargetError, match=sentence):
        ascend_overlay.enable(only=[declare(target, value).name], propagate=False)


def test_effect_tells_when_somebody_else_has_set_it(lib: Any) -> None:
    done, patch = applied(Slots(), lib, "huge"), Entry(target="declaring.lib:Size", value="huge")
    assert patch.effect(done) is None
    ours, lib.Size = lib.Size, Literal["none"]
    assert "set by somebody else" in str(patch.effect(done))
    lib.Size = ours
    done.revert()


def applied(slots: Slots, lib: Any, value: Any) -> Applied:
    """Apply a patch without an engine."""
    patch, result = Entry(target="declaring.lib:Size", value=value), Applied(slots)
    patch.apply(lib, patch.load(), Context(slots, 0, "a test", {}), result)
    return result


def test_the_ledger_names_what_follows_and_what_was_rebuilt(site: Any, lib: Any, declare: Any, offer: Any) -> None:
    site.write({"plainly/lib.py": "from typing import Literal\nSize = Literal['one']\n"})
    importlib.import_module("plainly.lib")
    other = Overlay("other", reason="r")
    other.entry("plainly.lib:Size", "two")
    offer(other)
    with ascend_overlay.enabled(only=[declare("Size", "huge").name, "other"]):
        (entry,), (plain,) = ascend_overlay.ledger().of("one_more"), ascend_overlay.ledger().of("other")
    annotations = {"declaring.lib.Compiled.size (annotation)", "declaring.lib.Model.size (annotation)"}
    assert {"declaring.user.Size", "declaring.user.Measure"} | annotations <= set(entry.copies)
    (note,) = [note for note in entry.notes if note.startswith("pydantic validators rebuilt: ")]
    assert "declaring.lib.Model" in note
    assert plain.copies == plain.stale == [] and "rebuilt" not in " ".join(plain.notes)


@pytest.mark.parametrize(
    ("value", "there"), [(True, False), (1, True), ("1", False), (b"1", False), (2, False)], ids=repr
)
def test_values_that_are_equal_are_of_one_type(site: Any, offer: Any, value: Any, there: bool) -> None:
    site.write({"typed.py": "from typing import Literal\nNumbers = Literal[1, 'a']\n"})
    typed: Any = importlib.import_module("typed")
    overlay = Overlay("one", reason="r")
    overlay.entry("typed:Numbers", value)
    offer(overlay)
    if there:
        with pytest.raises(TargetError, match="has the value 1 already"):
            ascend_overlay.enable()
        return
    with ascend_overlay.enabled():
        assert [(type(each), each) for each in get_args(typed.Numbers)][-1] == (type(value), value)
    assert get_args(typed.Numbers) == (1, "a")
