"""Functions that are held where re-binding does not reach lead to the patch themselves, and get their own code back."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import itertools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

# A function's own module holds it in a cell, which stands for all that re-binding leaves alone.
LIBRARY = """
    import functools

    def hold(function):
        return lambda: function

    def plain(a, b=2, *rest, c, d=4, **more): return ("stock", a, b, rest, c, d, more)
    def positional(a, /, b=1): return ("stock", a, b)
    def args(args, kwargs, self=None): return ("stock", args, kwargs, self)
    async def coroutine(x): return ("stock", x)
    def generator(x):
        got = yield ("stock", x)
        return got
    async def async_generator(x):
        for item in range(x): yield ("stock", item)

    def make(free, other):
        def inner(x, y=3): return ("stock", free, other[0], x, y)
        return inner
    with_free_variables = make("free", ["other"])

    def decorate(function):
        @functools.wraps(function)
        def around(*args, **kwargs): return ("decorated", *function(*args, **kwargs))
        return around
    @decorate
    def decorated(x): return ("stock", x)

    def recursive(n): return n if n <= 0 else recursive(n - 1)

    class Base:
        def with_super(self, x): return ("base", x)
    class Thing(Base):
        def method(self, x=1): return ("stock", x)
        def with_super(self, x): return ("stock", *super().with_super(x))
        @staticmethod
        def static(x): return ("stock", x)
        @classmethod
        def class_(cls, x): return ("stock", cls.__name__, x)
        def __call__(self, x): return ("stock", x)

    HELD = {name: hold(value) for name, value in list(globals().items()) if callable(value)}
    METHODS = {name: hold(value) for name, value in vars(Thing).items() if callable(value)}
    STATIC, CLASS = hold(Thing.static), hold(vars(Thing)["class_"].__func__)
    BOUND, BOUND_TO_CLASS = hold(Thing().method), hold(Thing.class_)
