"""A few lines inside a function, found by what they say: put in place, shown, composed, refused, and taken back."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import linecache
import logging
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConfigError, ConflictError, OverlayError, SignatureError, TargetError
from ascend_overlay.patches import Applied, Edit
from ascend_overlay.places import code as code_module
from ascend_overlay.places.definitions import innermost
from ascend_overlay.places.slots import Slots

pytestmark = pytest.mark.usefixtures("engine")

MODULE = '''
    """A module."""
    from __future__ import annotations
    import contextlib
    import functools
    import math

    SEEN = []

    def noting(function):
        SEEN.append(function.__name__)
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return "<" + function(*args, **kwargs) + ">"
        return inner

    def hiding(function):
        def call(*args):
            return "[" + function(*args) + "]"
        return call

    def function(x, *, y="y"):
        """What it does."""
        found = f"stock {x}"  # what x is
        # This comment stays.
        return found + y

    @noting
    def decorated(x):
        value = "stock"
        return value + x

    @hiding
    def hidden(x):
        return "stock" + x

    @functools.lru_cache(maxsize=None)
    def cached(x):
        return "stock" + x

    @contextlib.contextmanager
    def managed(x):
        yield "stock" + x

    def generator(x):
        for index in range(2):
            yield "stock" + x

    async def later(x):
        return "stock" + x

    def make(prefix):
        def made(x):
            return prefix + "stock" + x
        return made

    made = make("closure ")
    partial = functools.partial(function, "p")

    class Base:
        def method(self, x):
            return "stock base " + x
        def inherited(self, x):
            return "stock inherited " + x

    class Thing(Base):
        def method(self, x):
            value = "stock " + super().method(x)
            return value
        @staticmethod
        def static(x):
            return "stock" + x
        @classmethod
        def of_class(cls, x):
            return cls.__name__ + "stock" + x
        @property
        def size(self):
            return "stock size"
        @functools.cached_property
        def once(self):
            return "stock once"
        def __mangled(self, x):
            return "stock" + x
        def through(self, x):
            return self.__mangled(x)
        async def steps(self, x):
            async for step in self.stepping(x):
                return step
        async def stepping(self, x):
            yield "stock" + x
        class Inner:
            def deep(self, x):
                def deeper():
                    return "stock" + x
                return deeper()
'''


@pytest.fixture(autouse=True)
def _package(site: Any) -> None:
    site.write({"pkg/mod.py": MODULE, "pkg/user.py": "from pkg.mod import function, Thing\nTABLE = {function: 1}\n"})


def mod() -> Any:
    return importlib.import_module("pkg.mod")


def thing() -> Any:
    return mod().Thing()


# target, what is found, what takes its place, a call, what stock gives, what the edited function gives
SHAPES: dict[str, tuple[str, str, str, Callable[[], Any], str, str]] = {
    "function": ("function", "return found + y", "return 'new' + y", lambda: mod().function(1), "stock 1y", "newy"),
    "several statements": (
        "function",
        "found = f'stock {x}'; return found + y",
        "return f'new {x}'",
        lambda: mod().function(1),
        "stock 1y",
        "new 1",
    ),
    "expression": ("function", "found + y", "y + found", lambda: mod().function(1), "stock 1y", "ystock 1"),
    "decorated": ("decorated", "value = 'stock'", "value = 'new'", lambda: mod().decorated("x"), "<stockx>", "<newx>"),
    "decorated without a trace": ("hidden", "'stock'", "'new'", lambda: mod().hidden("x"), "[stockx]", "[newx]"),
    "lru_cache": ("cached", "'stock'", "'new'", lambda: mod().cached.__wrapped__("x"), "stockx", "newx"),
    "context manager": ("managed", "'stock'", "'new'", lambda: mod().managed("x").__enter__(), "stockx", "newx"),
    "generator": ("generator", "range(2)", "range(1)", lambda: "".join(mod().generator("x")), "stockxstockx", "stockx"),
    "async": ("later", "'stock'", "'new'", lambda: asyncio.run(mod().later("x")), "stockx", "newx"),
    "closure": (
        "made",
        "prefix + 'stock'",
        "'new ' + prefix",
        lambda: mod().made("x"),
        "closure stockx",
        "new closure x",
    ),
    "closure no more used": (
        "made",
        "return prefix + 'stock' + x",
        "",
        lambda: str(mod().made("x")),
        "closure stockx",
        "None",
    ),
    "partial": ("partial", "found + y", "found", lambda: mod().partial(), "stock py", "stock p"),
    "super": (
        "Thing.method",
        "value = 'stock ' + super().method(x)",
        "value = super().method(x)\nvalue += ' new'",
        lambda: thing().method("x"),
        "stock stock base x",
        "stock base x new",
    ),
    "super no more used": (
        "Thing.method",
        "'stock ' + super().method(x)",
        "'new'",
        lambda: thing().method("x"),
        "stock stock base x",
        "new",
    ),
    "static": ("Thing.static", "'stock'", "'new'", lambda: mod().Thing.static("x"), "stockx", "newx"),
    "classmethod": ("Thing.of_class", "'stock'", "'new'", lambda: thing().of_class("x"), "Thingstockx", "Thingnewx"),
    "property": ("Thing.size", "'stock size'", "'new'", lambda: thing().size, "stock size", "new"),
    "cached_property": ("Thing.once", "'stock once'", "'new'", lambda: thing().once, "stock once", "new"),
    "private": ("Thing._Thing__mangled", "'stock'", "'new'", lambda: thing().through("x"), "stockx", "newx"),
    "put uses a private name": (
        "Thing.through",
        "return self.__mangled(x)",
        "return 'new ' + self.__mangled(x)",
        lambda: thing().through("x"),
        "stockx",
        "new stockx",
    ),
    "async method": (
        "Thing.steps",
        "return step",
        "return 'new'",
        lambda: asyncio.run(thing().steps("x")),
        "stockx",
        "new",
    ),
    "async generator": (
        "Thing.stepping",
        "yield 'stock' + x",
        "yield await anext(aiter([x]), 'n') if False else 'new'",
        lambda: asyncio.run(thing().steps("x")),
        "stockx",
        "new",
    ),
    "nested class, nested function": (
        "Thing.Inner.deep",
        "'stock'",
        "'new'",
        lambda: mod().Thing.Inner().deep("x"),
        "stockx",
        "newx",
    ),
}


def edit(target: str, find: str, put: str, name: str = "edits") -> Overlay:
    overlay = Overlay(name, reason="test")
    overlay.edit(f"pkg.mod:{target}", find=find, put=put)
    return overlay


def function_at(target: str) -> Any:
    owner: Any = mod()
    *path, name = target.split(".")
    for step in path:
        owner = vars(owner)[step]
    return innermost(vars(owner)[name], name)


@pytest.mark.parametrize("late", [False, True], ids=["imported after", "imported before"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_function_of_any_shape_is_edited_and_restored(shape: str, late: bool, offer: Any) -> None:
    # Given a function, loaded already or not yet
    target, find, put, call, stock, new = SHAPES[shape]
    offer(edit(target, find, put))
    if late:
        assert call() == stock
        function = function_at(target)
        before = function.__code__, function.__closure__, function.__defaults__, inspect.signature(function)
    # When it is edited
    with ascend_overlay.enabled(only=["edits"]):
        # Then it runs what was put there, in the same function object, once decorated
        assert call() == new
        edited = function_at(target)
        assert mod().SEEN == ["decorated"]
        (entry,) = ascend_overlay.ledger().of("edits")
        assert entry.state == "applied"
        assert entry.seam == "code of the function"
        assert re.match(r"\d lines? at line \d+ replaced by \d: - ", entry.notes[0])
    # And afterwards what it ran before, by the very code object
    assert call() == stock
    assert function_at(target) is edited
    if late:
        assert edited is function
        now = function.__code__, function.__closure__, function.__defaults__, inspect.signature(function)
        assert now[0] is before[0]
        assert now[1:] == before[1:]


def test_whoever_holds_the_function_runs_the_edited_one(offer: Any) -> None:
    user = importlib.import_module("pkg.user")
    (key,), bound, closed = user.TABLE, user.Thing().method, (lambda function: lambda: function(1))(user.function)
    offer(edit("function", "found + y", "'new'"), edit("Thing.method", "'stock '", "'new '", name="methods"))
    with ascend_overlay.enabled(only=["edits", "methods"]):
        assert (key(1), user.function(1), closed(), bound("x")) == ("new", "new", "new", "new stock base x")
        assert not any(entry.stale for entry in ascend_overlay.ledger())
    assert (key(1), user.function(1), closed(), bound("x")) == (
        "stock 1y",
        "stock 1y",
        "stock 1y",
        "stock stock base x",
    )


def test_tracebacks_and_getsource_show_the_edited_source(offer: Any) -> None:
    offer(edit("function", "return found + y", "found = found + y\n# why\nreturn undefined"))
    with ascend_overlay.enabled(only=["edits"]):
        function = mod().function
        linecache.checkcache()
        source = inspect.getsource(function)
        assert source.endswith(
            '    found = f"stock {x}"  # what x is\n    # This comment stays.\n    found = found + y\n    # why\n'
            "    return undefined\n"
        )
        with pytest.raises(NameError) as caught:
            function(1)
        frame = traceback.extract_tb(caught.tb)[-1]
        assert frame.line == "return undefined"
        assert frame.name == "function"
        assert frame.filename.startswith("<ascend_overlay edit of pkg.mod:function ")
        assert linecache.getline(frame.filename, frame.lineno or 0).strip() == "return undefined"
        assert (function.__doc__, function.__module__, function.__qualname__) == (
            "What it does.",
            "pkg.mod",
            "function",
        )
        assert function.__kwdefaults__ == {"y": "y"}
    assert inspect.getsource(function).endswith("    return found + y\n")


def test_the_name_of_the_text_differs_where_the_text_does(offer: Any) -> None:
    # vLLM's compile cache goes by it
    names = set()
    for number, put in enumerate(["'new'", "'newer'", "'new'"]):
        offer(edit("function", "found + y", put, name=f"edits{number}"))
        with ascend_overlay.enabled(only=[f"edits{number}"]):
            names.add(mod().function.__code__.co_filename)
    assert len(names) == 2


# the body of a function, what is found, what takes its place, the body that must come of it
TEXTS: dict[str, tuple[str, str, str, str]] = {
    "spacing, quotes, brackets, comments": (
        "a = call( 'x',  # first\n  2 )\nreturn (a)",
        'a = (call("x", 2,))',
        "a = 1",
        "a = 1\nreturn (a)",
    ),
    "comments around stay": (
        "# before\na = 1  # gone\n# after\nreturn a",
        "a = 1",
        "a = 2",
        "# before\na = 2\n# after\nreturn a",
    ),
    "removed": ("a = 1\na = 2\nreturn a", "a = 2", "", "a = 1\npass\nreturn a"),
    "removed by pass": ("a = 1\na = 2\nreturn a", "a = 2", "pass", "a = 1\npass\nreturn a"),
    "only a comment": ("a = 1\na = 2\nreturn a", "a = 2", "# gone", "a = 1\n# gone\npass\nreturn a"),
    "inserted before": ("a = 1\nreturn a", "return a", "a += 1\nreturn a", "a = 1\na += 1\nreturn a"),
    "indented deeper": (
        "if x:\n    for y in x:\n        a = y\nreturn a",
        "a = y",
        "\n    if y:\n        a = 1\n\n    # here\n    else:\n        a = '''\n  kept'''\n",
        (
            "if x:\n    for y in x:\n        if y:\n            a = 1\n\n        # here\n        else:\n"
            "            a = '''\n  kept'''\nreturn a"
        ),
    ),
    "one of several on a line": (
        "a = 1; b = 2; c = 3  # all\nreturn a",
        "b = 2",
        "b = 4",
        "a = 1\nb = 4\nc = 3  # all\nreturn a",
    ),
    "the last on a line": ("a = 1; b = 2\nreturn a", "b = 2", "b = 4", "a = 1\nb = 4\nreturn a"),
    "behind a header": ("if x: a = 1\nreturn a", "a = 1", "a = 2", "if x:\n    a = 2\nreturn a"),
    "last behind a header": (
        "while x: a = 1; break\nreturn a",
        "break",
        "continue",
        "while x:\n    a = 1\n    continue\nreturn a",
    ),
    "behind a header of two lines": (
        "if (x and\n        x): a = 1\nelse: b = 2\nreturn a",
        "a = 1",
        "a = 2",
        "if (x and\n        x):\n    a = 2\nelse: b = 2\nreturn a",
    ),
    "behind else": ("if x: a = 1\nelse: b = 2\nreturn a", "b = 2", "b = 4", "if x: a = 1\nelse:\n    b = 4\nreturn a"),
    "elif": (
        "if x:\n    a = 1\nelif y:\n    a = 2\nreturn a",
        "if y: a = 2",
        "b = 3\na = 4",
        "if x:\n    a = 1\nelse:\n    b = 3\n    a = 4\nreturn a",
    ),
    "a case": (
        "match x:\n    case 1: a = 1\n    case _:\n        a = 2\nreturn a",
        "a = 1",
        "a = 3",
        "match x:\n    case 1:\n        a = 3\n    case _:\n        a = 2\nreturn a",
    ),
    "a handler": (
        "try:\n    a = 1\nexcept ValueError:\n    a = 2\nfinally:\n    b = 3\nreturn a",
        "a = 2",
        "raise",
        "try:\n    a = 1\nexcept ValueError:\n    raise\nfinally:\n    b = 3\nreturn a",
    ),
    "a whole compound statement": (
        "with x as y:\n    a = 1\n    b = 2\nreturn a",
        "with (x) as y:\n  a = 1\n  b = 2",
        "a = 1",
        "a = 1\nreturn a",
    ),
    "a decorated function": (
        "@x\ndef a(): return 1\nreturn a",
        "@x\ndef a():\n    return 1",
        "a = x",
        "a = x\nreturn a",
    ),
    "two statements of three": ("a = 1\nb = 2\nc = 3\nreturn a", "a = 1; b = 2", "d = 1", "d = 1\nc = 3\nreturn a"),
    "an expression that needs brackets": ("return x * y", "y", "a + b", "return x * (a + b)"),
    "an expression that needs none": ("return x * y", "x * y", "a + b", "return a + b"),
    "an expression of several lines": ("a = x\nreturn a", "x", "(1 +\n 2)", "a = (1 +\n 2)\nreturn a"),
    "an expression with a comment": ("return f(x)", "x", "y  # not x", "return f(y)"),
    "the one generator argument": ("return sum(y for y in x)", "(y for y in x)", "x", "return sum(x)"),
    "a condition": ("if x and not y:\n    return 1", "x and not y", "x", "if x:\n    return 1"),
    "a default of a nested function": ("def a(b=1): return b\nreturn a", "1", "2", "def a(b=2): return b\nreturn a"),
    "letters of several bytes": (
        "a = 'äöü', x, 'ß'  # é\nreturn a",
        "x",
        "'日本'",
        "a = 'äöü', '日本', 'ß'  # é\nreturn a",
    ),
    "an f-string": ('return f"{x} and {y}"', "f'{x} and {y}'", "x", "return x"),
    "a call among statements": ("f(x)\nreturn x", "f(x)", "a = 1\nf(a)", "a = 1\nf(a)\nreturn x"),
    "two expressions of one, found by their statement": (
        "a = x\nb = x\nreturn a",
        "b = x",
        "b = y",
        "a = x\nb = y\nreturn a",
    ),
    "a bracketed statement": ("(f(x))\nreturn x", "f(x)", "pass", "pass\nreturn x"),
    "tabs": ("if x:\n\ta = 1\nreturn a", "a = 1", "if y:\n    a = 2", "if x:\n\tif y:\n\t    a = 2\nreturn a"),
    "a string in the docstring's place is not it": (
        "a = 1\n'doc'\nreturn a",
        "'doc'",
        "'new'",
        "a = 1\n'new'\nreturn a",
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_is_not_edited_keeps_every_character(case: str, site: Any, offer: Any) -> None:
    body, find, put, expected = TEXTS[case]
    head = 'def target(x=0, y=0):\n    """Not this: a = 1, x, f(x)."""\n'
    # A string's lines are its own.
    shown = re.sub(r"(?m)^(?=.)(?!  kept)", "    ", expected)
    site.write({"pkg/text.py": head + textwrap.indent(body, "    ") + "\n\n\nafter = 1  # untouched\n"})
    overlay = Overlay("edits", reason="test")
    overlay.edit("pkg.text:target", find=find, put=put)
    offer(overlay)
    with ascend_overlay.enabled(only=["edits"]):
        function = importlib.import_module("pkg.text").target
        assert inspect.getsource(function) == f"{head}{shown}\n"
        assert linecache.getlines(function.__code__.co_filename)[-1] == "after = 1  # untouched\n"


# target, what is found, what is put, the error, what it says
REFUSED: dict[str, tuple[str, str, str, type[OverlayError], str]] = {
    "not there": (
        "function",
        "found = f'stock {x} {y}'",
        "pass",
        TargetError,
        (
            r"nothing in it says what `find` says, `found = f'stock \{x\} \{y\}'`\. The nearest lines of .*mod\.py:\n"
            r"(.*\n)*\s+24 \|     found = f\"stock \{x\}\"  # what x is"
        ),
    ),
    "find is no Python": (
        "function",
        "if x",
        "pass",
        TargetError,
        r"`find` of the edit of pkg\.mod:function is not Python: .*line 1: if x",
    ),
    "put is no Python": ("function", "found + y", "return (", TargetError, "`put` of the edit of .* is not Python"),
    "find is empty": ("function", " \n# nothing\n", "pass", TargetError, "`find` has no statement in it"),
    "put is not an expression": (
        "function",
        "found + y",
        "x = 1",
        TargetError,
        "an expression inside a statement, at line 26",
    ),
    "put is empty for an expression": ("function", "found + y", "", TargetError, "`put` must be one expression"),
    "the docstring": ("function", "'What it does.'", "'Other.'", TargetError, "nothing in it says"),
    "inside an f-string": ("function", "x", "y", TargetError, "`x`. An f-string says it: find the whole string"),
    "becomes a generator": (
        "function",
        "return found + y",
        "yield found",
        SignatureError,
        "is a plain function, and .* would be a generator",
    ),
    "is no generator any more": (
        "generator",
        "yield 'stock' + x",
        "return x",
        SignatureError,
        "is a generator, and .* a plain function",
    ),
    "becomes an asynchronous generator": (
        "later",
        "return 'stock' + x",
        "yield x",
        SignatureError,
        "is a coroutine, and .* asynchronous generator",
    ),
    "awaits": (
        "function",
        "found + y",
        "await found",
        TargetError,
        "with what `put` says it is not Python: 'await' outside async",
    ),
    "breaks": ("function", "return found + y", "break", TargetError, "'break' outside loop"),
    "super where none was": ("Thing.static", "'stock'", "super().x", TargetError, r"write super\(Class, self\)"),
    "assigns to a variable of the closure": (
        "made",
        "return prefix + 'stock' + x",
        "prefix = x",
        TargetError,
        "assigns to prefix, .* nonlocal",
    ),
    "inherited": (
        "Thing.inherited",
        "'stock inherited '",
        "'x'",
        TargetError,
        r"edit pkg\.mod:Base\.inherited, or replace",
    ),
    "a class": ("Thing", "'stock'", "'x'", TargetError, "is a class; name one of its methods"),
    "a list": ("SEEN", "'stock'", "'x'", TargetError, "leads to no Python function"),
    "no such function": ("functoin", "'stock'", "'x'", TargetError, "Did you mean 'function'"),
}


@pytest.mark.parametrize("late", [False, True], ids=["imported after", "imported before"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_edited_is_an_error_that_says_why(case: str, late: bool, offer: Any) -> None:
    target, find, put, error, says = REFUSED[case]
    if late:
        codes = {name: value.__code__ for name, value in vars(mod()).items() if inspect.isfunction(value)}
    offer(edit(target, find, put))
    with pytest.raises(error) as caught, ascend_overlay.enabled(only=["edits"]):
        mod()
    assert re.search(says, str(caught.value)), str(caught.value)
    assert f"pkg.mod:{target}" in str(caught.value)
    assert "overlay 'edits'" in str(caught.value)
    ascend_overlay.disable()
    if late:
        assert all(vars(mod())[name].__code__ is code for name, code in codes.items())


def test_two_matches_are_shown_with_their_lines(site: Any, offer: Any) -> None:
    site.write({"pkg/twice.py": "def f(x):\n    x += 1\n    if x:\n        x  +=  1\n    return x\n"})
    overlay = Overlay("edits", reason="test")
    overlay.edit("pkg.twice:f", find="x += 1", put="pass")
    offer(overlay)
    says = r"is found 2 times; .*twice\.py:\n +2 \|     x \+= 1\n +4 \|         x  \+=  1$"
    with pytest.raises(TargetError, match=says), ascend_overlay.enabled(only=["edits"]):
        importlib.import_module("pkg.twice")


def test_of_many_matches_some_are_shown_each_line_once(site: Any, offer: Any) -> None:
    site.write({"pkg/often.py": "def f(x):\n" + "    x = None or None\n" * 12 + "    return x\n"})
    overlay = Overlay("edits", reason="test")
    overlay.edit("pkg.often:f", find="None", put="1")
    offer(overlay)
    says = r"is found 24 times; .*often\.py:\n +2 \| .*\n +9 \|     x = None or None\n +and in 4 lines more$"
    with pytest.raises(TargetError, match=f"(?s){says}") as caught, ascend_overlay.enabled(only=["edits"]):
        importlib.import_module("pkg.often")
    assert str(caught.value).count("x = None or None") == 8


NO_SOURCE = """
    import dataclasses
    exec("def made(x): return x")
    anonymous = lambda x: x
    @dataclasses.dataclass
    class Data:
        x: int = 0
    def changed(x): return x
    changed.__code__ = (lambda x: 1).__code__
    from math import sqrt
