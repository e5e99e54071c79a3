"""subclass of a class that pydantic compiled: what embeds it follows, whenever it was compiled, and comes back."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

PARALLEL = """
    from pydantic.dataclasses import dataclass
    @dataclass
    class Parallel:
        size: int = 1
        def __post_init__(self): self.seen = "stock"
"""
ENGINE = """
    import dataclasses
    from typing import Annotated, Optional
    from pydantic import BaseModel, Field
    from pydantic.dataclasses import dataclass
    from embedding.parallel import Parallel
    @dataclass
    class Engine:
        parallel: Parallel = Field(default_factory=Parallel)
        other: Optional[Parallel] = None
        union: Parallel | int = 3
        several: list[Parallel] = Field(default_factory=list)
        by_name: dict[str, Annotated[Parallel, "a note"]] = Field(default_factory=dict)
    @dataclass
    class Outer:
        engine: Engine = Field(default_factory=Engine)
    class Model(BaseModel):
        parallel: Parallel = Field(default_factory=Parallel)
        other: Parallel | None = None
    @dataclass
    class Derived(Engine):
        more: int = 1
"""
OURS = """
    from pydantic.dataclasses import dataclass
    from embedding.parallel import Parallel
    @dataclass
    class Ours(Parallel):
        more: int = 7
        def __post_init__(self):
            super().__post_init__()
            self.seen = "ours"
"""


@pytest.fixture(autouse=True)
def _package(site: Any, offer: Any) -> None:
    site.write({"embedding/parallel.py": PARALLEL, "embedding/engine.py": ENGINE, "ours_of_embedding.py": OURS})
    overlay = Overlay("one", reason="a test")
    overlay.subclass("embedding.parallel:Parallel", "ours_of_embedding:Ours")
    offer(overlay)


def uses(engine: Any) -> dict[str, str]:
    """Return what becomes of each way to give the embedded object."""
    given = {"size": 1}
    made = {
        "default": engine.Engine().parallel,
        "a dict": engine.Engine(parallel=given).parallel,
        "optional": engine.Engine(other=given).other,
        "union": engine.Engine(union=given).union,
        "list": engine.Engine(several=[given]).several[0],
        "annotated": engine.Engine(by_name={"x": given}).by_name["x"],
        "two levels": engine.Outer().engine.parallel,
        "two levels of dicts": engine.Outer(engine={"parallel": given}).engine.parallel,
        "model": engine.Model().parallel,
        "model of a dict": engine.Model(parallel=given).parallel,
        "model, optional": engine.Model(other=given).other,
        "derived": engine.Derived().parallel,
        "derived of a dict": engine.Derived(parallel=given).parallel,
        "the name": engine.Parallel(),
        "passed": engine.Engine(parallel=engine.Parallel()).parallel,
    }
    return {name: f"{type(each).__name__}, {each.seen}" for name, each in made.items()}


def pieces(engine: Any) -> list[Any]:
    """Return the objects that are to be there again."""
    found: list[Any] = []
    for cls in (engine.Engine, engine.Outer, engine.Derived, engine.Model, engine.Parallel):
        found += [value for name, value in vars(cls).items() if name.startswith("__pydantic")]
        for field in vars(cls).get("__dataclass_fields__", {}).values():
            found += [field, field.type, field.default, field.default_factory]
        for field in cls.__pydantic_fields__.values():
            found += [field, field.annotation, field.default_factory]
    return found


@pytest.mark.parametrize("times", [1, 2])
def test_classes_that_were_compiled_before(times: int) -> None:
    engine: Any = importlib.import_module("embedding.engine")
    before, stock = pieces(engine), uses(engine)
    assert set(stock.values()) == {"Parallel, stock"}
    for _ in range(times):
        ascend_overlay.enable()
        assert set(uses(engine).values()) == {"Ours, ours"}, uses(engine)
        (entry,) = ascend_overlay.ledger()
        assert any("embedding.engine.Engine" in note for note in entry.notes), entry
        assert not any("pydantic" in text and "ascend_overlay" in text for text in entry.stale), entry
        ascend_overlay.disable()
        assert uses(engine) == stock
        after = pieces(engine)
        assert len(after) == len(before) and all(a is b for a, b in zip(after, before, strict=True))
        assert engine.Parallel.__pydantic_core_schema__["cls"] is engine.Parallel


def test_classes_that_are_compiled_meanwhile() -> None:
    ascend_overlay.enable()
    engine: Any = importlib.import_module("embedding.engine")
    assert set(uses(engine).values()) == {"Ours, ours"}
    ascend_overlay.disable()
    assert set(uses(engine).values()) == {"Parallel, stock"}, uses(engine)
    (field,) = [each for each in dataclasses.fields(engine.Engine) if each.name == "parallel"]
    assert field.type is engine.Parallel is sys.modules["embedding.parallel"].Parallel
    ascend_overlay.enable()
    assert set(uses(engine).values()) == {"Ours, ours"}
    ascend_overlay.disable()
    assert set(uses(engine).values()) == {"Parallel, stock"}


def test_what_somebody_else_made_of_a_field_meanwhile_stays() -> None:
    engine: Any = importlib.import_module("embedding.engine")
    fields = engine.Engine.__dataclass_fields__
    stock = {name: (field.type, field.default) for name, field in fields.items()}
    ascend_overlay.enable()
    theirs = dict[str, int]
    fields["union"].type = theirs
    ascend_overlay.disable()
    assert fields.pop("union").type is theirs
    for name, field in fields.items():
        assert (field.type, field.default) == stock[name] and field.type is stock[name][0]


def test_what_fits_neither_is_refused_all_the_same() -> None:
    from pydantic import ValidationError

    engine: Any = importlib.import_module("embedding.engine")
    for switch in (lambda: None, ascend_overlay.enable, ascend_overlay.disable):
        switch()
        with pytest.raises(ValidationError):
            engine.Engine(parallel="three")


@pytest.mark.vllm
@pytest.mark.parametrize("early", [True, False])
def test_the_configuration_of_vllm(python: Any, site: Any, early: bool) -> None:
    site.write(
        {
            "vllm_parallel.py": """
                from vllm.config.parallel import ParallelConfig
                from vllm.config.utils import config
                @config
                class Ours(ParallelConfig):
                    ours: int = 7
            """,
        }
    )
    enable = "ascend_overlay.enable(overlay, propagate=False)"
    done = python.script(
        f"""
        import ascend_overlay
        from ascend_overlay import Overlay
        overlay = Overlay("one", reason="a test")
        overlay.subclass("vllm.config.parallel:ParallelConfig", "vllm_parallel:Ours")
        {enable if early else ""}
        import vllm.config
        {"" if early else enable}
        def names():
            made = [vllm.config.VllmConfig(), vllm.config.VllmConfig(parallel_config=vllm.config.ParallelConfig()),
                    vllm.config.VllmConfig(parallel_config={{"tensor_parallel_size": 1}})]
            return {{type(each.parallel_config).__name__ for each in made}}
        print("RESULT", names(), end=" ")
        ascend_overlay.disable()
        print(names())
        """,
        timeout=120,
    )
    assert "RESULT {'Ours'} {'ParallelConfig'}" in done.stdout
