"""What a module binds, and where each name comes from."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from ascend_overlay.source.module import Module, Names
from ascend_overlay.source.sources import Sources

TEXT = """
import os.path
import os.path as paths
from . import sibling
from ..above import Thing as Renamed
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Never
else:
    Always = 1
try:
    from fast import run
except ImportError as error:
    def run(): ...
with open("x") as handle:
    inside = 1
for index, (left, right) in []:
    counted = 1
match index:
    case [first, *rest]: matched = 1
    case {"a": value, **others}: pass
(walrus := 3)
plain: int = 1
unset: int
items[0] = taken = [inner for inner in range(3) if (leaked := inner)]
class Cls:
    attribute = 1
    declared: int
    def method(self): local = 1
    class Inner: ...
    if True:
        branch = 1
def function(argument): local = 1
Cls.added = function
del plain
"""


@pytest.fixture
def module(site: Any) -> Module:
    site.write({"pack/part/here.py": TEXT})
    found = Sources().module("pack.part.here")
    assert found is not None
    return found


def test_the_names_are_all_that_run_when_it_is_imported(module: Module) -> None:
    spelled = (
        "os paths sibling Renamed TYPE_CHECKING Always run error handle inside index left right counted first rest "
    )
    spelled += "matched value others walrus plain taken leaked Cls function"
    assert set(module.names) == set(spelled.split())
    assert [binding.kind for binding in module.names["run"]] == ["import", "function"]
    assert [isinstance(binding.node, ast.Delete) for binding in module.names["plain"]] == [False, True]


@pytest.mark.parametrize(
    ("name", "kind", "conditional", "origin"),
    [
        ("os", "import", False, ("os", "")),
        ("paths", "import", False, ("os.path", "")),
        ("sibling", "import", False, ("pack.part", "sibling")),
        ("Renamed", "import", False, ("pack.above", "Thing")),
        ("Always", "value", False, ("", "")),
        ("inside", "value", True, ("", "")),
        ("matched", "value", True, ("", "")),
        ("handle", "value", False, ("", "")),
        ("Cls", "class", False, ("", "")),
        ("function", "function", False, ("", "")),
    ],
)
def test_where_a_name_comes_from(
    module: Module, name: str, kind: str, conditional: bool, origin: tuple[str, str]
) -> None:
    binding = module.names.only(name)
    assert binding is not None
    assert (binding.kind, binding.conditional, (binding.module, binding.original)) == (kind, conditional, origin)


def test_a_name_that_is_bound_twice_is_the_only_one_where_both_import_the_same() -> None:
    def names(text: str) -> Names:
        return Names(ast.parse(text).body, "pack")

    assert names("import os\nimport os.path\n").only("os") is not None
    assert names("from a import b\nfrom a import b\n").only("b") is not None
    assert names("from a import b\nfrom c import b\n").only("b") is None
    assert names("def b(): ...\ndef b(): ...\n").only("b") is None


def test_a_class_has_members(module: Module) -> None:
    cls = module.cls("Cls")
    assert cls is not None
    assert list(cls.members) == ["attribute", "method", "Inner", "branch"]
    assert cls.inner("Inner") is not None and cls.method("method") is not None
    assert cls.inner("method") is None and cls.method("Inner") is None
    assert module.added == {"Cls": frozenset({"added"})}
    assert module.function("function") is not None and module.function("Cls") is None and module.cls("run") is None
    assert [each.name for each in module.classes()] == ["Cls"]


@pytest.mark.parametrize(
    ("text", "makes", "writes"),
    [
        ("x = 1", False, False),
        ("def f(self): setattr(self, 'a', 1)", True, False),
        ("globals()['a'] = 1", True, True),
        ("exec('a = 1')", True, True),
        ("import sys\nsys.modules[__name__].a = 1", False, True),
        ("import sys as s\ns.modules[__name__].a = 1", False, True),
        ("from sys import modules as m\nm[__name__].a = 1", False, True),
        ("import pack.here\npack.here.a = 1", False, True),
        ("from pack import here\nhere.a = 1", False, True),
        ("from . import here\nhere.a = 1", False, True),
        ("from .other import *", True, False),
        ("def __getattr__(name): ...", True, False),
        ("def f(self): return self.modules()", False, False),
    ],
)
def test_a_module_that_makes_names_without_spelling_them_is_known(
    site: Any, text: str, makes: bool, writes: bool
) -> None:
    site.write({"pack/here.py": text})
    found = Sources().module("pack.here")
    assert found is not None
    assert (found.makes_names, found.writes_unspelled) == (makes, writes)
