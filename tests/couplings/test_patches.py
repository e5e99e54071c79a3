"""What is said of a patch of each kind: a table of two states of vllm and of the patch between them."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable

import pytest
from two_states import Files, World

from ascend_overlay import Overlay, conditions
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.leaning import Leaning
from ascend_overlay.couplings.overlays import OverlayFinding, judge_overlays
from ascend_overlay.couplings.targets import judge_patch

Declare = Callable[[Overlay], object]
_HELD = """
from torch.nn import Module
from vllm.a import C, D
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.v1.attention.backend import AttentionBackend
class Sub(C):
    pass
class SubD(D):
    pass
class A(Module):
    pass
class B(AttentionBackend):
    pass
class Q(QuantizationConfig):
    pass
class Plain:
    pass
"""
MINE = {
    "impl.py": "def f(a, b=1):\n    pass\n\ndef wide(*args, **kwargs):\n    pass\n",
    "held.py": _HELD,
}


def _case(name: str, declare: Declare, old: Files | str, new: Files | str, said: str) -> object:
    files = [{"a.py": textwrap.dedent(each)} if isinstance(each, str) else each for each in (old, new)]
    return pytest.param(declare, *files, said, id=name)


def _wrap(target: str) -> Declare:
    return lambda overlay: overlay.wrap(target, "mine.impl:wide")


def _edit(overlay: Overlay) -> None:
    overlay.edit("vllm.a:f", find="return a + b", put="return 1")


def _built(a: int) -> int:
    return a


def _serve(kind: str, implementation: str, overlay: Overlay) -> None:
    getattr(overlay, kind)("CUSTOM", implementation)


_F = "def f(a, b=1):\n    return a + b\n"
_C = "class C:\n    def m(self):\n        return 1\n"
_D = "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int = 1\n"
_E = "import enum\nclass E(enum.Enum):\n    A = 1\n"
_P = "class C:\n    @property\n    def p(self):\n        return 1\n"
_T = "T = {'a': 1}\nL = ['a', 'b']\n"
_MODELS = "model_executor/models/registry.py"
_QUANTIZATION = "model_executor/layers/quantization/__init__.py"
_BACKENDS = "v1/attention/backends/registry.py"
_NOT_ANY_MORE = "breaking certain: there is no "

CASES = [
    _case("wrap, gone", _wrap("vllm.a:f"), _F, "x = 1\n", "breaking certain: gone"),
    _case("wrap, a property", _wrap("vllm.a:C.p"), _P, _P.replace("return 1", "return 2"), "behavioural certain: body"),
    _case("wrap, a number now", _wrap("vllm.a:f"), _F, "f = 1\n", "breaking certain: was a function, is a value"),
    _case("wrap, what a call makes now", _wrap("vllm.a:f"), _F, "f = make(1)\n", "unknown certain: cannot be told"),
    _case(
        "wrap, another name of it now",
        _wrap("vllm.a:f"),
        _F,
        _F.replace("def f", "def g") + "f = g\n",
        "behavioural certain: body changed; defined in vllm.a:g",
    ),
    _case(
        "wrap, made on demand now",
        _wrap("vllm.a:f"),
        _F,
        "def __getattr__(name):\n    if name == 'f':\n        return 1\n",
        "unknown certain: cannot be told",
    ),
    _case("wrap, new", _wrap("vllm.a:f"), "x = 1\n", _F, "none certain: there now, and was not before"),
    _case(
        "wrap, of a star import that hides it",
        _wrap("vllm.a:f"),
        {"a.py": "from vllm.b import *\n", "b.py": _F},
        {"a.py": "from vllm.b import *\n", "b.py": f"__all__ = ['g']\n{_F}\ng = 1\n"},
        "breaking likely: gone; perhaps vllm.b:f (100% alike)",
    ),
    _case(
        "wrap, of a property that is a value now",
        _wrap("vllm.a:C.p"),
        "class C:\n    @property\n    def p(self):\n        return 1\n",
        "class C:\n    p = 1\n",
        "breaking certain: is a value, which is not called",
    ),
    _case(
        "wrap, of what something else replaces after it",
        _wrap("vllm.a:f"),
        _F,
        f"{_F}f = None\n",
        "breaking certain: was a function, is a value",
    ),
    _case(
        "wrap, of what a call takes over", _wrap("vllm.a:f"), _F, f"{_F}f = g(f)\n", "unknown certain: cannot be told"
    ),
    _case(
        "wrap, of what is there in a branch now",
        _wrap("vllm.a:f"),
        _F,
        f"import sys\nif sys.argv:\n{textwrap.indent(_F, '    ')}else:\n    f = None\n",
        "unknown certain: cannot be told",
    ),
    _case(
        "wrap, of what was there in a branch",
        _wrap("vllm.a:f"),
        f"import sys\nif sys.argv:\n{textwrap.indent(_F, '    ')}",
        _F,
        "none certain: comments",
    ),
    _case(
        "subclass, of an enumeration now",
        lambda overlay: overlay.subclass("vllm.a:C", "mine.held:Sub"),
        "class C:\n    pass\n",
        "from enum import Enum\nclass C(Enum):\n    A = 1\n",
        "breaking certain: is an enumeration, and nothing derives from one that has members",
    ),
    _case(
        "replace by a name",
        lambda overlay: overlay.replace("vllm.a:f", "mine.impl:f"),
        _F,
        "def f(a, b=1, c=2):\n    return a\n",
        "breaking certain: our replacement does not take every call: it takes no positional argument 'c'",
    ),
    _case(
        "replace, of what is decorated",
        lambda overlay: overlay.replace("vllm.a:f", "mine.impl:f"),
        _F,
        "@somehow\ndef f(x, a, b=1):\n    return a\n",
        "breaking likely: our replacement does not take every call",
    ),
    _case("edit, found", _edit, _F, "def f(a, b=1):\n    x = 1\n    return a + b\n", "behavioural certain: body"),
    _case("edit, not found", _edit, _F, _F.replace("+", "-"), "breaking certain: the lines to edit"),
    _case(
        "edit, found twice",
        _edit,
        _F,
        "def f(a, b=1):\n    if a:\n        return a + b\n    return a + b\n",
        "breaking certain: the lines to edit (`return a + b` ...) are found 2 times, at 3, 4",
    ),
    _case(
        "edit, of one of two branches",
        _edit,
        _F,
        "if FAST:\n    def f(a, b=1):\n        return a + b\nelse:\n    def f(a, b=1):\n        return a\n",
        "behavioural certain: body changed",
    ),
    _case(
        "factory, of a class with another constructor",
        lambda overlay: overlay.factory("vllm.a:C")(_built),
        "class C:\n    def __init__(self, a):\n        pass\n",
        "class C:\n    def __init__(self, a, b):\n        pass\n",
        "breaking likely: our function does not take every call: it takes no positional argument 'b'",
    ),
    _case("field", lambda o: o.field("vllm.a:D.x", default=2), _D, _D, "none certain: unchanged"),
    _case(
        "field, gone",
        lambda o: o.field("vllm.a:D.x", default=2),
        _D,
        _D.replace("x:", "y:"),
        "breaking certain: gone",
    ),
    _case(
        "field, of what declares none any more",
        lambda o: o.field("vllm.a:D.x", default=2),
        _D,
        _D.replace("@dataclass\n", ""),
        "breaking likely: vllm.a:D declares no fields any more",
    ),
    _case(
        "field, a new one",
        lambda o: o.field("vllm.a:D.z", default=2, annotation=int),
        _D,
        _D,
        "none certain: not there, as it should be",
    ),
    _case(
        "field, a new one that is there now",
        lambda o: o.field("vllm.a:D.z", default=2, annotation=int),
        _D,
        f"{_D}    z: int = 3\n",
        "breaking certain: is there now, and the patch is to bring it",
    ),
    _case("member", lambda o: o.member("vllm.a:E.B", 2), _E, _E, "none certain: not there, as it should be"),
    _case(
        "member, there now", lambda o: o.member("vllm.a:E.B", 2), _E, f"{_E}    B = 3\n", "breaking certain: is there"
    ),
    _case("member, without its class", lambda o: o.member("vllm.a:E.B", 2), _E, _F, f"{_NOT_ANY_MORE}vllm.a:E"),
    _case(
        "member, of another class",
        lambda o: o.member("vllm.a:E.B", 2),
        _E,
        "class E:\n    A = 1\n",
        "breaking likely: vllm.a:E is no enumeration any more",
    ),
    _case(
        "item, of a list now", lambda o: o.item("vllm.a:T", "k", 2), _T, "T = ['a']\n", "breaking certain: is a list"
    ),
    _case("entry", lambda o: o.entry("vllm.a:L", "c"), _T, _T, "none certain: unchanged"),
    _case(
        "entry, there now", lambda o: o.entry("vllm.a:L", "c"), _T, "L = ['c']\n", "breaking certain: has 'c' already"
    ),
    _case(
        "entry, without its neighbour",
        lambda o: o.entry("vllm.a:L", "c", before="b"),
        _T,
        "L = ['a']\n",
        "breaking certain: has no 'b' any more",
    ),
    _case("remove, gone", lambda o: o.remove("vllm.a:f"), _F, "x = 1\n", "breaking certain: gone"),
    _case(
        "remove, key gone", lambda o: o.remove("vllm.a:T", key="a"), _T, "T = {}\n", "breaking certain: has no 'a' to"
    ),
    _case("add", lambda o: o.add("vllm.a:g", 1), _F, _F, "none certain: not there, as it should be"),
    _case("add, there now", lambda o: o.add("vllm.a:g", 1), _F, "g = 1\n", "breaking certain: is there now"),
    _case(
        "add, without its class", lambda o: o.add("vllm.a:C.g", 1), _C, _F, f"{_NOT_ANY_MORE}vllm.a:C to bring it to"
    ),
    _case(
        "add, without its module",
        lambda o: o.add("vllm.b:g", 1),
        {"a.py": "", "b.py": ""},
        {"a.py": ""},
        f"{_NOT_ANY_MORE}vllm.b to bring it to",
    ),
    _case("alias", lambda o: o.module_alias("vllm.z", "mine"), _F, _F, "none certain: not there, as it should be"),
    _case(
        "alias, without its package",
        lambda o: o.module_alias("vllm.p.z", "mine"),
        {"p/__init__.py": ""},
        _F,
        f"{_NOT_ANY_MORE}vllm.p",
    ),
    _case(
        "alias, of a module that is gone",
        lambda o: o.module_alias("vllm.z", "vllm.b"),
        {"b.py": ""},
        _F,
        "breaking certain: there is no vllm.b to serve it with",
    ),
    _case(
        "subclass, of a dataclass that became a pydantic class",
        lambda o: o.subclass("vllm.a:D", "mine.held:SubD"),
        _D,
        "from pydantic import BaseModel\nclass D(BaseModel):\n    x: int = 1\n",
        "behavioural certain: was a dataclass, is a pydantic class",
    ),
    _case(
        "wrap, of a package that is not here",
        _wrap("nowhere_at_all.a:f"),
        _F,
        _F,
        "unknown certain: nowhere_at_all is not installed here",
    ),
    _case(
        "wrap, of a package that is not here, as its condition says",
        lambda o: o.wrap("nowhere_at_all.a:f", "mine.impl:wide", when=conditions.distribution("nowhere_at_all")),
        _F,
        _F,
        "none certain: nowhere_at_all is not installed here, and its condition leaves it out",
    ),
    _case(
        "model, without the registry",
        lambda o: o.model("Arch", "mine.held:A"),
        {_MODELS: "class ModelRegistry:\n    pass\n"},
        {_MODELS: "x = 1\n"},
        "breaking certain: gone",
    ),
    _case(
        "quantization, without the function",
        lambda o: o.quantization("q", "mine.held:A"),
        {_QUANTIZATION: "def register_quantization_config(name):\n    pass\n"},
        {_QUANTIZATION: ""},
        "breaking certain: gone",
    ),
    _case(
        "attention backend, without the names",
        lambda o: o.attention_backend("CUSTOM", "mine.held:B"),
        {_BACKENDS: "class AttentionBackendEnum:\n    CUSTOM = ''\n"},
        {_BACKENDS: ""},
        "breaking certain: gone",
    ),
]


_SERVED = {
    _MODELS: "class ModelRegistry:\n    pass\n",
    _QUANTIZATION: "def register_quantization_config(name):\n    pass\n",
    "model_executor/layers/quantization/base_config.py": "class QuantizationConfig:\n    pass\n",
    _BACKENDS: "class AttentionBackendEnum:\n    CUSTOM = ''\n",
    "v1/attention/backend.py": "class AttentionBackend:\n    pass\n",
    "a.py": f"{_C}{_D}",
}
CASES += [
    _case(f"{kind} of {given}", functools.partial(_serve, kind, given), _SERVED, _SERVED, said)
    for kind, right, base in (
        ("model", "A", "torch.nn.Module"),
        ("attention_backend", "B", "vllm.AttentionBackend"),
        ("quantization", "Q", "vLLM's QuantizationConfig"),
    )
    for given, said in (
        (f"mine.held:{right}", "none certain"),
        ("mine.held:Plain", f"breaking certain: mine.held:Plain is no subclass of {base}"),
        ("mine.held:NotThere", "breaking certain: the implementation mine.held:NotThere does not exist"),
        ("mine.nowhere:A", "breaking certain: the implementation mine.nowhere:A does not exist (no mine.nowhere)"),
    )
]


@pytest.mark.parametrize(("declare", "old", "new", "said"), CASES)
def test_what_is_said_of_a_patch(world: World, declare: Declare, old: Files, new: Files, said: str) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    declare(overlay)
    compared = Comparison(world.atlas("old", old, MINE), world.atlas("new", new, MINE))
    found = judge_patch(overlay.patches[0], compared)
    assert f"{found.weight} {found.sure}: {found.why}".startswith(said)


def test_what_one_patch_brings_another_one_adds_to(world: World) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    overlay.module_alias("vllm.p", "mine")
    overlay.module_alias("vllm.p.z", "mine")
    atlas = world.atlas("new", {}, MINE)
    (found,) = judge_overlays(
        {"one": (overlay, "here")},
        Comparison(None, atlas),
        Leaning(atlas, "vllm", [overlay]),
        package="vllm",
        version="",
    )
    assert [each.finding.weight for each in found.patches] == ["none", "none"]


_PLUGIN = {
    "sub/__init__.py": "HERE = __name__\n",
    "sub/late.py": "from vllm.a import f\nf(1, 2)\n",
    "sub/named.py": "HERE = __name__.rpartition('.')[0]\nWORKER = f'{HERE}.worker.Worker'\n",
    "sub/worker.py": "from vllm.a import f\nf(1, 2)\nclass Worker:\n    pass\n",
    "sub/relative.py": "from . import worker\n",
    "sub/absolute.py": "import mine.sub.worker\n",
    "sub/direct.py": "import mine.sub.other\ndef give(*args):\n    return 1\n",
    "sub/tables.py": (
        "import sys\ndef ours(a):\n    pass\ndef give():\n"
        "    for (module, name), value in {('vllm.a', 'f'): ours}.items():\n"
        "        vars(sys.modules[module])[name] = value\n"
    ),
    "sub/lists.py": (
        "import vllm.a\ndef ours(a):\n    pass\ndef give():\n    for n in ('f',):\n        setattr(vllm.a, n, ours)\n"
    ),
}
_TWO, _ONE = "def f(a, b=1):\n    pass\n", "def f(a):\n    pass\n"
_CALL = "breaking call vllm.a:f"


@pytest.mark.parametrize(
    ("implementation", "old", "new", "said"),
    [
        pytest.param("mine.sub.late:f", _TWO, _ONE, [_CALL], id="the module of the implementation"),
        pytest.param("mine.sub.named:f", _TWO, _ONE, [_CALL], id="a class that an f-string names"),
        pytest.param("mine.sub.relative:f", _TWO, _ONE, [_CALL], id="a relative import"),
        pytest.param("mine.sub.absolute:f", _TWO, _ONE, [_CALL], id="an import"),
        pytest.param("mine.sub.direct:give", _TWO, _ONE, [], id="nothing of it"),
        pytest.param("mine.sub.tables:give", _ONE, _TWO, ["breaking patch vllm.a:f"], id="a table of names"),
        pytest.param("mine.sub.lists:give", _ONE, _TWO, ["breaking patch vllm.a:f"], id="a loop over names"),
        pytest.param("mine.sub.lists:give", _TWO, _ONE, [], id="a loop over names that fits"),
    ],
)
def test_what_an_implementation_reaches_is_read(
    world: World, implementation: str, old: str, new: str, said: list[str]
) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    overlay.wrap("vllm.a:g", implementation)
    assert [line for line in _leans(world, overlay, old, new) if line.startswith("breaking")] == said


def test_what_waits_for_a_module_of_ours_has_that_read(world: World) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    overlay.call("mine.sub.worker", do="mine.sub.direct:give", irreversible=True, reason="It is ours.")
    assert _CALL in _leans(world, overlay, _TWO, _ONE)


@pytest.mark.parametrize(("version", "breaks"), [("1.0", False), ("2.0", True), ("", True)])
def test_what_patches_for_other_releases_lean_on_does_not_count(world: World, version: str, breaks: bool) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    overlay.wrap("vllm.a:g", "mine.sub.direct:give", vllm="<2")
    overlay.wrap("vllm.a:g", "mine.sub.late:f", vllm=">=2")
    # The declaration names both.
    declared = {"declared.py": "ONE, OTHER = 'mine.sub.direct:give', 'mine.sub.late:f'\n"}
    told = _leans(world, overlay, _TWO, _ONE, version, declared)
    assert (_CALL in told) is breaks


@pytest.mark.parametrize("kind", ["wrap", "gone"])
@pytest.mark.parametrize(("version", "weight"), [("1.0", "none"), ("2.0", "breaking")])
def test_of_alternatives_the_one_for_the_release_counts(world: World, kind: str, version: str, weight: str) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    targets = ("vllm.a:g", "vllm.a:gone_there") if kind == "wrap" else ("vllm.a:g", "vllm.b:gone_there")
    for target, vllm in zip(targets, ("<2", ">=2"), strict=True):
        overlay.wrap(target, "mine.sub.direct:give", vllm=vllm)
    old = {"a.py": "def g():\n    pass\ndef gone_there():\n    pass\n", "b.py": "def gone_there():\n    pass\n"}
    (found,) = _judged(world, overlay, old, {"a.py": "def g():\n    pass\n"}, version, {})
    assert found.weight == weight


@pytest.mark.parametrize(
    ("last", "breaks"), [("    def g(self):\n        pass\n", False), ("    pass\n", True)], ids=["has it", "lacks it"]
)
def test_what_is_abstract_is_asked_of_the_class_that_is_made(world: World, last: str, breaks: bool) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    overlay.wrap("vllm.a:C", "mine.last:Last")
    mine = {
        "first.py": "from vllm.a import C\nclass First(C):\n    pass\n",
        "last.py": f"from mine.first import First\nclass Last(First):\n{last}",
    }
    old = "from abc import abstractmethod\nclass C:\n    def f(self):\n        pass\n"
    new = f"{old}    @abstractmethod\n    def g(self):\n        pass\n"
    assert ("breaking base vllm.a:C" in _leans(world, overlay, old, new, "", mine)) is breaks


_SETS = "from vllm.a import C\nC.site = 1\ndef f(wrapped, instance, args, kwargs):\n    return C.site\n"


@pytest.mark.parametrize(
    ("source", "mine", "said"),
    [
        (
            "class C:\n    pass\n",
            _SETS,
            {"patch vllm.a:C.site": "unknown", "attribute vllm.a:C.site": "none", "import vllm.a:C": "none"},
        ),
        (
            "class C:\n    pass\n",
            _SETS.replace("C.site = 1\n", ""),
            {"attribute vllm.a:C.site": "breaking", "import vllm.a:C": "none"},
        ),
    ],
    ids=["a name that ours sets", "one that nobody sets"],
)
def test_of_one_state_alone_what_ours_sets_is_not_gone(
    world: World, source: str, mine: str, said: dict[str, str]
) -> None:
    overlay = Overlay("one", reason="It is looked at.")
    overlay.wrap("vllm.a:C", "mine.sets:f")
    object.__setattr__(overlay, "declared_in", "mine.declared")
    atlas = world.atlas("here", {"a.py": source}, {"sets.py": mine})
    leaning = Leaning(atlas, "vllm", [overlay])
    (found,) = judge_overlays({"one": (overlay, "here")}, Comparison(None, atlas), leaning, package="vllm", version="")
    assert {f"{each.use.kind} {each.target}": each.weight for each in found.leans if each.use is not None} == said


def _judged(world: World, overlay: Overlay, old: Files, new: Files, version: str, mine: Files) -> list[OverlayFinding]:
    ours = {**_PLUGIN, **mine}
    # This module, which declares it, names much more.
    object.__setattr__(overlay, "declared_in", "mine.declared")
    compared = Comparison(world.atlas("old", old, ours), world.atlas("new", new, ours))
    assert compared.old is not None, "there are two"
    leaning = Leaning(compared.old, "vllm", [overlay])
    return judge_overlays({"one": (overlay, "here")}, compared, leaning, package="vllm", version=version)


def _leans(
    world: World, overlay: Overlay, old: str, new: str, version: str = "", mine: Files | None = None
) -> list[str]:
    (found,) = _judged(world, overlay, {"a.py": old}, {"a.py": new}, version, mine or {})
    return [f"{each.weight} {each.use.kind if each.use else ''} {each.target}" for each in found.leans]
