"""The kinds attribute, add, item and module alias."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.errors import ConflictError, OverlayError, TargetError

LIB = """
    FLAG = False
    TABLE = {"old": 1}
    FIXED = __import__("types").MappingProxyType({})
    class Base:
        flag = False
        def method(self): return "stock"
    class Thing(Base):
        table = {}
    class Registry:
        def __init__(self): self.entries = {}
        @property
        def live(self): return self.entries
    REGISTRY = Registry()
"""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIB, "ours.py": "def method(self): return 'ours'\nVALUE = object()\n"})


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


early = pytest.mark.parametrize("early", [True, False])


def load(early: bool) -> Any:
    if early:
        importlib.import_module("lib")
    ascend_overlay.enable()
    return importlib.import_module("lib")


@early
def test_attribute(overlay: Overlay, early: bool) -> None:
    overlay.attribute("lib:FLAG", True)
    overlay.attribute("lib:Thing.flag", None)
    overlay.attribute("lib:REGISTRY.entries", ref("ours:VALUE"))
    lib = load(early)
    assert lib.FLAG is True and lib.Thing.flag is None and lib.Base.flag is False
    assert lib.REGISTRY.entries is importlib.import_module("ours").VALUE
    ascend_overlay.disable()
    assert lib.FLAG is False and "flag" not in vars(lib.Thing) and lib.REGISTRY.entries == {}


@early
def test_add(overlay: Overlay, early: bool) -> None:
    overlay.add("lib:NEW", 1)
    overlay.add("lib:Thing.extra", ref("ours:method"))
    lib = load(early)
    assert lib.NEW == 1 and lib.Thing().extra() == "ours" and not hasattr(lib.Base, "extra")
    assert vars(lib.Thing)["extra"] is importlib.import_module("ours").method
    ascend_overlay.disable()
    assert not hasattr(lib, "NEW") and not hasattr(lib.Thing, "extra")


@pytest.mark.parametrize("target", ["lib:FLAG", "lib:Thing.flag", "lib:Base.method"])
def test_adding_what_exists_is_an_error(overlay: Overlay, target: str) -> None:
    overlay.add(target, 1)
    with pytest.raises(TargetError, match=f"{target} exists already.*overlay.attribute"):
        load(True)


@pytest.mark.parametrize("target", ["lib:FLAGS", "lib:Thing.flags"])
def test_setting_what_does_not_exist_is_an_error(overlay: Overlay, target: str) -> None:
    overlay.attribute(target, 1)
    with pytest.raises(TargetError, match=f"{target} does not exist.*Did you mean"):
        load(True)


@early
def test_item(overlay: Overlay, early: bool) -> None:
    overlay.item("lib:TABLE", "old", 2)
    overlay.item("lib:TABLE", "new", ref("ours:VALUE"))
    overlay.item("lib:Thing.table", "x", 1)
    overlay.item("lib:REGISTRY.entries", "x", 1)
    overlay.item("lib:REGISTRY.live", "y", 1)
    lib = load(early)
    assert lib.TABLE == {"old": 2, "new": importlib.import_module("ours").VALUE}
    assert lib.Thing.table == {"x": 1} and lib.REGISTRY.entries == {"x": 1, "y": 1}
    assert "in place of 1" in ascend_overlay.ledger().entries[0].notes
    ascend_overlay.disable()
    assert lib.TABLE == {"old": 1} and lib.Thing.table == {} and lib.REGISTRY.entries == {}


def test_item_of_what_is_no_mutable_mapping(overlay: Overlay, offer: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.item("lib:FLAG", "x", 1)
    other.item("lib:FIXED", "x", 1)
    importlib.import_module("lib")
    with pytest.raises(TargetError, match=r"lib:FLAG is a bool.*name a mutable mapping"):
        ascend_overlay.enable(only=["one"])
    with pytest.raises(TargetError, match=r"lib:FIXED cannot be changed.*name a mutable mapping"):
        ascend_overlay.enable(only=["two"])


def test_item_of_a_list_is_an_entry(overlay: Overlay, offer: Any, site: Any) -> None:
    site.write({"listing.py": "NAMES = ['x']\n"})
    overlay.item("listing:NAMES", 0, "y")
    importlib.import_module("listing")
    with pytest.raises(TargetError, match=r"listing:NAMES is a list.*use overlay\.entry"):
        ascend_overlay.enable(only=["one"])


def test_name_that_is_the_key_of_a_mapping(overlay: Overlay) -> None:
    overlay.remove("lib:TABLE.old")
    importlib.import_module("lib")
    with pytest.raises(TargetError, match=r"lib:TABLE has no 'old'\. It is a mapping with the key 'old': name the"):
        ascend_overlay.enable(only=["one"])


def test_one_entry_of_two_overlays_is_a_conflict(overlay: Overlay, offer: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.item("lib:TABLE", "x", 1)
    other.item("lib:TABLE", "x", 2)
    with pytest.raises(ConflictError, match=r"lib:TABLE\['x'\].*one .*two "):
        ascend_overlay.enable()


def test_implementation_that_does_not_exist(overlay: Overlay) -> None:
    overlay.attribute("lib:FLAG", ref("ours:VALEU"))
    with pytest.raises(TargetError, match=r"implementation ours:VALEU does not exist.*Did you mean 'VALUE'"):
        load(True)


# --- module alias -----------------------------------------------------------------------------------------------------


@pytest.fixture
def layers(site: Any) -> None:
    site.write(
        {
            "pkg/__init__.py": "",
            "pkg/new/layers/__init__.py": "COUNT = []\nclass Layer: pass\n",
            "pkg/new/layers/part.py": "class Part: pass\n",
            "pkg/new/layers/other/deep.py": "class Deep: pass\n",
        }
    )


def test_alias_is_the_real_module(overlay: Overlay, layers: None) -> None:
    overlay.module_alias("pkg.layers", "pkg.new.layers")
    ascend_overlay.enable()
    assert "pkg" not in sys.modules
    alias = importlib.import_module("pkg.layers")
    from pkg.layers import Layer  # type: ignore[import-not-found]

    assert alias is importlib.import_module("pkg.new.layers") is sys.modules["pkg"].layers
    assert Layer is alias.Layer
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, entry.seam) == ("applied", "import")
    assert any("something imported pkg.layers" in note for note in entry.notes)
    ascend_overlay.disable()
    assert "pkg.layers" not in sys.modules and not hasattr(sys.modules["pkg"], "layers")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pkg.layers")


@pytest.mark.parametrize("order", [("pkg.layers", "pkg.new.layers"), ("pkg.new.layers", "pkg.layers")])
def test_modules_below_the_alias_are_the_real_ones(overlay: Overlay, layers: None, order: tuple[str, str]) -> None:
    overlay.module_alias("pkg.layers", "pkg.new.layers")
    ascend_overlay.enable()
    for below in ("part", "other.deep"):
        one, two = (importlib.import_module(f"{name}.{below}") for name in order)
        assert one is two
    ascend_overlay.disable()
    assert not [name for name in sys.modules if name.startswith("pkg.layers")]
    assert sys.modules["pkg.new.layers.part"].__name__ == "pkg.new.layers.part"


def test_alias_leaves_an_attribute_that_was_there(overlay: Overlay, layers: None, site: Any) -> None:
    site.write({"pkg/__init__.py": "from pkg.new import layers\n"})
    overlay.module_alias("pkg.layers", "pkg.new.layers")
    with ascend_overlay.enabled():
        importlib.import_module("pkg.layers")
    assert sys.modules["pkg"].layers is sys.modules["pkg.new.layers"]


def test_alias_of_a_module_that_exists_or_to_one_that_does_not(overlay: Overlay, offer: Any, layers: None) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.module_alias("pkg.new", "pkg.new.layers")
    other.module_alias("pkg.layers", "pkg.new.lairs")
    with pytest.raises(TargetError, match=r"pkg.new exists, so it cannot be an alias.*the vLLM range"):
        ascend_overlay.enable(only=["one"])
    with pytest.raises(TargetError, match=r"'pkg.new.lairs' does not exist.*Did you mean 'pkg.new.layers'"):
        ascend_overlay.enable(only=["two"])
    with pytest.raises(OverlayError, match="without blanks"):
        other.module_alias("pkg.layers ", "pkg.new.layers")


def test_alias_of_what_somebody_has_put_into_sys_modules(overlay: Overlay, layers: None, monkeypatch: Any) -> None:
    made = type(sys)("made")
    monkeypatch.setitem(sys.modules, "made", made)
    overlay.module_alias("made", "pkg.new.layers")
    with pytest.raises(TargetError, match=r"made exists, so it cannot be an alias of pkg.new.layers"):
        ascend_overlay.enable()
    assert sys.modules["made"] is made


def test_alias_that_is_in_no_package(overlay: Overlay, layers: None) -> None:
    overlay.module_alias("layers", "pkg.new.layers")
    ascend_overlay.enable()
    assert importlib.import_module("layers.part") is importlib.import_module("pkg.new.layers.part")
    ascend_overlay.disable()
    assert [name for name in sys.modules if name.startswith("layers")] == []


def test_use_of_an_alias_is_noted_once(overlay: Overlay, layers: None) -> None:
    overlay.module_alias("pkg.layers", "pkg.new.layers")
    ascend_overlay.enable()
    importlib.import_module("pkg.layers.other.deep")
    importlib.import_module("pkg.layers.part")
    (entry,) = ascend_overlay.ledger()
    assert entry.notes == ["used: something imported pkg.layers, which is now pkg.new.layers"]
    assert entry.detail == "is pkg.new.layers"


def test_alias_that_was_never_used_leaves_no_finder(overlay: Overlay, layers: None) -> None:
    overlay.module_alias("pkg.layers", "pkg.new.layers")
    before = list(sys.meta_path)
    ascend_overlay.enable()
    assert sys.meta_path[-1] not in before
    with pytest.raises(ModuleNotFoundError, match=r"pkg\.layerss"):
        importlib.import_module("pkg.layerss")
    ascend_overlay.disable()
    assert sys.meta_path == before


def nobody() -> None:
    """Leave everything as it is."""


def takes_the_finder_out() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if "Alias" not in type(finder).__name__]


def takes_the_package_out() -> None:
    del sys.modules["pkg"]


def puts_another_in_the_package() -> None:
    sys.modules["pkg"].layers = "theirs"  # type: ignore[attr-defined]


@pytest.mark.parametrize("somebody", [nobody, takes_the_finder_out, takes_the_package_out, puts_another_in_the_package])
def test_alias_that_others_have_touched_is_taken_back(overlay: Overlay, layers: None, somebody: Any) -> None:
    overlay.module_alias("pkg.layers", "pkg.new.layers")
    ascend_overlay.enable()
    importlib.import_module("pkg.layers.part")
    pkg, real = sys.modules["pkg"], sys.modules["pkg.new.layers"]
    somebody()
    ascend_overlay.disable()
    assert [name for name in sys.modules if name.startswith("pkg.layers")] == []
    theirs = {takes_the_package_out: real, puts_another_in_the_package: "theirs"}
    assert vars(pkg).get("layers") == theirs.get(somebody)
    assert sys.modules["pkg.new.layers"].part is sys.modules["pkg.new.layers.part"]
    assert all("Alias" not in type(finder).__name__ for finder in sys.meta_path)


@pytest.mark.parametrize("sure", [False, True])
def test_text_where_an_object_was_meant_is_said_before_the_import(overlay: Overlay, sure: bool) -> None:
    overlay.add("lib:NEW", "ours:VALUE", as_is=sure)
    if sure:
        assert load(early=False).NEW == "ours:VALUE"
        return
    with pytest.raises(TargetError, match=r"write ref\('ours:VALUE'\)"):
        ascend_overlay.enable()
    assert "lib" not in sys.modules
