"""Members that pydantic captures when it compiles a class: patched, met wherever the class is embedded, put back."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError

LIB = """
    from typing import Optional
    from pydantic import BaseModel, Field, field_validator, model_validator, validator
    from pydantic.dataclasses import dataclass
    @dataclass
    class Compiled:
        size: int = 1
        seen: str = ""
        def __post_init__(self): self.seen += "post "
        @field_validator("size")
        @classmethod
        def checked(cls, value): return value + 100
        @model_validator(mode="before")
        @classmethod
        def early(cls, values): return values
        @model_validator(mode="after")
        def late(self):
            self.seen += "late "
            return self
        def method(self): return "stock"
    @dataclass
    class Derived(Compiled):
        more: int = 1
    @dataclass
    class Embedding:
        inner: Compiled = Field(default_factory=Compiled)
        other: Optional[list[Compiled]] = None
    @dataclass
    class Outer:
        embedding: Embedding = Field(default_factory=Embedding)
    @dataclass
    class Apart:
        size: int = 1
        def __post_init__(self): self.size += 1
    class Model(BaseModel):
        size: int = 1
        @field_validator("size", mode="before")
        @classmethod
        def checked(cls, value): return int(value) + 100
        @model_validator(mode="after")
        def late(self):
            self.size += 1000
            return self
    class Holder(BaseModel):
        model: Model
"""


BROKEN = """
    from pydantic.dataclasses import dataclass
    class Part: ...
    Part.__get_pydantic_core_schema__ = lambda *args: {"type": "any"}
    @dataclass
    class Whole:
        part: Part = None
        def __post_init__(self): self.seen = "stock"
    del Part.__get_pydantic_core_schema__
"""


@pytest.fixture
def lib(site: Any) -> Any:
    site.write({"validated/lib.py": LIB, "validated/other.py": "from validated.lib import Compiled\n"})
    return importlib.import_module("validated.lib")


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    CALLS.append(1)
    return wrapped(*args, **kwargs)


CALLS: list[int] = []
COMPILED: dict[str, Callable[[Any], Any]] = {
    "itself": lambda lib: lib.Compiled(size=1),
    "a derived one": lambda lib: lib.Derived(size=1),
    "one that embeds it": lambda lib: lib.Embedding(inner={"size": 1}).inner,
    "one that embeds many": lambda lib: lib.Embedding(inner=lib.Compiled.__new__(lib.Compiled), other=[{"size": 1}]),
    "one that embeds that": lambda lib: lib.Outer(embedding={"inner": {"size": 1}}).embedding.inner,
}
MODEL: dict[str, Callable[[Any], Any]] = {
    "the model": lambda lib: lib.Model(size=1),
    "a model that embeds it": lambda lib: lib.Holder(model={"size": 1}).model,
}
USES = {
    **{("Compiled.__post_init__", use): make for use, make in COMPILED.items()},
    **{("Compiled.checked", use): make for use, make in COMPILED.items() if use != "a derived one"},
    **{("Compiled.late", use): make for use, make in COMPILED.items() if use != "a derived one"},
    **{(f"Model.{name}", use): make for name in ("checked", "late") for use, make in MODEL.items()},
}


def captured(lib: Any) -> dict[str, Any]:
    """Return what pydantic made of the classes."""
    classes = [cls for cls in vars(lib).values() if isinstance(cls, type) and "__pydantic_validator__" in vars(cls)]
    made = {
        f"{cls.__name__}.{name}": value
        for cls in classes
        for name, value in vars(cls).items()
        if name.startswith("__pydantic") or name in ("__init__", "__signature__")
    }
    for cls in classes:
        infos: Any = cls.__pydantic_decorators__  # type: ignore[attr-defined]
        for group in ("field_validators", "model_validators"):
            made.update({f"{cls.__name__} {group} {name}": found for name, found in getattr(infos, group).items()})
    return made


@pytest.mark.parametrize(("target", "use"), USES)
def test_whoever_validates_meets_it(lib: Any, offer: Any, target: str, use: str) -> None:
    before, make = captured(lib), USES[target, use]
    overlay = Overlay("one", reason="a test")
    overlay.wrap(f"validated.lib:{target}")(around)
    offer(overlay)
    stock = repr(make(lib))
    with ascend_overlay.enabled():
        CALLS.clear()
        assert repr(make(lib)) == stock and CALLS
    CALLS.clear()
    assert repr(make(lib)) == stock and not CALLS
    after = captured(lib)
    assert [name for name in {**before, **after} if before.get(name) is not after.get(name)] == []


def test_the_ledger_names_what_was_built_anew(lib: Any, offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("validated.lib:Compiled.__post_init__")(around)
    overlay.wrap("validated.lib:Compiled.method")(around)
    offer(overlay)
    with ascend_overlay.enabled():
        captured_one, plain = ascend_overlay.ledger().of("one")
        (note,) = captured_one.notes
        named = note.removeprefix("pydantic validators rebuilt: ").split(", ")
        assert set(named) == {f"validated.lib.{name}" for name in ("Compiled", "Derived", "Embedding", "Outer")}
        assert named.index("validated.lib.Embedding") < named.index("validated.lib.Outer") and plain.notes == []


@pytest.mark.parametrize("first", [0, 1])
def test_two_members_of_a_class_leave_in_any_order(lib: Any, offer: Any, first: int) -> None:
    before, names = captured(lib), ["one", "two"]
    for name, member in zip(names, ["__post_init__", "checked"], strict=True):
        overlay = Overlay(name, reason="a test")
        overlay.wrap(f"validated.lib:Compiled.{member}")(around)
        offer(overlay)
    ascend_overlay.enable()
    CALLS.clear()
    lib.Embedding(inner={"size": 1})
    assert len(CALLS) == 2
    ascend_overlay.disable(only=[names[first]])
    CALLS.clear()
    lib.Embedding(inner={"size": 1})
    assert len(CALLS) == 1
    ascend_overlay.disable()
    CALLS.clear()
    assert lib.Embedding(inner={"size": 1}).inner.seen == "post late " and not CALLS
    after = captured(lib)
    assert [name for name in {**before, **after} if before.get(name) is not after.get(name)] == []


def test_a_constructor_that_pydantic_goes_around_is_refused(lib: Any, offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("validated.lib:Compiled.__init__")(around)
    offer(overlay)
    with pytest.raises(TargetError, match=r"Compiled.__init__ is not called when .* patch Compiled.__post_init__"):
        ascend_overlay.enable()


def test_a_class_that_cannot_be_built_anew_is_named(site: Any, offer: Any) -> None:
    site.write({"broken.py": BROKEN})
    broken: Any = importlib.import_module("broken")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("broken:Whole.__post_init__")(around)
    offer(overlay)
    with pytest.raises(
        TargetError, match=r"(?s)pydantic compiled broken:Whole before it was patched and cannot rebuild"
    ):
        ascend_overlay.enable()
    CALLS.clear()
    assert broken.Whole(part=1).seen == "stock" and not CALLS
