"""Modules are read once, again when they change, and followed from one to the next."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.source import sources as sources_module
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import LOADABLE, Sources, Where, binds

BROKEN = {
    "syntax": b"class (\n",
    "null byte": b"x = '\0'\n",
    "encoding": b"# coding: ascii\nx = '\xe4'\n",
    "no such encoding": b"# coding: klingon\n",
    "depth": b"x = " + b"-" * 100_000 + b"1\n",
}


@pytest.mark.parametrize("kind", list(BROKEN))
def test_what_cannot_be_read_is_no_module(site: Any, kind: str) -> None:
    site.write({"pack/here.py": ""})
    (site.folder / "pack" / "here.py").write_bytes(BROKEN[kind])
    assert Sources().module("pack.here") is None
    assert binds("pack.here", "x") is None


@pytest.mark.parametrize("module", ["itertools", "pack", "pack.nothing", "no_such_package"])
def test_without_source_there_is_no_module(site: Any, module: str) -> None:
    (site.folder / "pack").mkdir()
    assert Sources().module(module) is None
    assert Sources().text(module) is None


def test_a_file_is_parsed_once_and_again_when_it_changes(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write({"pack/here.py": "x = 1\n"})
    sources = Sources()
    first = sources.module("pack.here")
    assert first is not None and sources.module("pack.here") is first
    (site.folder / "pack" / "here.py").write_text("y = 22\n")
    second = sources.module("pack.here")
    assert second is not None and list(second.names) == ["y"]
    os.utime(site.folder / "pack" / "here.py", ns=(1, 1))
    assert sources.module("pack.here") is not second


def test_no_more_are_kept_than_asked_for(site: Any) -> None:
    site.write({f"pack/m{number}.py": "x = 1\n" for number in range(4)})
    sources = Sources(limit=2)
    kept = [sources.module(f"pack.m{number}") for number in range(4)]
    assert sources.module("pack.m3") is kept[3] and sources.module("pack.m2") is kept[2]
    assert sources.module("pack.m0") is not kept[0]


def test_a_tree_that_is_not_on_the_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "__init__.py").write_text("from .part import run\n")
    (tmp_path / "checkout" / "part.py").write_text("def run(): ...\n")
    sources = Sources(Tree(tmp_path / "checkout", "pack"))
    assert sources.origin("pack", "run") == ("pack.part", "run")
    assert sources.binds("pack", "run") == Where("pack.part", "run", False, 1)
    assert sources.binds("pack.part", "run") == Where("pack.part", "run", True, 1)


ORIGINS = {
    "pack/__init__.py": "from .api import one, Two as Second\nfrom pack.stars import *\n",
    "pack/api.py": "from .impl import one, Two\nfrom .loop import ring\nimport pack.impl\n",
    "pack/impl.py": "def one(): ...\nclass Two: ...\ndef three(): ...\n_hidden = 1\n",
    "pack/stars.py": "from .impl import *\n",
    "pack/loop.py": "from .api import ring\n",
    "pack/unsure.py": "try:\n    from .impl import one\nexcept ImportError:\n    from .stars import one\n",
}


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        (("pack", "one"), ("pack.impl", "one")),
        (("pack", "Second"), ("pack.impl", "Two")),
        (("pack.stars", "three"), ("pack.impl", "three")),
        (("pack.stars", "_hidden"), ("pack.stars", "_hidden")),
        (("pack.api", "nothing"), ("pack.api", "nothing")),
        (("pack.api", "pack"), ("pack.api", "pack")),
        (("pack.unsure", "one"), ("pack.unsure", "one")),
        (("pack.gone", "one"), ("pack.gone", "one")),
    ],
)
def test_a_name_is_followed_to_where_it_is_defined(site: Any, given: tuple[str, str], origin: tuple[str, str]) -> None:
    site.write(ORIGINS)
    (site.folder / "pack" / "__init__.py").write_text(ORIGINS["pack/__init__.py"])
    assert Sources().origin(*given) == origin
    assert "pack" not in sys.modules


def test_a_name_that_is_handed_round_in_a_circle_comes_to_an_end(site: Any) -> None:
    site.write(ORIGINS)
    assert Sources().origin("pack.api", "ring")[1] == "ring"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("def name(): ...", ("pack.here", "name", True)),
        ("class name: ...", ("pack.here", "name", True)),
        ("name = make()", ("pack.here", "name", True)),
        ("from other import name", ("other", "name", False)),
        ("from other import first as name", ("other", "first", False)),
        ("from .other import name", ("pack.other", "name", False)),
        ("import other.name as name", ("other.name", "", False)),
        ("import name.other", ("name", "", False)),
        ("from a import name\nname = wrap(name)", ("pack.here", "name", True)),
        ("try:\n    import name\nexcept ImportError:\n    pass\ndef name(): ...", ("pack.here", "name", True)),
        ("@overload\ndef name(a): ...\n@overload\ndef name(b): ...\ndef name(c): ...", ("pack.here", "name", True)),
        ("from other import *\ndef name(): ...", ("pack.here", "name", True)),
        ("def name(): ...\nfrom other import *", None),
        ("from other import *", None),
        ("try:\n    from other import name\nexcept ImportError:\n    name = None", None),
        ("def name(): ...\nif fast:\n    from other import name", None),
        ("name = None\ndef late():\n    global name\n    name = 1", None),
        ("def name(): ...\ndel name", None),
        ("def name(): ...\nglobals()['na' + 'me'] = 1", None),
        ("import sys\ndef name(): ...\nsys.modules[__name__].name = 1", None),
        ("if TYPE_CHECKING:\n    from other import name", None),
        ("name: int", None),
        ("other = 1", None),
    ],
)
def test_what_binds_a_name_is_told_where_it_is_certain(site: Any, text: str, where: Any) -> None:
    site.write({"pack/here.py": text + "\n"})
    found = binds("pack.here", "name")
    assert (found and (found.module, found.name, found.own)) == where
    assert "pack" not in sys.modules


@pytest.mark.parametrize(
    "name",
    ["json", "json.decoder", "dataclasses", "email.message", "asyncio.tasks", "typing", "pathlib", "inspect", "pluggy",
     "click", "click.core", "rich.console", "packaging.version", "wrapt", "hypothesis", "_pytest.python"],
)  # fmt: skip
def test_what_is_said_of_real_modules_is_so(name: str) -> None:
    module = importlib.import_module(name)
    certain = {key: where for key in vars(module) if (where := binds(name, key)) is not None}
    for key, where in certain.items():
        value = vars(module)[key]
        if where.own:
            home = getattr(value, "__module__", name) if isinstance(value, (type, type(binds))) else name
            assert home == name or f"{home}.".startswith(f"{name.partition('.')[0]}.") or key not in vars(module), key
        else:
            source: Any = importlib.import_module(where.module)
            same = getattr(source, where.name, None) if where.name else source
            assert value is same or value is sys.modules.get(f"{where.module}.{where.name}"), (key, where)
    assert certain or LOADABLE.module(name).writes_unspelled  # type: ignore[union-attr]


def test_a_module_is_read_from_this_process_by_default() -> None:
    assert binds("ascend_overlay.source.sources", "binds") == Where(
        "ascend_overlay.source.sources", "binds", True, binds.__code__.co_firstlineno
    )
    assert sources_module.LOADABLE is LOADABLE


@pytest.mark.vllm
def test_what_is_said_of_vllms_modules_is_so() -> None:
    import vllm.config
    import vllm.model_executor.models.llama
    import vllm.v1.engine.core  # noqa: F401

    said = 0
    for name in sorted(name for name in sys.modules if name.split(".")[0] == "vllm"):
        module: Any = sys.modules[name]
        for key, value in list(vars(module).items()):
            where = binds(name, key)
            if where is None or where.own or where.module not in sys.modules:
                continue
            source = sys.modules[where.module]
            if hasattr(source, "__getattr__") and where.name not in vars(source):
                # It is computed anew each time.
                continue
            child = sys.modules.get(f"{where.module}.{where.name}")
            held = (getattr(source, where.name, None), child)
            assert not where.name or any(value is each for each in held), (name, key, where)
            said += 1
    assert said > 3000
