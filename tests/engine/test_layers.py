"""A subclass in the place of a layer goes through vLLM's layer registry: with a vLLM of the test's own."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConflictError

CUSTOM_OP = """
    op_registry_oot = {}
    class Swapped:
        def __new__(cls, *args, **kwargs): return super().__new__(op_registry_oot.get(cls.__name__, cls))
    class CustomOp(Swapped): pass
    class PluggableLayer(Swapped): pass
"""
LAYERS = """
    from vllm.model_executor.custom_op import CustomOp, PluggableLayer
    class Norm(CustomOp):
        def __init__(self, size=1): self.size = size
        def forward(self): return "stock"
        def forward_native(self): return "stock native"
        def forward_cuda(self): return "stock cuda"
        def scale(self): return "stock scale"
        @property
        def eps(self): return "stock eps"
    class Plain(Norm): pass
    class Native(Norm):
        def forward_native(self): return "own native"
    class Deeper(Native):
        def forward(self): return "own"
    class Scaled(Norm):
        limit = 1
        def __init__(self): super().__init__(2)
        def scale(self): return "own scale"
        @property
        def eps(self): return "own eps"
    class Watching(CustomOp):
        def __init_subclass__(cls, mark="none", **kwargs):
            super().__init_subclass__(**kwargs)
            cls.mark = mark
        def run(self): return "stock"
    class Head(PluggableLayer):
        def run(self): return "stock"
    class Free:
        def run(self): return "stock"
"""
OURS = """
    from vllm.layers import Norm, Watching, Head, Free
    class OurNorm(Norm):
        limit = 2
        def __init__(self, size=1): super().__init__(size); self.ours = True
        def forward(self): return "ours"
        def forward_native(self): return "ours native"
        def forward_npu(self): return "ours npu"
        def scale(self): return "ours scale"
        @property
        def eps(self): return "ours eps"
    class OurWatching(Watching):
        def run(self): return "ours"
    class OurHead(Head):
        def run(self): return "ours"
    class OurFree(Free):
        def run(self): return "ours"