"""


def _run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


async def _collect(iterator: Any) -> list[Any]:
    return [item async for item in iterator]


def _exhaust(generator: Any) -> tuple[Any, Any]:
    first = next(generator)
    try:
        generator.send("sent")
    except StopIteration as stop:
        return first, stop.value
    raise AssertionError("no end")


# target -> who holds it, and what is done with what they hold
Use = Callable[[ModuleType], Any]
USES: dict[str, tuple[str, Use]] = {
    "plain": ("plain", lambda m: m.HELD["plain"]()(1, 5, 6, c=7, e=8)),
    "plain with defaults": ("plain", lambda m: m.HELD["plain"]()(1, c=7)),
    "plain by keywords": ("plain", lambda m: m.HELD["plain"]()(a=1, b=3, c=7, d=9)),
    "positional only": ("positional", lambda m: m.HELD["positional"]()(1)),
    "arguments called args and kwargs": ("args", lambda m: m.HELD["args"]()(args=1, kwargs=2, self=3)),
    "coroutine": ("coroutine", lambda m: _run(m.HELD["coroutine"]()(1))),
    "generator": ("generator", lambda m: _exhaust(m.HELD["generator"]()(1))),
    "async generator": ("async_generator", lambda m: _run(_collect(m.HELD["async_generator"]()(2)))),
    "free variables": ("with_free_variables", lambda m: m.HELD["with_free_variables"]()(1)),
    "decorated": ("decorated", lambda m: m.HELD["decorated"]()(1)),
    "recursive": ("recursive", lambda m: m.HELD["recursive"]()(2)),
    "method": ("Thing.method", lambda m: m.METHODS["method"]()(m.Thing(), 2)),
    "bound method": ("Thing.method", lambda m: m.BOUND()(2)),
    "super() without arguments": ("Thing.with_super", lambda m: m.METHODS["with_super"]()(m.Thing(), 2)),
    "special method": ("Thing.__call__", lambda m: m.METHODS["__call__"]()(m.Thing(), 2)),
    "static method": ("Thing.static", lambda m: m.STATIC()(2)),
    "class method bound to its class": ("Thing.class_", lambda m: m.BOUND_TO_CLASS()(2)),
    "class method": ("Thing.class_", lambda m: m.CLASS()(m.Thing, 2)),
}


def function_at(module: ModuleType, path: str) -> Any:
    """Return the plain function that is called `path`."""
    owner: Any = module
    for name in path.split("."):
        raw = vars(owner)[name]
        owner = raw
    found = getattr(owner, "__func__", None) or getattr(owner, "fget", None) or owner
    assert inspect.isfunction(found)
    return found


def content(function: Any) -> tuple[Any, ...]:
    """Return what a change of a function could have left different."""
    return (
        function.__code__,
        function.__defaults__,
        function.__kwdefaults__,
        function.__closure__,
        dict(vars(function)),
        function.__annotations__,
        function.__doc__,
        function.__qualname__,
        inspect.signature(function),
    )


@pytest.fixture
def lib(site: Any) -> ModuleType:
    """The module that is patched."""
    site.write({"lib.py": LIBRARY, "empty.py": ""})
    return importlib.import_module("lib")


CALLS: list[str] = []
MORE = {"plain": {"c": 3}}


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    CALLS.append("called")
    return wrapped(*args, **kwargs)


def wrapping(name: str, target: str) -> Overlay:
    """Return an overlay whose wrapper notes its calls as `name`."""
    overlay = Overlay(name, reason="a test")

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        CALLS.append(name)
        return wrapped(*args, **kwargs)

    overlay.wrap(f"lib:{target}")(wrapper)
    return overlay


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pytest.mark.parametrize("case", USES)
def test_whoever_holds_the_function_meets_the_wrapper(lib: ModuleType, offer: Any, case: str) -> None:
    # given: a function, or a member, that a closure holds
    target, use = USES[case]
    function = function_at(lib, target)
    before, stock = content(function), use(lib)
    offer(wrapping("one", target))
    # when
    ascend_overlay.enable()
    # then: who calls it there runs the wrapper, and gets what the function gives
    assert use(lib) == stock
    assert CALLS and set(CALLS) == {"one"}
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied" and entry.seam == "in the function itself" and entry.stale == [], entry
    # and then: nothing remains of it
    ascend_overlay.disable()
    CALLS.clear()
    assert use(lib) == stock and CALLS == []
    assert function_at(lib, target) is function
    after = content(function)
    assert after[0] is before[0] and after == before


@pytest.mark.parametrize("late", [True, False])
def test_several_that_are_held_each_lead_to_their_own(lib: ModuleType, offer: Any, late: bool) -> None:
    # given: one overlay with a patch for each of several functions, all of which closures hold
    targets = ["positional", "args", "recursive", "plain"]
    overlay = Overlay("one", reason="a test")
    for target in targets:

        def named(wrapped: Any, instance: Any, args: Any, kwargs: Any, *, target: str = target) -> Any:
            CALLS.append(target)
            return wrapped(*args, **kwargs)

        overlay.wrap(f"lib:{target}")(named)
    held = {"positional": (1,), "args": (1, 2), "recursive": (0,), "plain": (1,)}

    def use(lib: ModuleType) -> list[object]:
        by_name = [getattr(lib, name)(*given, **MORE.get(name, {})) for name, given in held.items()]
        return by_name + [lib.HELD[name]()(*given, **MORE.get(name, {})) for name, given in held.items()]

    stock = use(lib)
    offer(overlay)
    # when: it comes after the module, or before
    if not late:
        del sys.modules["lib"]
    ascend_overlay.enable()
    lib = importlib.import_module("lib")
    # then: each of them runs the wrapper of its own, once a call, by its name as well as where it is held
    assert use(lib) == stock
    assert targets * 2 == CALLS
    assert [(entry.state, entry.stale) for entry in ascend_overlay.ledger()] == [("applied", [])] * len(targets)
    # and then
    ascend_overlay.disable()
    CALLS.clear()
    assert use(lib) == stock and CALLS == []


@pytest.mark.parametrize("case", USES)
def test_the_signature_stays_what_it_was(lib: ModuleType, offer: Any, case: str) -> None:
    target, _ = USES[case]
    function = function_at(lib, target)
    names = [p.name for p in inspect.signature(function).parameters.values()]
    kinds = [check(function) for check in KINDS]
    offer(wrapping("one", target))
    ascend_overlay.enable()
    assert [p.name for p in inspect.signature(function).parameters.values()] == names
    assert [check(function) for check in KINDS] == kinds


KINDS = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    asyncio.iscoroutinefunction,
)


@pytest.mark.parametrize("kind", ["wrap", "replace"])
@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_three_that_come_in_any_order_and_go_in_any_order(
    lib: ModuleType, offer: Any, order: tuple[str, ...], kind: str
) -> None:
    function = function_at(lib, "positional")
    before = content(function)
    overlays = {name: wrapping(name, "positional") for name in "ab"}
    overlays["c"] = Overlay("c", reason="a test")
    if kind == "wrap":
        overlays["c"] = wrapping("c", "positional")
    else:
        overlays["c"].replace("lib:positional")(lambda a, /, b=1: CALLS.append("c") or ("stock", a, b))
    offer(*overlays.values())
    goings = list(itertools.permutations("abc"))
    # Half of the ways to go for each way to come, every second of them other ones.
    for going in goings[goings.index(order) % 2 :: 2]:
        present: set[str] = set()
        for name in order:
            ascend_overlay.enable(only=[name])
            present.add(name)
            CALLS.clear()
            assert lib.HELD["positional"]()(1) == ("stock", 1, 1)
            assert sorted(CALLS) == sorted(present)
            got = list(CALLS)
            CALLS.clear()
            lib.positional(1)
            assert got == CALLS, "the function and its name lead to the same wrappers"
        for name in going:
            ascend_overlay.disable(only=[name])
            present.discard(name)
            CALLS.clear()
            assert lib.HELD["positional"]()(1) == ("stock", 1, 1)
            assert sorted(CALLS) == sorted(present)
        assert content(function) == before and function.__code__ is before[0]


@pytest.mark.parametrize("coming", [("edit", "wrap"), ("wrap", "edit"), ("replace", "wrap"), ("wrap", "replace")])
@pytest.mark.parametrize("going", [(0, 1), (1, 0)])
def test_an_edit_and_a_redirection_come_and_go_in_any_order(
    site: Any, offer: Any, coming: tuple[str, str], going: tuple[int, int]
) -> None:
    site.write({"lib.py": "def f(x):\n    word = 'stock'\n    return word, x\nHELD = {f: 1}\ndef h(x): return f(x)\n"})
    lib = importlib.import_module("lib")
    function = lib.f
    before = content(function)
    edit, wrap, replace = (Overlay(name, reason="a test") for name in ("edit", "wrap", "replace"))
    edit.edit("lib:f", find="word = 'stock'", put="word = 'edited'")
    wrap.wrap("lib:f")(lambda wrapped, instance, args, kwargs: ("wrapped", *wrapped(*args, **kwargs)))
    replace.replace("lib:f")(lambda x: ("replaced", x))
    offer(edit, wrap, replace)

    def expected(present: set[str]) -> tuple[Any, ...]:
        inner = ("replaced" if "replace" in present else "edited" if "edit" in present else "stock", 1)
        return ("wrapped", *inner) if "wrap" in present else inner

    present: set[str] = set()
    for name in coming:
        ascend_overlay.enable(only=[name])
        present.add(name)
        for held in (lib.f, next(iter(lib.HELD)), lib.h):
            assert held(1) == expected(present), (present, held)
    for index in going:
        ascend_overlay.disable(only=[coming[index]])
        present.discard(coming[index])
        for held in (lib.f, next(iter(lib.HELD)), lib.h):
            assert held(1) == expected(present), (present, held)
    assert lib.f is function and content(function) == before and function.__code__ is before[0]


@pytest.mark.parametrize("again", [False, True])
def test_code_that_somebody_else_gives_the_function_meanwhile_is_kept(lib: ModuleType, offer: Any, again: bool) -> None:
    function = lib.positional
    offer(wrapping("one", "positional"))
    ascend_overlay.enable()
    theirs = (lambda a, b: ("theirs", a, b)).__code__
    function.__code__ = theirs
    ascend_overlay.disable()
    assert function.__code__ is theirs and lib.positional is function
    assert function.__kwdefaults__ is None and "__signature__" not in vars(function)
    assert lib.HELD["positional"]()(1, 2) == ("theirs", 1, 2)
    if again:
        ascend_overlay.enable()
        assert lib.HELD["positional"]()(1, 2) == ("theirs", 1, 2) and CALLS == ["one"]
        ascend_overlay.disable()
        assert function.__code__ is theirs


def test_code_that_somebody_else_gives_the_function_is_said(lib: ModuleType, offer: Any) -> None:
    """Then those who hold the function run theirs, and no longer meet the patch."""
    offer(wrapping("one", "positional"))
    ascend_overlay.enable()
    held = lib.HELD["positional"]()
    held.__code__ = (lambda a, b: ("theirs", a, b)).__code__
    (entry,) = ascend_overlay.ledger()
    assert any("other code" in note and "test_in_place.py" in note for note in entry.notes), entry


def test_an_implementation_that_calls_the_original_does_not_call_itself(site: Any, offer: Any) -> None:
    """The implementation's own module keeps the original, also where the function leads elsewhere for the others."""
    site.write(
        {
            "lib.py": LIBRARY,
            "ours.py": """
                from lib import plain, positional, Thing, with_free_variables
                TABLE = {"positional": positional}
                KEYS = {positional: 1}
                def hold(function): return lambda: function
                HELD = hold(positional)
                def replaced(a, /, b=1): return ("ours", *positional(a, b))
                def by_table(a, /, b=1): return ("ours", *TABLE["positional"](a, b))
                def by_key(a, /, b=1): return ("ours", *next(iter(KEYS))(a, b))
                def by_closure(a, /, b=1): return ("ours", *HELD()(a, b))
                def by_default(a, /, b=1, *, inner=positional): return ("ours", *inner(a, b))
                def by_positional_default(a, /, b=1, inner=positional): return ("ours", *inner(a, b))
                def make(function):
                    def made(a, /, b=1): return ("ours", *function(a, b))
                    return made
                by_factory = make(positional)
                class By:
                    inner = staticmethod(positional)
                def by_class(a, /, b=1): return ("ours", *By.inner(a, b))
            """,
        }
    )
    lib = importlib.import_module("lib")
    ours = importlib.import_module("ours")
    overlays = []
    for name in (
        "replaced",
        "by_table",
        "by_key",
        "by_closure",
        "by_default",
        "by_positional_default",
        "by_factory",
        "by_class",
    ):
        overlay = Overlay(name, reason="a test")
        overlay.replace("lib:positional", f"ours:{name}")
        overlays.append(overlay)
    offer(*overlays)
    function = lib.positional
    before = content(function)
    for overlay in overlays:
        ascend_overlay.enable(only=[overlay.name])
        assert lib.positional(1) == ("ours", "stock", 1, 1), overlay.name
        assert lib.HELD["positional"]()(1) == ("ours", "stock", 1, 1), overlay.name
        ascend_overlay.disable()
        assert lib.positional is function and content(function) == before
        assert ours.positional is function and next(iter(ours.KEYS)) is function and ours.HELD() is function
        assert ours.by_default.__kwdefaults__ == {"inner": function}
        assert ours.by_positional_default.__defaults__ == (1, function)


