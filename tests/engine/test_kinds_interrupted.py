"""Ctrl-C at any line of applying or taking back a patch leaves nothing behind, whatever its kind."""

from __future__ import annotations

import collections
import importlib
from collections.abc import Callable
from typing import Any

import pytest
from declared_members import World
from interrupting import Interruption

from ascend_overlay.patches import Applied, Context, Patch, Ref
from ascend_overlay.patches.aliases import ModuleAlias
from ascend_overlay.patches.attributes import AddAttribute, SetAttribute
from ascend_overlay.patches.classes import Subclass
from ascend_overlay.patches.edits import Edit
from ascend_overlay.patches.entries import Entry
from ascend_overlay.patches.factories import Factory
from ascend_overlay.patches.names import Replace, Wrap
from ascend_overlay.patches.registries import SetItem
from ascend_overlay.patches.removals import Remove
from ascend_overlay.places.slots import Slots

LIB = """
    import abc, collections
    class Base(abc.ABC):
        @abc.abstractmethod
        def run(self): ...
    class Child(Base): pass
    class Thing:
        size = 1
        def run(self): return "stock"
    class Derived(Thing): pass
    class Plain(Thing):
        def run(self): return "plain"
    NAMES, DEQUE, SET = ["a", "b", "c"], collections.deque("abc"), {"a", "b"}
    TUPLE, FROZEN, TABLE = ("a", "b"), frozenset("ab"), {"a": 1, "b": 2, "c": 3}
    def function(): return "stock"
"""
OURS = """
    from vllm.layers import Layer
    from lib import Thing
    class Ours(Thing):
        def run(self): return "ours"
    class OurLayer(Layer):
        def forward(self): return "ours"
    def build(): return "built"
"""
CUSTOM_OP = "op_registry_oot = {}\nclass CustomOp: pass\n"
LAYERS = """
    from vllm.model_executor.custom_op import CustomOp
    class Layer(CustomOp):
        def forward(self): return "stock"
    class Native(Layer):
        def forward_native(self): return "native"
    class Watched(CustomOp):
        def __init_subclass__(cls): pass
"""
FILES = ("abstract", "aliases", "base", "classes", "containers", "edits", "entries", "factories", "names", "removals")
TRACED = [f"patches/{name}.py" for name in (*FILES, "registries")]


def _around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


PATCHES: dict[str, Callable[[], Patch]] = {
    "subclass": lambda: Subclass(target="lib:Thing", implementation=Ref("ours:Ours")),
    "layer": lambda: Subclass(target="vllm.layers:Layer", implementation=Ref("ours:OurLayer")),
    "factory": lambda: Factory(target="lib:Thing", implementation=Ref("ours:build")),
    "abstract method": lambda: Replace(target="lib:Base.run", replacement=lambda self: "ours"),
    "function": lambda: Replace(target="lib:function", replacement=lambda: "ours"),
    "wrapper": lambda: Wrap(target="lib:Thing.run", wrapper=_around),
    "attribute": lambda: SetAttribute(target="lib:Thing.size", value=2),
    "new attribute": lambda: AddAttribute(target="lib:Derived.more", value=2),
    "edit": lambda: Edit(target="lib:function", find="return 'stock'", put="return 'ours'"),
    "item": lambda: SetItem(target="lib:TABLE", item="b", value=9),
    "new item": lambda: SetItem(target="lib:TABLE", item="x", value=9),
    "entry of a list": lambda: Entry(target="lib:NAMES", value="x", before="b"),
    "entry of a deque": lambda: Entry(target="lib:DEQUE", value="x"),
    "entry of a set": lambda: Entry(target="lib:SET", value="x"),
    "entry of a tuple": lambda: Entry(target="lib:TUPLE", value="x"),
    "entry of a frozenset": lambda: Entry(target="lib:FROZEN", value="x"),
    "removed from a list": lambda: Remove(target="lib:NAMES", item="b"),
    "removed from a set": lambda: Remove(target="lib:SET", item="b"),
    "removed from a tuple": lambda: Remove(target="lib:TUPLE", item="b"),
    "removed from a mapping": lambda: Remove(target="lib:TABLE", item="b"),
    "removed": lambda: Remove(target="lib:function"),
    "alias": lambda: ModuleAlias(target="gone", implementation="lib"),
}


@pytest.mark.parametrize("interrupted", ["applying", "taking back"])
@pytest.mark.parametrize("make", PATCHES.values(), ids=PATCHES)
def test_an_interruption_at_any_line(site: Any, make: Callable[[], Patch], interrupted: str) -> None:
    files = {"lib.py": LIB, "ours.py": OURS, "copier.py": "from lib import FROZEN, TUPLE, function\n"}
    site.vllm("0.30.0", files | {"vllm/model_executor/custom_op.py": CUSTOM_OP, "vllm/layers.py": LAYERS})
    lib, layers, copier, _ = map(importlib.import_module, ("lib", "vllm.layers", "copier", "ours"))
    target = layers if "vllm" in make().target else lib
    before, contents = World(lib, layers, copier), _contents(lib, layers)

    def attempt(at: int | None) -> Interruption:
        slots = Slots()
        done, context = Applied(slots, target), Context(slots, 0, "a test", {})
        if interrupted == "taking back":
            make().apply(target, make().load(), context, done)
        with Interruption(at, TRACED) as interruption:
            if interrupted == "applying":
                make().apply(target, make().load(), context, done)
            else:
                done.revert()
        assert done.revert() == []
        assert context.stand_ins == {}
        return interruption

    points = attempt(None).firsts()
    assert len(points) > 3
    for at in points:
        where = attempt(at).lines[-1]
        assert (before.differences(), _contents(lib, layers)) == ([], contents), f"after an interruption at {where}"


def _contents(*modules: Any) -> dict[str, Any]:
    """Return what the containers hold, in their order, and what the classes are derived from and made of."""
    found: dict[str, Any] = {}
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, type):
                found[name] = (value.__bases__, type(value), getattr(value, "__abstractmethods__", None))
            elif isinstance(value, (list, collections.deque)):
                found[name] = list(value)
            elif isinstance(value, dict) and not name.startswith("__"):
                found[name] = list(value.items())
            elif isinstance(value, set):
                found[name] = set(value)
    custom_op = importlib.import_module("vllm.model_executor.custom_op")
    return found | {"layers": dict(custom_op.op_registry_oot), "function": modules[0].function()}