"""


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("made", "no source of it: its code comes from <string>"),
        ("anonymous", "is a lambda"),
        ("Data.__init__", "no source of it"),
        ("changed", "lambda"),
        ("sqrt", "leads to no Python function"),
    ],
)
def test_a_target_without_its_source_is_refused(target: str, says: str, site: Any, offer: Any) -> None:
    site.write({"pkg/none.py": NO_SOURCE})
    overlay = Overlay("edits", reason="test")
    overlay.edit(f"pkg.none:{target}", find="return x", put="return 2")
    offer(overlay)
    with pytest.raises(TargetError, match=says), ascend_overlay.enabled(only=["edits"]):
        importlib.import_module("pkg.none")


def test_a_file_that_changed_since_it_was_imported_is_refused(site: Any, offer: Any) -> None:
    function = mod().function
    site.write({"pkg/mod.py": MODULE.replace("stock {x}", "other {x}")})
    offer(edit("function", "found + y", "'new'"))
    with pytest.raises(TargetError, match="the file has changed since it was imported"):
        ascend_overlay.enable(only=["edits"])
    assert function(1) == "stock 1y"


def test_source_text_must_be_text() -> None:
    with pytest.raises(ConfigError, match=r"overlay 'edits' edits pkg\.mod:function with put=None; pass source text"):
        edit("function", "found + y", None)  # type: ignore[arg-type]


# --- several --------------------------------------------------------------------------------------------------------


def test_edits_of_one_function_compose_and_go_in_any_order(offer: Any) -> None:
    function, stock = mod().function, mod().function.__code__
    offer(
        edit("function", "found = f'stock {x}'", "found = 'one '\n# one", "one"),
        edit("function", "found + y", "found + 'two'", "two"),
    )
    for order in (["one", "two"], ["two", "one"]):
        for first in (["one", "two"], ["two", "one"]):
            for name in order:
                ascend_overlay.enable(only=[name])
            assert function(1) == "one two"
            assert "# one\n" in inspect.getsource(function)
            ascend_overlay.disable(only=first[:1])
            assert function(1) == {"one": "stock 1two", "two": "one y"}[first[0]]
            ascend_overlay.disable()
            assert function.__code__ is stock


def test_an_edit_is_found_in_the_function_as_it_was(offer: Any) -> None:
    # What another edit puts there does not count, whichever comes first.
    one = edit("function", "found = f'stock {x}'", "found = 'a'; found = found + y", "one")
    offer(one, edit("function", "found + y", "found + 'two'", "two"))
    with ascend_overlay.enabled(only=["one", "two"]):
        assert mod().function(1) == "aytwo"


@pytest.mark.parametrize("late", [False, True], ids=["imported after", "imported before"])
def test_two_edits_of_the_same_lines_conflict(late: bool, offer: Any) -> None:
    if late:
        mod()
    offer(
        edit("function", "found + y", "'one'", "one"),
        edit("function", "found = f'stock {x}'; return found + y", "return 'two'", "two"),
    )
    with pytest.raises(
        ConflictError,
        match=r"overlay '(one|two)' \(plugin 'plugin1'\) and overlay '(one|two)' .* both edit line 26 of it",
    ):
        ascend_overlay.enable(only=["one", "two"])
        mod()
    ascend_overlay.disable()
    assert mod().function(1) == "stock 1y"


@pytest.mark.parametrize("order", [["edits", "wraps"], ["wraps", "edits"]])
@pytest.mark.parametrize(
    "target", ["function", "decorated", "Thing.method", "Thing.size", "Thing.of_class", "Thing.once"]
)
def test_wrappers_go_around_an_edited_function(target: str, order: list[str], offer: Any) -> None:
    calls: dict[str, Callable[[], str]] = {
        "function": lambda: mod().function("x"),
        "decorated": lambda: mod().decorated("x"),
        "Thing.method": lambda: thing().method("x"),
        "Thing.size": lambda: thing().size,
        "Thing.of_class": lambda: mod().Thing.of_class("x"),
        "Thing.once": lambda: thing().once,
    }
    finds = {
        "function": "found + y",
        "Thing.method": "'stock '",
        "Thing.size": "'stock size'",
        "Thing.once": "'stock once'",
    }
    wraps = Overlay("wraps", reason="test")
    wraps.wrap(f"pkg.mod:{target}")(lambda wrapped, instance, args, kwargs: f"({wrapped(*args, **kwargs)})")
    offer(edit(target, finds.get(target, "'stock'"), "'new'"), wraps)
    call, stock = calls[target], calls[target]()
    for name in order:
        ascend_overlay.enable(only=[name])
    both = call()
    assert both.startswith("(")
    assert "new" in both
    ascend_overlay.disable(only=order[:1])
    assert call() == (f"({stock})" if order[0] == "edits" else both[1:-1])
    ascend_overlay.disable()
    assert call() == stock


@pytest.mark.parametrize("order", [["edits", "replaces"], ["replaces", "edits"]])
def test_a_function_is_not_both_edited_and_replaced(order: list[str], offer: Any) -> None:
    replaces = Overlay("replaces", reason="test")
    replaces.replace("pkg.mod:function")(lambda x, *, y="y": "replaced")
    offer(edit("function", "found + y", "'new'"), replaces)
    function, stock = mod().function, mod().function.__code__
    ascend_overlay.enable(only=order[:1])
    with pytest.raises(ConflictError, match=r"overlay '(edits|replaces)' .*overlay '(edits|replaces)' .*overlay"):
        ascend_overlay.enable(only=order[1:])
    ascend_overlay.disable()
    assert mod().function is function
    assert function.__code__ is stock


def test_a_subclass_in_the_place_of_the_class_leaves_the_edit_where_it_was(site: Any, offer: Any) -> None:
    site.write(
        {
            "own.py": """
                from pkg.mod import Thing
                class Own(Thing):
                    def method(self, x): return 'own ' + super().method(x)
            """
        }
    )
    classes = Overlay("classes", reason="test")
    classes.subclass("pkg.mod:Thing", "own:Own")
    offer(classes, edit("Thing.method", "'stock '", "'new '"))
    for order in (["classes", "edits"], ["edits", "classes"]):
        for name in order:
            ascend_overlay.enable(only=[name])
        assert thing().method("x") == "own new stock base x"
        ascend_overlay.disable()
        assert thing().method("x") == "stock stock base x"


# --- in force, or not -----------------------------------------------------------------------------------------------


def applied_edit() -> tuple[Edit, Applied]:
    (unit,) = ascend_overlay.api._engine._state.units.values()
    (item,) = unit.items
    assert isinstance(item.patch, Edit)
    assert item.applied is not None
    return item.patch, item.applied


def test_the_effect_is_seen(offer: Any) -> None:
    offer(edit("function", "found + y", "'new'"))
    with ascend_overlay.enabled(only=["edits"]):
        module = mod()
        patch, applied = applied_edit()
        assert patch.effect(applied) is None
        with mock.patch.object(module, "function", lambda x: "other"):
            assert "pkg.mod:function leads to another function now: " in str(patch.effect(applied))
        assert patch.effect(applied) is None

        @functools.wraps(module.function)
        def around(*args: Any, **kwargs: Any) -> Any:
            return module.function(*args, **kwargs)

        with mock.patch.object(module, "function", around):
            assert patch.effect(applied) is None
        ours, module.function.__code__ = module.function.__code__, (lambda x, *, y: "foreign").__code__
        assert re.search(
            r"somebody else has given .* other code since, from .*test_edits.py:\d+", str(patch.effect(applied))
        )
        module.function.__code__ = ours
    assert "leads to another function" in str(patch.effect(Applied(Slots())))


def test_code_that_somebody_else_has_given_the_function_stays(offer: Any, caplog: pytest.LogCaptureFixture) -> None:
    offer(edit("function", "found + y", "'new'"), edit("function", "found = f'stock {x}'", "found = 1", "other"))
    function = mod().function
    stock = function.__code__
    ascend_overlay.enable(only=["edits"])
    function.__code__ = foreign = function.__code__.replace(co_name="renamed")
    with pytest.raises(ConflictError, match="somebody else has changed its code"):
        ascend_overlay.enable(only=["other"])
    with caplog.at_level(logging.WARNING, logger="ascend_overlay"):
        ascend_overlay.disable()
    assert function.__code__ is foreign
    assert "somebody else has given pkg.mod:function other code" in caplog.text
    function.__code__ = stock
    with ascend_overlay.enabled(only=["edits"]):
        assert function(1) == "new"
    assert function.__code__ is stock


def test_nothing_is_left_behind_by_an_edit_that_failed_or_went(offer: Any) -> None:
    offer(edit("function", "found - y", "'new'"), edit("function", "found + y", "'new'", "good"))
    function = mod().function
    with pytest.raises(TargetError):
        ascend_overlay.enable(only=["edits"])
    assert code_module.known(function) is None
    with ascend_overlay.enabled(only=["good"]):
        assert code_module.known(function) is not None
    assert code_module.known(function) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_at_any_line_is_taken_back(error: type[BaseException], offer: Any) -> None:
    # Given every line that runs while an edit is applied or taken back
    offer(edit("function", "found + y", "'new'"))
    function = mod().function
    stock, lines = function.__code__, 0

    def interrupting(at: int) -> Callable[..., Any]:
        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal lines
            if not frame.f_code.co_filename.endswith(("patches/edits.py", "places/code.py")):
                return None
            if event == "line":
                lines += 1
                if lines == at:
                    raise error
            return trace

        return trace

    def run(at: int) -> None:
        nonlocal lines
        lines = 0
        before = sys.gettrace()
        sys.settrace(interrupting(at))
        try:
            ascend_overlay.enable(only=["edits"])
        finally:
            sys.settrace(before)

    run(0)
    total = lines
    ascend_overlay.disable()
    assert total > 40
    # When one of them is interrupted
    for at in range(1, total + 1):
        with pytest.raises((error, OverlayError)):
            run(at)
        # Then nothing is edited, and the next time works
        assert function.__code__ is stock, at
        with ascend_overlay.enabled(only=["edits"]):
            assert function(1) == "new"
        assert function.__code__ is stock, at


# --- described ------------------------------------------------------------------------------------------------------


def test_the_ledger_says_what_was_changed(offer: Any) -> None:
    offer(edit("function", "found = f'stock {x}'\nreturn found + y", "return y"))
    with ascend_overlay.enabled(only=["edits"]):
        mod()
        (entry,) = ascend_overlay.ledger().of("edits")
    assert entry.detail == "`found = f'stock {x}' | return found + y` becomes `return y`"
    assert entry.notes == [
        (
            '3 lines at line 24 replaced by 1: - found = f"stock {x}"  # what x is | - # This comment stays. | '
            "- return found + y | + return y"
        )
    ]


def test_two_long_edits_are_never_described_alike() -> None:
    details = {Edit(target="a:b", find="x" * 100, put="y" * 100 + end).describe() for end in "12"}
    assert len(details) == 2
    assert all(len(detail) < 160 for detail in details)
