"""The house: which file and folder may import which. See docs/architecture.md."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import rules
from floors import EXCEPTIONS, FLOORS
from imports import AT_IMPORT, CHECKOUT, FOR_TYPES, IN_A_FUNCTION, File, arrows, installed_files, installed_packages
from rules import House

Rule = Callable[[House], list[str]]

RULES: tuple[Rule, ...] = (
    rules.without_a_floor,
    rules.upwards,
    rules.circles_of_files,
    rules.circles_of_folders,
    rules.between_overlays,
    rules.hooks_that_know_overlays,
    rules.overlays_by_name,
    rules.unlisted_overlays,
    rules.heavy_declarations,
    rules.heavy_rooms,
)
HOUSE = House(installed_files())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    broken = rule(HOUSE.but(EXCEPTIONS))
    assert not broken, "\n".join([rule.__doc__ or "", *broken])


def test_every_folder_is_installed() -> None:
    broken = rules.uninstalled(HOUSE, installed_packages())
    assert not broken, "\n".join(broken)


def test_every_exception_is_needed() -> None:
    unneeded = [pair for pair in EXCEPTIONS if not any(rule(HOUSE.but(EXCEPTIONS.keys() - {pair})) for rule in RULES)]
    assert not unneeded, (
        f"nothing breaks without the exceptions {unneeded}: take them out of EXCEPTIONS in tests/house/floors.py."
    )


def test_the_page_names_every_room() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors = page[page.index("## Floors") :]
    named = set(re.findall(r"`(?:ascend_overlay/)?(\w+)/?`", floors[: floors.index("\n## ", 1)]))
    wanted = {room for floor in FLOORS for room in floor}
    assert wanted <= named, f"docs/architecture.md has no floor for {sorted(wanted - named)}; enter them there"


# --- the rules themselves: houses that break one each --------------------------------------------------------------


def built(**files: str) -> dict[str, File]:
    """Return a small house that keeps the rules, with `files` put in: module (two underscores for a dot) -> source."""
    names = {
        "": "",
        "errors": "",
        "api": "from ascend_overlay.engine import engine",
        "engine": "",
        "engine__engine": "",
    }
    names |= {"overlays": "OVERLAYS = ('one', 'two')", "overlays__one": "", "overlays__two": "", "hooks": ""}
    names |= files
    modules = {f"ascend_overlay.{name}".rstrip(".").replace("__", "."): text for name, text in names.items()}
    packages = {module.rpartition(".")[0] for module in modules} | {
        module for module in modules if module.rpartition(".")[0] == "ascend_overlay.overlays"
    }
    packages |= {"ascend_overlay.hooks"}
    return {
        module: File(
            module.replace(".", "/") + ("/__init__.py" if module in packages else ".py"), text, module in packages
        )
        for module, text in modules.items()
    }


TORCH_BELOW = {"overlays__one": "from ascend_overlay.overlays.one import layer", "overlays__one__layer": "import torch"}

BROKEN: dict[str, tuple[Rule, dict[str, str], str]] = {
    "upwards": (
        rules.upwards,
        {"engine__engine": "\nfrom ascend_overlay.api import enable"},
        "engine.py, line 2, imports ascend_overlay.api, which is upwards: engine stands on floor",
    ),
    "upwards, in a function": (
        rules.upwards,
        {"errors": "def f():\n    import ascend_overlay.engine.engine"},
        "errors.py, line 2, imports ascend_overlay.engine.engine, which is upwards",
    ),
    "upwards, for types": (
        rules.upwards,
        {"errors": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ascend_overlay import api"},
        "errors.py, line 3, imports ascend_overlay.api",
    ),
    "upwards, relative": (rules.upwards, {"engine__engine": "from .. import api"}, "imports ascend_overlay.api"),
    "upwards, relative, of a folder": (rules.upwards, {"engine": "from ..api import x"}, "imports ascend_overlay.api"),
    "upwards, by import_module": (
        rules.upwards,
        {"errors": "import importlib\nimportlib.import_module('ascend_overlay.api')"},
        "errors.py, line 2, imports ascend_overlay.api",
    ),
    "upwards, a name of the package itself": (
        rules.upwards,
        {"engine__engine": "from ascend_overlay import Overlay"},
        "imports ascend_overlay, which is upwards",
    ),
    "upwards, an overlay imports a command": (
        rules.upwards,
        {"overlays__one": "import ascend_overlay.commands.cli", "commands": "", "commands__cli": ""},
        "imports ascend_overlay.commands.cli, which is upwards: overlays stands on floor",
    ),
    "a new folder": (
        rules.without_a_floor,
        {"attic": "", "attic__box": ""},
        "attic is in the package and on no floor: enter it in FLOORS in tests/house/floors.py",
    ),
    "a floor of nothing": (rules.without_a_floor, {}, "FLOORS names settings, which is not in the package"),
    "a circle of files": (
        rules.circles_of_files,
        {
            "engine__a": "from ascend_overlay.engine.b import x",
            "engine__b": "def f():\n    from ascend_overlay.engine import a",
        },
        "ascend_overlay.engine.b imports ascend_overlay.engine.a (ascend_overlay/engine/b.py, line 2)",
    ),
    "a circle of three files": (
        rules.circles_of_files,
        {
            "engine__a": "from ascend_overlay.engine import b",
            "engine__b": "from ascend_overlay.engine import c",
            "engine__c": "from ascend_overlay.engine import a",
        },
        "ascend_overlay.engine.c imports ascend_overlay.engine.a",
    ),
    "a circle of a file and its folder": (
        rules.circles_of_files,
        {
            "engine": "from ascend_overlay.engine.engine import x",
            "engine__engine": "from ascend_overlay.engine import y",
        },
        "ascend_overlay.engine imports ascend_overlay.engine.engine",
    ),
    "a circle of folders": (
        rules.circles_of_folders,
        {
            "source": "",
            "source__a": "from ascend_overlay.places import a",
            "places": "",
            "places__a": "",
            "places__b": "from ascend_overlay.source import a",
        },
        "ascend_overlay.source imports ascend_overlay.places (ascend_overlay/source/a.py, line 1)",
    ),
    "a circle of a folder and a file beside it": (
        rules.circles_of_folders,
        {
            "npu": "",
            "npu__low": "from ascend_overlay.npu.sub.a import x",
            "npu__sub": "",
            "npu__sub__a": "",
            "npu__sub__b": "from ascend_overlay.npu import low",
        },
        "ascend_overlay.npu: these folders and files",
    ),
    "between overlays": (
        rules.between_overlays,
        {"overlays__one__cases": "def f():\n    from ascend_overlay.overlays.two import overlay"},
        "line 2, imports ascend_overlay.overlays.two, which is another overlay's: what two overlays share goes to npu/",
    ),
    "hooks that know an overlay": (
        rules.hooks_that_know_overlays,
        {"hooks__spec": "import ascend_overlay.overlays.one"},
        "what plugins are written against knows no overlay",
    ),
    "an overlay by its name": (
        rules.overlays_by_name,
        {"engine__engine": "X = 'ascend_overlay.overlays.one.layer:Layer'"},
        "names the overlay one: engine is the same for every overlay",
    ),
    "an overlay that nobody contributes": (
        rules.unlisted_overlays,
        {"overlays__three": ""},
        "overlays/three is not in OVERLAYS in overlays/__init__.py",
    ),
    "a declaration with torch": (
        rules.heavy_declarations,
        {"overlays__one": "import torch"},
        "line 1, imports torch at import: a declaration names what it needs as text",
    ),
    "a declaration with vLLM in a function": (
        rules.heavy_declarations,
        {"overlays__one": "def f():\n    from vllm.config import VllmConfig"},
        "line 2, imports vllm.config in a function",
    ),
    "a declaration beside torch": (
        rules.heavy_declarations,
        TORCH_BELOW,
        "line 1, imports ascend_overlay.overlays.one.layer, which imports torch: so it needs torch",
    ),
    "an engine with torch": (
        rules.heavy_rooms,
        {"engine__engine": "import torch.nn"},
        "imports torch.nn: so it needs torch",
    ),
    "an engine beside torch": (
        rules.heavy_rooms,
        {"engine__engine": "from ascend_overlay.npu import x", "npu": "", "npu__x": "class A:\n    import vllm"},
        "engine.py, line 1, imports ascend_overlay.npu.x, which imports vllm: so it needs vllm",
    ),
    "an engine in whose package torch is": (
        rules.heavy_rooms,
        {"engine__engine": "import ascend_overlay.npu.x", "npu": "import torch", "npu__x": ""},
        "so it needs torch",
    ),
}


@pytest.mark.parametrize(("rule", "files", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_said_in_a_sentence(rule: Rule, files: dict[str, str], said: str) -> None:
    broken = rule(House(built(**files)))
    assert any(said in text for text in broken), broken
    assert all(text.endswith(".") for text in broken)


KEPT: dict[str, tuple[Rule, dict[str, str]]] = {
    "downwards": (rules.upwards, {"engine__engine": "from ascend_overlay.errors import x"}),
    "a neighbour": (rules.upwards, {"errors": "import ascend_overlay.versions", "versions": ""}),
    "a stranger": (rules.upwards, {"errors": "import os, json.decoder"}),
    "the same overlay": (
        rules.between_overlays,
        {"overlays__one__a": "import ascend_overlay.overlays.one.b", "overlays__one__b": ""},
    ),
    "the plugin and its overlay": (
        rules.between_overlays,
        {"overlays": "OVERLAYS = ()\nimport ascend_overlay.overlays.one"},
    ),
    "itself": (rules.circles_of_files, {"engine__engine": "from ascend_overlay.engine import engine"}),
    "torch in a function": (rules.heavy_rooms, {"engine__engine": "def f():\n    import torch"}),
    "a name like torch's": (rules.heavy_rooms, {"engine__engine": "import torchlike"}),
    "torch for types": (rules.heavy_rooms, {"errors": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import torch"}),
    "torch beside the declaration": (rules.heavy_declarations, {"overlays__one__layer": "import torch"}),
}


@pytest.mark.parametrize(("rule", "files"), KEPT.values(), ids=KEPT)
def test_what_is_allowed_is_not_told(rule: Rule, files: dict[str, str]) -> None:
    assert rule(House(built(**files))) == []


def test_an_exception_is_passed_over_by_both_its_ends() -> None:
    files = built(engine__engine="from ascend_overlay import api", engine__other="from ascend_overlay import api")
    left = rules.upwards(House(files).but({("ascend_overlay.engine.engine", "ascend_overlay.api")}))
    assert ["engine/other.py" in text for text in left] == [True]


def test_a_folder_that_is_not_installed_is_said() -> None:
    house = House(built(npu="", npu__x=""))
    packages = {"ascend_overlay", "ascend_overlay.engine", "ascend_overlay.hooks", "ascend_overlay.overlays"}
    packages |= {"ascend_overlay.overlays.one", "ascend_overlay.overlays.two"}
    assert [text.partition(" ")[0] for text in rules.uninstalled(house, packages)] == ["ascend_overlay.npu"]


def test_an_import_is_read_with_its_line_and_time() -> None:
    text = """import os
if TYPE_CHECKING:
    import a
else:
    import b
async def f():
    try:
        import c.d
    finally:
        pass
"""
    found = arrows({"m": File("m.py", text, False)})
    assert [(arrow.imported, arrow.line, arrow.when) for arrow in found] == [
        ("os", 1, AT_IMPORT),
        ("a", 3, FOR_TYPES),
        ("b", 5, AT_IMPORT),
        ("c.d", 8, IN_A_FUNCTION),
    ]


def test_the_imports_of_the_house_are_read() -> None:
    assert len(HOUSE.files) > 250 and len(HOUSE.arrows) > 500
    assert {"ascend_overlay", "ascend_overlay.hooks.spec", "ascend_overlay.overlays.moe"} <= HOUSE.files.keys()
