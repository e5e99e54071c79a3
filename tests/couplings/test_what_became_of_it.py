"""What became of a name: a table of every kind of change."""

from __future__ import annotations

import textwrap

import pytest
from two_states import Files, World

from ascend_overlay.couplings.comparison import Comparison

_PLAIN = "def f(a, b=1):\n    return a + b\n"
_CLASS = "class C:\n    def m(self, x):\n        return x\n\n    def other(self):\n        return 1\n"


def _case(name: str, old: Files | str, new: Files | str, label: str, what: str, detail: str = "") -> object:
    files = [{"a.py": textwrap.dedent(each)} if isinstance(each, str) else each for each in (old, new)]
    return pytest.param(*files, label, what, detail, id=name)


CASES = [
    _case("same", _PLAIN, _PLAIN, "vllm.a:f", "unchanged"),
    _case("another line", _PLAIN, f"import os\n\n\n{_PLAIN}", "vllm.a:f", "unchanged"),
    _case("comment", _PLAIN, _PLAIN.replace("return", "# why\n    return"), "vllm.a:f", "layout"),
    _case("docstring", _PLAIN, _PLAIN.replace("    return", '    """Say."""\n    return'), "vllm.a:f", "layout"),
    _case("format", _PLAIN, "def f(\n    a,\n    b=1,\n):\n    return (a + b)\n", "vllm.a:f", "layout"),
    _case("annotations", _PLAIN, "def f(a: int, b: int = 1) -> int:\n    return a + b\n", "vllm.a:f", "layout"),
    _case("body", _PLAIN, _PLAIN.replace("a + b", "a - b"), "vllm.a:f", "body"),
    _case("new argument", _PLAIN, _PLAIN.replace("b=1", "b=1, c=2"), "vllm.a:f", "signature"),
    _case("renamed argument", _PLAIN, "def f(x, b=1):\n    return x + b\n", "vllm.a:f", "signature"),
    _case("default", _PLAIN, _PLAIN.replace("b=1", "b=2"), "vllm.a:f", "signature"),
    _case("keyword only", _PLAIN, _PLAIN.replace("a, b", "a, *, b"), "vllm.a:f", "signature"),
    _case("function to class", _PLAIN, "class f:\n    pass\n", "vllm.a:f", "kind"),
    _case("class to factory", "class F:\n    pass\n", "def F():\n    pass\n", "vllm.a:F", "kind"),
    _case("becomes async", _PLAIN, _PLAIN.replace("def", "async def"), "vllm.a:f", "kind"),
    _case("becomes generator", _PLAIN, _PLAIN.replace("return", "yield"), "vllm.a:f", "kind"),
    _case(
        "method to property",
        _CLASS,
        _CLASS.replace("    def other", "    @property\n    def other"),
        "vllm.a:C.other",
        "kind",
    ),
    _case(
        "method to static",
        _CLASS,
        _CLASS.replace("    def m(self, ", "    @staticmethod\n    def m("),
        "vllm.a:C.m",
        "kind",
    ),
    _case(
        "attribute to property",
        "class C:\n    x = 1\n",
        "class C:\n    @property\n    def x(self):\n        return 1\n",
        "vllm.a:C.x",
        "body",
    ),
    _case("gone", _PLAIN, "x = 1\n", "vllm.a:f", "gone"),
    _case("module gone", _PLAIN, {"b.py": ""}, "vllm.a:f", "gone"),
    _case("method gone", _CLASS, "class C:\n    pass\n", "vllm.a:C.m", "gone"),
    _case("method of a base", _CLASS, f"{_CLASS}\n\nclass D(C):\n    pass\n", "vllm.a:C.m", "unchanged"),
    _case(
        "moved to a base",
        _CLASS,
        _CLASS.replace("class C", "class B") + "\n\nclass C(B):\n    pass\n",
        "vllm.a:C.m",
        "moved",
        "vllm.a:B.m",
    ),
    _case("re-exported", _PLAIN, {"a.py": "from vllm.b import f\n", "b.py": _PLAIN}, "vllm.a:f", "moved", "vllm.b:f"),
    _case(
        "re-exported by a star",
        _PLAIN,
        {"a.py": "from vllm.b import *\n", "b.py": _PLAIN},
        "vllm.a:f",
        "moved",
        "vllm.b:f",
    ),
    _case(
        "re-exported and changed",
        _PLAIN,
        {"a.py": "from vllm.b import f\n", "b.py": _PLAIN.replace("+", "*")},
        "vllm.a:f",
        "body",
        "vllm.b:f",
    ),
    _case("module to package", _PLAIN, {"a/__init__.py": _PLAIN}, "vllm.a:f", "unchanged"),
    _case("members", _CLASS, _CLASS.replace("other", "another"), "vllm.a:C", "members", "-other +another"),
    _case("base", _CLASS, _CLASS.replace("class C", "class C(dict)"), "vllm.a:C", "members"),
    _case("field", "class C:\n    x: int\n", "class C:\n    x: str\n", "vllm.a:C", "members", "~x"),
    _case(
        "made on demand",
        "def __getattr__(n):\n    return TABLE[n]\nTABLE = {'FLAG': 1}\n",
        "def __getattr__(n):\n    return TABLE[n]\nTABLE = {'FLAG': 1}\n",
        "vllm.a:FLAG",
        "unchanged",
    ),
    _case(
        "made on demand no more",
        "def __getattr__(n):\n    return TABLE[n]\nTABLE = {'FLAG': 1}\n",
        "def __getattr__(n):\n    return TABLE[n]\nTABLE = {'GLAF': 1}\n",
        "vllm.a:FLAG",
        "gone",
    ),
    _case("computed", "x = make()\n", "x = make()\n", "vllm.a:x.y", "unknown"),
    _case(
        "set by a method",
        "class C:\n    def __init__(self):\n        self.x = 1\n",
        "class C:\n    def __init__(self):\n        self.y = 1\n",
        "vllm.a:C.x",
        "gone",
    ),
    _case(
        "set by a method, and now by another",
        "class C:\n    def __init__(self):\n        self.x = 1\n",
        "class C:\n    def start(self):\n        self.x = 2\n",
        "vllm.a:C.x",
        "body",
    ),
    _case(
        "through annotations",
        "class I:\n    x: int = 1\n\n\nclass C:\n    inner: 'I | None'\n",
        "class I:\n    y: int = 1\n\n\nclass C:\n    inner: 'I | None'\n",
        "vllm.a:C.inner.x",
        "gone",
    ),
    _case(
        "nested class",
        "class C:\n    class D:\n        def m(self):\n            return 1\n",
        "class C:\n    class D:\n        def m(self):\n            return 2\n",
        "vllm.a:C.D.m",
        "body",
    ),
    _case(
        "in a branch",
        "try:\n    import x\nexcept ImportError:\n    def f():\n        return 1\n",
        "try:\n    import x\nexcept ImportError:\n    def f():\n        return 2\n",
        "vllm.a:f",
        "body",
    ),
    _case("a module", "x = 1\n", "x = 2\n", "vllm.a", "body"),
    _case("syntax of a newer Python", _PLAIN, "def f(a, b=1:\n    return a + b\n", "vllm.a:f", "unknown"),
]