OPERATOR = """
    import torch
    from torch.library import Library
    LIBRARY = Library("in_place_tests", "FRAGMENT")
    def compute(x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return x * scale
    def fake(x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return torch.empty_like(x)
    LIBRARY.define("compute_{n}(Tensor x, float scale=2.0) -> Tensor")
    LIBRARY.impl("compute_{n}", compute, "CPU")
    LIBRARY._register_fake("compute_{n}", fake)
    operator = torch.ops.in_place_tests.compute_{n}

    @torch.library.custom_op("in_place_tests::custom_{n}", mutates_args=())
    def custom(x: torch.Tensor) -> torch.Tensor:
        return x + 1
    inner = custom._init_fn

    def redirected(x): return x + 3
    KEYS = {{redirected: 1}}
    def calls(x): return next(iter(KEYS))(x) * 2
    def held(function): return lambda x: function(x) * 2
    HELD = held(redirected)
"""


@pytest.mark.vllm
def test_a_torch_operator_runs_the_patch(site: Any, offer: Any) -> None:
    torch = pytest.importorskip("torch")
    site.write({"ops.py": OPERATOR.format(n="one")})
    ops = importlib.import_module("ops")
    function = ops.compute
    before = content(function)
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    one.replace("ops:compute")(lambda x, scale=2.0: x * scale + 100)
    two.wrap("ops:compute")(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs) + 1000)
    offer(one, two)
    x = torch.ones(2)
    for _ in range(2):
        ascend_overlay.enable(only=["one"])
        assert ops.operator(x).tolist() == [102.0, 102.0] and ops.operator(x, 3.0).tolist() == [103.0, 103.0]
        ascend_overlay.enable(only=["two"])
        assert ops.operator(x).tolist() == [1102.0, 1102.0]
        ascend_overlay.disable(only=["one"])
        assert ops.operator(x).tolist() == [1002.0, 1002.0]
        ascend_overlay.disable()
        assert ops.operator(x).tolist() == [2.0, 2.0]
        assert content(function) == before and function.__code__ is before[0]