"""
NARROW = "from vllm.layers import Norm\nclass Narrow(Norm):\n    def forward_cuda(self): return 'narrow cuda'\n"
REGISTERED = "vLLM layer registry"


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    files = {"vllm/model_executor/custom_op.py": CUSTOM_OP, "vllm/layers.py": LAYERS, "ours.py": OURS}
    site.write({"narrow.py": NARROW})
    site.vllm("0.30.0", files)


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def load() -> tuple[Any, Any]:
    layers = importlib.import_module("vllm.layers")
    ascend_overlay.enable()
    return layers, importlib.import_module("ours")


def registry() -> dict[str, type]:
    found: dict[str, type] = sys.modules["vllm.model_executor.custom_op"].op_registry_oot
    return found


@pytest.mark.parametrize(
    ("name", "seam"),
    [("Norm", REGISTERED), ("Head", REGISTERED), ("Watching", REGISTERED), ("Free", "name re-bound")],
)
@pytest.mark.parametrize("early", [True, False])
def test_what_is_a_layer_is_registered_and_what_is_none_is_re_bound(
    overlay: Overlay, name: str, seam: str, early: bool
) -> None:
    overlay.subclass(f"vllm.layers:{name}", f"ours:Our{name}")
    if early:
        importlib.import_module("vllm.layers")
    ascend_overlay.enable()
    layers: Any = importlib.import_module("vllm.layers")
    ours = getattr(importlib.import_module("ours"), f"Our{name}")
    stock = ours.__mro__[1]
    assert type(getattr(layers, name)()) is ours
    assert (getattr(layers, name) is stock) is (seam == REGISTERED)
    assert registry() == ({name: ours} if seam == REGISTERED else {})
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, entry.seam, entry.detail) == ("applied", seam, f"subclassed by ours:Our{name}")
    ascend_overlay.disable()
    assert registry() == {} and getattr(layers, name) is stock and type(stock()) is stock


def test_a_release_without_pluggable_layers(overlay: Overlay, site: Any) -> None:
    site.write(
        {
            "vllm/model_executor/custom_op.py": CUSTOM_OP.replace("class PluggableLayer(Swapped): pass", ""),
            "vllm/layers.py": LAYERS.replace(", PluggableLayer", "").replace("(PluggableLayer)", ""),
        }
    )
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    overlay.subclass("vllm.layers:Head", "ours:OurHead")
    layers, ours = load()
    assert registry() == {"Norm": ours.OurNorm} and layers.Head is ours.OurHead


def test_a_layer_of_somebody_else_is_re_bound(overlay: Overlay, site: Any) -> None:
    site.write(
        {
            "theirs.py": "from vllm.layers import Norm\nclass Theirs(Norm): pass\n",
            "mine.py": "from theirs import Theirs\nclass Mine(Theirs): pass\n",
        }
    )
    theirs: Any = importlib.import_module("theirs")
    overlay.subclass("theirs:Theirs", "mine:Mine")
    ascend_overlay.enable()
    assert theirs.Theirs.__name__ == "Mine" and registry() == {}


BUILT = [
    ("Norm", {"forward": "ours", "forward_native": "ours native", "forward_cuda": "stock cuda", "scale": "ours scale"}),
    ("Plain", {"forward": "ours", "forward_native": "ours native", "scale": "ours scale", "size": 1, "ours": True}),
    ("Native", {"forward": "stock", "forward_native": "own native", "forward_cuda": "stock cuda", "ours": True}),
    ("Native", {"forward_npu": "ours npu", "scale": "ours scale"}),
    ("Deeper", {"forward": "own", "forward_native": "own native", "scale": "ours scale"}),
    ("Scaled", {"forward": "ours", "forward_native": "ours native", "scale": "own scale", "eps": "own eps", "size": 2}),
]


def asked(layer: Any, name: str) -> Any:
    found = getattr(layer, name)
    return found() if callable(found) else found


@pytest.mark.parametrize(("name", "expected"), BUILT)
def test_derived_layers_follow_and_keep_what_is_their_own(
    overlay: Overlay, snapshot: Any, name: str, expected: dict[str, Any]
) -> None:
    layers: Any = importlib.import_module("vllm.layers")
    classes = [getattr(layers, each) for each in ("Norm", "Plain", "Native", "Deeper", "Scaled")]
    before, bases = snapshot(*classes), [cls.__bases__ for cls in classes]
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    load()
    made = getattr(layers, name)()
    assert {key: asked(made, key) for key in expected} == expected
    ascend_overlay.disable()
    before.assert_same(*classes)
    assert [cls.__bases__ for cls in classes] == bases


def test_the_ledger_tells_which_layers_follow_and_what_they_keep(overlay: Overlay) -> None:
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    load()
    (entry,) = ascend_overlay.ledger()
    followers = ["vllm.layers.Native", "vllm.layers.Plain", "vllm.layers.Scaled"]
    assert sorted(entry.copies) == [f"{name} (base class)" for name in followers]
    assert sorted(entry.notes) == [
        "vllm.layers.Native keeps its own forward",
        "vllm.layers.Scaled keeps its own eps, scale",
    ]


def test_other_forward_methods_of_the_subclass_alone_are_pinned(overlay: Overlay) -> None:
    overlay.subclass("vllm.layers:Norm", "narrow:Narrow")
    layers, _ = load()
    assert layers.Native().forward_cuda() == "stock cuda" and layers.Plain().forward_cuda() == "narrow cuda"
    ascend_overlay.disable()
    assert "forward_cuda" not in vars(layers.Native)


def test_a_pinned_method_that_somebody_has_set_since_stays(overlay: Overlay) -> None:
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    layers, _ = load()
    layers.Native.forward = lambda self: "theirs"
    ascend_overlay.disable()
    assert layers.Native().forward() == "theirs"


LATER = """
    from vllm.layers import Norm, Native, Watching
    class LaterPlain(Norm): pass
    class LaterNative(Norm):
        def forward_native(self): return "own native"
    class LaterDeeper(Native): pass