@pytest.mark.parametrize(("old", "new", "label", "what", "detail"), CASES)
def test_what_became_of_a_name(world: World, old: Files, new: Files, label: str, what: str, detail: str) -> None:
    found = Comparison(world.atlas("old", old), world.atlas("new", new)).change(label)
    assert found.what == what
    assert detail in (found.moved_to, " ".join(found.members), "") or detail in " ".join(found.members)
    if what in ("body", "signature"):
        assert "@@" in found.diff


CANDIDATES = [
    pytest.param({"b.py": _PLAIN}, ["vllm.b:f"], "moved", id="moved"),
    pytest.param({"a.py": _PLAIN.replace("def f", "def g")}, ["vllm.a:g"], "renamed", id="renamed"),
    pytest.param(
        {"b.py": "def f():\n    pass\n", "c.py": _PLAIN},
        ["vllm.c:f", "vllm.b:f"],
        "moved",
        id="the one that is alike first",
    ),
    pytest.param({"a.py": "def g(z):\n    raise ValueError(z)\n"}, [], "", id="nothing alike"),
    pytest.param({"a.py": "class g:\n    pass\n"}, [], "", id="another kind"),
]


@pytest.mark.parametrize(("new", "labels", "how"), CANDIDATES)
def test_what_is_gone_may_be_elsewhere(world: World, new: Files, labels: list[str], how: str) -> None:
    found = Comparison(world.atlas("old", {"a.py": _PLAIN}), world.atlas("new", new)).change("vllm.a:f")
    assert found.what == "gone"
    assert [each.label for each in found.candidates] == labels
    assert {each.how for each in found.candidates} <= {how}


def test_a_method_that_was_renamed_is_found_in_its_class(world: World) -> None:
    old = {"a.py": _CLASS}
    new = {"a.py": _CLASS.replace("def m(", "def renamed(")}
    found = Comparison(world.atlas("old", old), world.atlas("new", new)).change("vllm.a:C.m")
    assert [each.label for each in found.candidates] == ["vllm.a:C.renamed"]


def test_a_module_that_was_moved_is_found_by_its_name(world: World) -> None:
    found = Comparison(world.atlas("old", {"a.py": _PLAIN}), world.atlas("new", {"deep/a.py": _PLAIN})).change("vllm.a")
    assert [str(each) for each in found.candidates] == ["vllm.deep.a (100% alike)"]


def test_without_anything_to_compare_with_there_is_only_there_and_gone(world: World) -> None:
    compared = Comparison(None, world.atlas("new", {"a.py": _PLAIN}))
    assert [compared.change(label).what for label in ("vllm.a:f", "vllm.a:g", "vllm.b")] == [
        "unchanged",
        "gone",
        "gone",
    ]