@pytest.mark.vllm
@pytest.mark.parametrize("use", ["KEYS", "HELD"])
def test_a_redirected_function_is_compiled_as_a_whole(site: Any, offer: Any, use: str) -> None:
    torch = pytest.importorskip("torch")
    site.write({"ops.py": OPERATOR.format(n=use.lower())})
    ops = importlib.import_module("ops")
    one = Overlay("one", reason="a test")
    one.replace("ops:redirected")(lambda x: x + 30)
    offer(one)
    ascend_overlay.enable()
    target = ops.redirected if use == "KEYS" else None
    assert target is not ops.KEYS
    function = (lambda x: ops.HELD(x)) if use == "HELD" else next(iter(ops.KEYS))
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    expected = torch.full((2,), 31.0) * (2 if use == "HELD" else 1)
    assert torch.equal(compiled(torch.ones(2)), expected)


def test_what_is_sent_thrown_and_closed_arrives_in_an_async_generator(site: Any) -> None:
    site.write({"lib.py": LIBRARY})
    lib = importlib.import_module("lib")
    heard: list[Any] = []
    overlay = Overlay("one", reason="a test")

    @overlay.replace("lib:async_generator")
    async def ours(x: Any) -> Any:
        try:
            while True:
                try:
                    heard.append((yield x))
                except ValueError as error:
                    heard.append(error.args)
                    if error.args == ("end",):
                        return
        finally:
            heard.append("closed")

    async def use() -> None:
        generator = lib.HELD["async_generator"]()(3)
        assert [await generator.asend(None), await generator.asend("sent")] == [3, 3]
        assert await generator.athrow(ValueError("thrown")) == 3
        assert await anext(generator) == 3
        await generator.aclose()
        assert heard == ["sent", ("thrown",), None, "closed"]
        generator = lib.HELD["async_generator"]()(3)
        await anext(generator)
        with pytest.raises(StopAsyncIteration):
            await generator.athrow(ValueError("end"))

    ascend_overlay.enable(overlay)
    assert "in the function itself" in str(ascend_overlay.ledger().of("one")[0].seam)
    _run(use())