"""


def test_layers_that_come_later_follow_and_go_back(overlay: Overlay, site: Any) -> None:
    site.write({"later.py": LATER})
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    layers, ours = load()
    later: Any = importlib.import_module("later")
    assert [cls.__bases__[0] for cls in (later.LaterPlain, later.LaterNative)] == [ours.OurNorm, ours.OurNorm]
    assert later.LaterDeeper.__bases__ == (layers.Native,)
    assert later.LaterPlain().forward() == "ours" and later.LaterNative().forward() == "stock"
    ascend_overlay.disable()
    assert later.LaterPlain.__bases__ == later.LaterNative.__bases__ == (layers.Norm,)
    assert later.LaterPlain().forward() == later.LaterNative().forward() == "stock"
    assert "forward" not in vars(later.LaterNative) and "__init_subclass__" not in vars(layers.Norm)

    class Afterwards(layers.Norm):  # type: ignore[misc, name-defined]
        pass

    assert Afterwards.__bases__ == (layers.Norm,)


def test_a_subclass_that_is_made_later_of_the_subclass_stays_one(overlay: Overlay) -> None:
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    layers, ours = load()

    class Both(ours.OurNorm, layers.Norm):  # type: ignore[misc, name-defined]
        pass

    assert Both.__bases__ == (ours.OurNorm, layers.Norm)
    (entry,) = ascend_overlay.ledger()
    assert not [text for text in (*entry.copies, *entry.stale) if "Both" in text]


@pytest.mark.parametrize("arguments", [{}, {"mark": "given"}])
def test_a_layer_that_watches_what_is_derived_from_it_goes_on_to(overlay: Overlay, arguments: dict[str, str]) -> None:
    overlay.subclass("vllm.layers:Watching", "ours:OurWatching")
    layers, ours = load()
    own = inspect.getattr_static(layers.Watching, "__init_subclass__")
    later: Any = type(layers.Watching)("Later", (layers.Watching,), {}, **arguments)
    assert (later.mark, later.__bases__) == (arguments.get("mark", "none"), (ours.OurWatching,))
    ascend_overlay.disable()
    assert inspect.getattr_static(layers.Watching, "__init_subclass__") is not own
    again: Any = type(layers.Watching)("Again", (layers.Watching,), {}, **arguments)
    assert (again.mark, again.__bases__) == (arguments.get("mark", "none"), (layers.Watching,))


def test_a_class_without_a_watch_refuses_arguments_as_before(overlay: Overlay) -> None:
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    layers, _ = load()
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        type(layers.Norm)("Later", (layers.Norm,), {}, mark="given")


def test_a_watch_that_somebody_has_set_since_stays(overlay: Overlay) -> None:
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    layers, _ = load()
    theirs = classmethod(lambda cls, **kwargs: None)
    layers.Norm.__init_subclass__ = theirs
    ascend_overlay.disable()
    assert vars(layers.Norm)["__init_subclass__"] is theirs


def test_a_registration_of_nobody_known_is_a_conflict(overlay: Overlay) -> None:
    layers: Any = importlib.import_module("vllm.layers")
    theirs = type("Theirs", (layers.Norm,), {"__module__": "theirs"})
    registry()["Norm"] = theirs
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    for _ in range(2):
        with pytest.raises(ConflictError, match="layer registry and by nobody known to ascend_overlay: theirs:Theirs"):
            ascend_overlay.enable()
        assert registry() == {"Norm": theirs}


def test_two_names_of_one_layer_are_a_conflict(overlay: Overlay, offer: Any, site: Any) -> None:
    site.write({"copier.py": "from vllm.layers import Norm as Copy\n"})
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.subclass("vllm.layers:Norm", "ours:OurNorm")
    other.subclass("copier:Copy", "narrow:Narrow")
    importlib.import_module("copier")
    with pytest.raises(
        ConflictError, match=r"is the same thing as the entry 'Norm', which overlay '(one|two)'.* decides"
    ):
        ascend_overlay.enable()
    assert registry() == {}
