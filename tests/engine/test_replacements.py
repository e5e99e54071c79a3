"""What a replacement is: refused where it is of another kind than the original, fitted where it can be."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.errors import OverlayError, SignatureError, TargetError

LIB = """
    import contextlib, functools
    from collections.abc import AsyncIterator, Awaitable, Iterator
    calls = []
    def plain(x): return ("stock", x)
    async def later(x): return ("stock", x)
    def each(x): yield ("stock", x)
    async def each_later(x): yield ("stock", x)
    def says_later(x) -> Awaitable[int]: return later(x)
    def says_each(x) -> "Iterator[int]": return each(x)
    def says_each_later(x) -> AsyncIterator[int]: return each_later(x)
    @contextlib.contextmanager
    def managed(x): yield ("stock", x)
    def logged(function):
        @functools.wraps(function)
        def inner(x): return function(x)
        return inner
    @logged
    async def decorated(x): return ("stock", x)
    @functools.lru_cache(maxsize=7, typed=True)
    def cached(x): calls.append(x); return ("stock", x)
    def use_cache(x): cached.cache_clear(); return cached(x)
    @functools.singledispatch
    def dispatched(x): return ("stock", x)
    def compiled(x): return ("stock", x)
    compiled.aot_compile = lambda: None
    import asyncio.coroutines, inspect
    def marked(x): return later(x)
    if hasattr(asyncio.coroutines, "_is_coroutine"): marked._is_coroutine = asyncio.coroutines._is_coroutine
    else: inspect.markcoroutinefunction(marked)
    class Kernel:
        def __getitem__(self, grid): return lambda x: ("stock", x)
        def __call__(self, x): raise TypeError("no grid")
    kernel = Kernel()
    class Base:
        def method(self, x): return ("base", x)
        def other(self, x): return ("base", x)
    class Thing(Base):
        def __init__(self): self._value = 1
        def method(self, x): return ("stock", x)
        @classmethod
        def make(cls, x): return (cls.__name__, x)
        @staticmethod
        def static(x): return ("stock", x)
        @property
        def value(self):
            "Stock."
            return self._value
        @value.setter
        def value(self, value): self._value = value
        @value.deleter
        def value(self): self._value = None
        @functools.cached_property
        def once(self): return "stock"
        @functools.lru_cache
        def kept(self, x): return ("stock", x)
        @staticmethod
        @functools.cache
        def kept_static(x): return ("stock", x)
        async def later(self, x): return ("stock", x)
    class Derived(Thing):
        def method(self, x): return super().method(x)
"""
OURS = """
    import contextlib, functools
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Iterator
    import lib
    def plain(x): return ("ours", x)
    async def later(x): return ("ours", x)
    def each(x): yield ("ours", x)
    async def each_later(x): yield ("ours", x)
    def says_later(x) -> Awaitable[int]: return later(x)
    def says_coroutine(x) -> "Coroutine[None, None, int]": return later(x)
    def says_each(x) -> Iterable[int]: return [("ours", x)]
    def says_each_later(x) -> AsyncIterator[int]: return each_later(x)
    @contextlib.contextmanager
    def managed(x): yield ("ours", x)
    partial_later = functools.partial(later)
    class Called:
        def __call__(self, x): return ("ours", x)
        async def meet(self, x): return ("ours", x)
    called = Called()
    partial = functools.partial(lambda self, x: ("ours", x))
    meet = called.meet
    class CalledLater:
        async def __call__(self, x): return ("ours", x)
    called_later = CalledLater()
    @functools.lru_cache(maxsize=3)
    def own_cache(x): return ("ours", x)
    class Kernel:
        def __getitem__(self, grid): return lambda x: ("ours", x)
        def __call__(self, x): raise TypeError("no grid")
    kernel = Kernel()
    @functools.singledispatch
    def dispatched(x): return ("ours", x)
    def method(self, x): return ("ours", x)
    async def method_later(self, x): return ("ours", x)
    def make(cls, x): return ("ours", cls.__name__, x)
    def getter(self): return "ours"
    def bare_super(self, x): return ("ours", super().method(x))
    def explicit_super(self, x): return ("ours", super(lib.Thing, self).method(x))
    class Mixin:
        def method(self, x): return ("ours", super().method(x), __class__.__name__)
        def inner(self, x): return [("ours", super(__class__, self).method(y)) for y in [x]][0]
        @classmethod
        def make(cls, x): return ("ours", cls.__name__, x)
        @staticmethod
        def static(x): return ("ours", x)
        @property
        def value(self): return ("ours", self._value)
        @property
        def writes(self): return ("ours", self._value)
        @writes.setter
        def writes(self, value): self._value = ("set", value)
        @functools.cached_property
        def once(self): return "ours"
        only_writes = property(None, lambda self, value: setattr(self, "_value", ("only", value)))
    static_object = staticmethod(lambda x: ("ours", x))
    class_object = classmethod(lambda cls, x: ("ours", x))
"""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIB, "ours.py": OURS})


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def load() -> Any:
    importlib.import_module("lib")
    ascend_overlay.enable()
    return sys.modules["lib"]


def answer(given: Any) -> Any:
    """Return what callers of an async function or a generator get."""
    if inspect.isawaitable(given):
        return asyncio.run(_awaited(given))
    if hasattr(given, "__aiter__"):
        return asyncio.run(_collected(given))
    if hasattr(given, "__enter__"):
        with given as found:
            return found
    return given if isinstance(given, tuple) else next(iter(given))


async def _awaited(given: Any) -> Any:
    return await given


async def _collected(given: Any) -> Any:
    async for found in given:
        return found
    return None


FITTING = [
    ("plain", "plain"),
    ("plain", "called"),
    ("compiled", "plain"),
    ("later", "later"),
    ("later", "says_later"),
    ("later", "says_coroutine"),
    ("later", "partial_later"),
    ("later", "meet"),
    ("later", "called_later"),
    ("says_later", "later"),
    ("marked", "later"),
    ("decorated", "later"),
    ("each", "each"),
    ("each", "says_each"),
    ("says_each", "each"),
    ("each_later", "each_later"),
    ("each_later", "says_each_later"),
    ("says_each_later", "each_later"),
    ("managed", "managed"),
]


@pytest.mark.parametrize(("name", "ours"), FITTING)
def test_answers_as_the_original(overlay: Overlay, name: str, ours: str) -> None:
    overlay.replace(f"lib:{name}", f"ours:{ours}")
    lib = load()
    assert answer(getattr(lib, name)(1)) == ("ours", 1)
    ascend_overlay.disable()
    assert answer(getattr(lib, name)(1)) == ("stock", 1)


UNFIT = [
    ("plain", "later", "is a plain function, whose callers take what it returns, and it is an async function"),
    ("plain", "partial_later", "an async function; write a plain function"),
    ("plain", "called_later", "it is an async function"),
    ("plain", "each", "it is a generator"),
    ("plain", "each_later", "it is an async generator"),
    ("later", "plain", "whose callers await it, and it is a plain function; write it with async def"),
    ("later", "each_later", "it is an async generator; write it with async def"),
    ("later", "called", "it is a plain function"),
    ("later", "each", "it is a generator"),
    ("later", "says_each_later", "annotate it as returning an Awaitable"),
    ("each", "plain", "with def with a yield, or annotate it as returning a Generator"),
    ("each", "later", "it is an async function"),
    ("each", "each_later", "it is an async generator"),
    ("each_later", "plain", "async for.*async def with a yield"),
    ("each_later", "each", "it is a generator"),
    ("each_later", "later", "it is an async function"),
    ("marked", "each", "the original is an async function, .* and it is a generator; write it with async def, or"),
    ("managed", "each", "decorate it as the original is"),
    ("Thing.later", "method", "it is a plain function"),
    ("Thing.method", "method_later", "it is an async function"),
]


@pytest.mark.parametrize(("name", "ours", "why"), UNFIT)
def test_answers_otherwise(overlay: Overlay, name: str, ours: str, why: str) -> None:
    overlay.replace(f"lib:{name}", f"ours:{ours}")
    with pytest.raises(SignatureError, match=f"(?s)(ours|partial).* cannot replace lib:{name}: .*{why}"):
        load()


WRAPPERS = """
    def plain(wrapped, instance, args, kwargs): return wrapped(*args, **kwargs)
    async def later(wrapped, instance, args, kwargs): return await wrapped(*args, **kwargs)
    def each(wrapped, instance, args, kwargs): yield from wrapped(*args, **kwargs)
    async def each_later(wrapped, instance, args, kwargs):
        async for found in wrapped(*args, **kwargs): yield found
"""
WRAPPED = ["plain", "later", "each", "each_later"]


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_answer_as_what_they_wrap(overlay: Overlay, site: Any, name: str, wrapper: str) -> None:
    site.write({"wrappers.py": WRAPPERS})
    overlay.wrap(f"lib:{name}", f"wrappers:{wrapper}")
    if wrapper in ("plain", name):
        assert answer(getattr(load(), name)(1)) == ("stock", 1)
    else:
        with pytest.raises(SignatureError, match=f"cannot wrap lib:{name}: the original is"):
            load()


# --- caches -----------------------------------------------------------------------------------------------------------


def test_a_cache_stays_a_cache(overlay: Overlay) -> None:
    overlay.replace("lib:cached", "ours:plain")
    lib = load()
    stock = lib.cached.cache_parameters()
    assert lib.use_cache(1) == ("ours", 1) and lib.use_cache(1) == ("ours", 1)
    assert lib.cached(1) and lib.cached.cache_info().hits == 1
    assert stock == {"maxsize": 7, "typed": True} and lib.cached.__name__ == "cached" and lib.cached.__module__ == "lib"
    assert "with a cache, as the original: {'maxsize': 7, 'typed': True}" in ascend_overlay.ledger().entries[0].notes
    ascend_overlay.disable()
    assert lib.use_cache(2) == ("stock", 2)


def test_a_cache_of_its_own(overlay: Overlay) -> None:
    overlay.replace("lib:cached", "ours:own_cache")
    lib = load()
    assert lib.use_cache(1) == ("ours", 1) and lib.cached.cache_parameters()["maxsize"] == 3


def test_caches_in_classes(overlay: Overlay) -> None:
    overlay.replace("lib:Thing.kept", "ours:method")
    overlay.replace("lib:Thing.kept_static", "ours:plain")
    lib = load()
    thing = lib.Thing()
    assert thing.kept(1) == thing.kept(1) == ("ours", 1) and lib.Thing.kept.cache_info().hits == 1
    assert thing.kept_static(1) == ("ours", 1) and lib.Thing.kept_static.cache_info().misses == 1


def test_a_wrapped_cache_can_be_cleared(overlay: Overlay, site: Any) -> None:
    site.write({"wrappers.py": WRAPPERS})
    overlay.wrap("lib:cached", "wrappers:plain")
    lib = load()
    assert lib.use_cache(1) == ("stock", 1) and lib.cached.cache_info().currsize == 1


def test_what_else_a_function_has_is_not_lost(overlay: Overlay) -> None:
    overlay.replace("lib:dispatched", "ours:plain")
    with pytest.raises(SignatureError, match=r"the original has register\(\), dispatch\(\).*give it the same"):
        load()


def test_a_kernel_that_is_launched_with_a_grid(overlay: Overlay, offer: Any, site: Any) -> None:
    site.write({"wrappers.py": WRAPPERS})
    wrapping, fitting = Overlay("wrapping", reason="a test"), Overlay("fitting", reason="a test")
    offer(wrapping, fitting)
    overlay.replace("lib:kernel", "ours:plain")
    wrapping.wrap("lib:kernel", "wrappers:plain")
    fitting.replace("lib:kernel", "ours:kernel")
    fitting.replace("lib:dispatched", "ours:dispatched")
    lib = importlib.import_module("lib")
    with pytest.raises(SignatureError, match=r"is a Kernel object, which is called as Kernel\[...\]\(...\)"):
        ascend_overlay.enable(only=["one"])
    with pytest.raises(TargetError, match=r"is a Kernel object.*wrap the function that calls it"):
        ascend_overlay.enable(only=["wrapping"])
    with ascend_overlay.enabled(only=["fitting"]):
        assert lib.kernel[1](2) == ("ours", 2) and lib.dispatched(1) == ("ours", 1)


# --- super() and descriptors ------------------------------------------------------------------------------------------

METHODS = [
    ("Thing.method", "method", ("ours", 1)),
    ("Thing.method", "Mixin.method", ("ours", ("base", 1), "Thing")),
    ("Thing.method", "Mixin.inner", ("ours", ("base", 1))),
    ("Thing.method", "explicit_super", ("ours", ("base", 1))),
    ("Thing.make", "make", ("ours", "Thing", 1)),
    ("Thing.make", "Mixin.make", ("ours", "Thing", 1)),
    ("Thing.make", "class_object", ("ours", 1)),
    ("Thing.static", "plain", ("ours", 1)),
    ("Thing.static", "Mixin.static", ("ours", 1)),
    ("Thing.static", "static_object", ("ours", 1)),
    ("Thing.static", "called", ("ours", 1)),
    ("plain", "static_object", ("ours", 1)),
    ("plain", "Mixin.make", ("ours", "Mixin", 1)),
]


@pytest.mark.parametrize(("path", "ours", "expected"), METHODS)
def test_methods(overlay: Overlay, path: str, ours: str, expected: Any) -> None:
    overlay.replace(f"lib:{path}", f"ours:{ours}")
    lib = load()
    owner, _, name = path.rpartition(".")
    found = getattr(lib.Thing() if owner else lib, name)
    assert found(1) == expected
    assert not owner or type(inspect.getattr_static(lib.Thing, name)) is not classmethod or name == "make"
    ascend_overlay.disable()
    assert getattr(lib.Thing() if owner else lib, name)(1)[0] in ("stock", "Thing")


NO_METHODS = [
    ("Thing.method", "bare_super", r"calls super\(\) without arguments.*Write super\(Thing, self\)"),
    ("Thing.method", "class_object", "it is a classmethod, and the original is a method"),
    ("Thing.method", "static_object", "it is a staticmethod, and the original is a method"),
    ("Thing.method", "Mixin.value", "it is a property, and the original is a method"),
    ("Thing.method", "Mixin.make", "bound to .*Mixin already"),
    ("Thing.method", "partial", "a partial object, which Python does not bind"),
    ("Thing.method", "called", "a Called object, which Python does not bind"),
    ("Thing.method", "Called", "is a class, which Python does not bind"),
    ("Thing.make", "static_object", "it is a staticmethod, and the original is a classmethod"),
    ("Thing.static", "class_object", "it is a classmethod, and the original is a staticmethod"),
    ("Thing.value", "Mixin.once", "it is a functools.cached_property, and the original is a property"),
    ("Thing.once", "Mixin.value", "it is a property, and the original is a functools.cached_property"),
    ("plain", "class_object", "it is a classmethod, and the original is a function"),
    ("plain", "Mixin.value", "it is a property, and the original is a function"),
]


@pytest.mark.parametrize(("path", "ours", "why"), NO_METHODS)
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there, Python binds partial objects")
def test_what_cannot_be_a_method(overlay: Overlay, path: str, ours: str, why: str) -> None:
    overlay.replace(f"lib:{path}", f"ours:{ours}")
    with pytest.raises(TargetError, match=f"(?s)(ours|partial).*{why}"):
        load()


def test_a_property_keeps_what_the_replacement_lacks(overlay: Overlay) -> None:
    overlay.replace("lib:Thing.value", "ours:Mixin.value")
    thing = load().Thing()
    thing.value = 5
    assert thing.value == ("ours", 5) and type(thing).value.__doc__ == "Stock."
    del thing.value
    assert thing.value == ("ours", None)


@pytest.mark.parametrize(
    ("ours", "read", "written"),
    [
        ("getter", "ours", "ours"),
        ("Mixin.writes", ("ours", 1), ("ours", ("set", 5))),
        ("Mixin.only_writes", 1, ("only", 5)),
    ],
)
def test_properties(overlay: Overlay, ours: str, read: Any, written: Any) -> None:
    overlay.replace("lib:Thing.value", f"ours:{ours}")
    thing = load().Thing()
    assert thing.value == read
    thing.value = 5
    assert thing.value == written


@pytest.mark.parametrize("ours", ["getter", "Mixin.once"])
def test_a_cached_property_stays_one(overlay: Overlay, ours: str) -> None:
    overlay.replace("lib:Thing.once", f"ours:{ours}")
    thing = load().Thing()
    assert thing.once == "ours" and vars(thing)["once"] == "ours"


def test_methods_that_are_added_know_their_class(overlay: Overlay) -> None:
    overlay.add("lib:Derived.extra", ref("ours:Mixin.method"))
    overlay.attribute("lib:Thing.other", ref("ours:Mixin.inner"))
    lib = load()
    assert lib.Derived().extra(1) == ("ours", ("stock", 1), "Derived")
    assert lib.Thing().other(1) == ("ours", ("base", 1))
    ascend_overlay.disable()
    assert not hasattr(lib.Derived, "extra") and lib.Thing().other(1) == ("base", 1)


def test_an_added_method_with_a_bare_super_is_refused(overlay: Overlay) -> None:
    overlay.add("lib:Derived.extra", ref("ours:bare_super"))
    with pytest.raises(TargetError, match=r"cannot be lib:Derived.extra: it calls super\(\)"):
        load()


# --- values -----------------------------------------------------------------------------------------------------------

VALUES = """
    import enum
    class Color(enum.Enum): RED = 1; BLUE = 2
    class Level(enum.IntEnum): LOW = 1
    class A:
        def own(self, size): return 1
    class B: pass
    class ListOf(list): pass
    INT, FLOAT, BOOL, STR, NONE, LIST, DICT, TUPLE = 1, 1.0, True, "text", None, [], {}, ()
    SET, COLOR, LEVEL, OBJECT, CLS, LIKE = set(), Color.RED, Level.LOW, A(), A, ListOf()
    def function(): pass
    class Thing:
        @property
        def computed(self): return 1
        def method(self): pass
        own = lambda self, size: 1
    class Derived(Thing): pass
    def named(size=1, more=2): pass
    async def later(size=1): pass
    HOOK = lambda size=1: 1
"""
SAME = [
    ("INT", 2),
    ("INT", 2.5),
    ("INT", True),
    ("FLOAT", 1),
    ("BOOL", 0),
    ("STR", "other"),
    ("NONE", "anything"),
    ("NONE", 1),
    ("INT", None),
    ("LIST", None),
    ("LIST", [1]),
    ("LIST", ref("values:LIKE")),
    ("LIKE", [1]),
    ("DICT", __import__("collections").OrderedDict()),
    ("COLOR", ref("values:Color.BLUE")),
    ("LEVEL", 3),
    ("OBJECT", ref("values:CLS")),
    ("CLS", ref("values:B")),
    ("HOOK", ref("values:named")),
    ("Thing.computed", 3),
    ("Thing.computed", property(lambda self: 2)),
    ("Thing.own", lambda self, size=1: 2),
    ("Derived.method", lambda self: 2),
    ("OBJECT.own", lambda size: 2),
]
OTHER = [
    ("INT", "2", "is an int, and this is a str"),
    ("STR", 2, "is a str, and this is an int"),
    ("BOOL", "yes", "is a bool, and this is a str"),
    ("LIST", (), "is a list, and this is a tuple"),
    ("LIST", {}, "is a list, and this is a dict"),
    ("TUPLE", [], "is a tuple, and this is a list"),
    ("SET", frozenset(), "is a set, and this is a frozenset"),
    ("DICT", 1, "is a dict, and this is an int"),
    ("OBJECT", 1, "is an A, and this is an int"),
    ("STR", ref("values:A"), "is a str, and this is a class"),
    ("COLOR", 2, "is a Color, and this is an int"),
    ("function", 1, "is called, and an int cannot be"),
    ("CLS", "values", "is called, and a str cannot be"),
    ("Thing.method", 1, "is called, and an int cannot be"),
    ("CLS", len, "what is there is a class; overlay.factory lets a function"),
    ("A", len, "what is there is a class; overlay.factory lets a function"),
    ("A", ref("values:B"), "is the class of that name, .* overlay.subclass puts a subclass"),
    ("function", len, "is the function of that name, .* overlay.replace puts another"),
    ("function", ref("values:A"), "is the function of that name, .* overlay.replace puts another"),
    ("Thing.method", len, "is the function of that name, .* overlay.replace puts another"),
    ("Thing.own", len, "the original is a method, and it is a staticmethod"),
    ("Thing.own", lambda self: 1, "it takes no positional argument 'size'"),
    ("Thing.computed", lambda self: 1, "the original is a property, and it is a method"),
    ("Derived.method", staticmethod(lambda: 1), "the original is a method, and it is a staticmethod"),
    ("HOOK", lambda: 1, "it takes no positional argument 'size'"),
    ("OBJECT.own", lambda self: 2, "its argument 0 is 'self' where the original has 'size'"),
    ("HOOK", ref("values:later"), "the original is a plain function, .* and it is an async function"),
]


@pytest.mark.parametrize(("path", "value"), SAME)
def test_values_of_the_same_type(overlay: Overlay, site: Any, path: str, value: Any) -> None:
    site.write({"values.py": VALUES})
    overlay.attribute(f"values:{path}", value)
    importlib.import_module("values")
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied"


@pytest.mark.parametrize(("path", "value", "why"), OTHER)
def test_values_of_another_type(overlay: Overlay, offer: Any, site: Any, path: str, value: Any, why: str) -> None:
    site.write({"values.py": VALUES})
    sure = Overlay("sure", reason="a test", default=False)
    offer(sure)
    overlay.attribute(f"values:{path}", value)
    sure.attribute(f"values:{path}", value, as_is=True)
    importlib.import_module("values")
    with pytest.raises(TargetError, match=f"values:{path} cannot be set to .*{why}.*say as_is=True"):
        ascend_overlay.enable()
    with ascend_overlay.enabled(only=["sure"]):
        assert ascend_overlay.ledger().of("sure")[-1].state == "applied"


QUOTED = [
    ("attribute", ("lib:calls", "ours:plain"), True),
    ("attribute", ("texts:NAME", "ours:plain"), False),
    ("attribute", ("texts:NOTHING", "ours:plain"), True),
    ("attribute", ("texts:NOTHING", "no_such_module:plain"), False),
    ("attribute", ("texts:NOTHING", "ours: plain"), False),
    ("attribute", ("texts:NOTHING", "localhost:8000"), False),
    ("add", ("texts:NEW", "ours:plain"), True),
    ("add", ("texts:NEW", "ours:Mixin.make"), True),
    ("add", ("texts:NEW", "text"), False),
    ("item", ("texts:TABLE", "key", "ours:plain"), True),
    ("item", ("texts:NAMES", "key", "ours:plain"), False),
]


@pytest.mark.parametrize(("kind", "arguments", "refused"), QUOTED)
def test_text_where_an_object_was_meant(
    overlay: Overlay, offer: Any, site: Any, kind: str, arguments: tuple[Any, ...], refused: bool
) -> None:
    site.write({"texts.py": "NAME, NOTHING, TABLE, NAMES = 'a:b', None, {'a': 1}, {'a': 'a:b'}\n"})
    sure = Overlay("sure", reason="a test", default=False)
    offer(sure)
    getattr(overlay, kind)(*arguments)
    getattr(sure, kind)(*arguments, as_is=True)
    importlib.import_module("lib")
    importlib.import_module("texts")
    if not refused:
        ascend_overlay.enable(only=["one"])
        return
    with pytest.raises(OverlayError, match=r"is the text '(.*)', and nothing would import it; write ref\('\1'\)"):
        ascend_overlay.enable(only=["one"])
    with ascend_overlay.enabled(only=["sure"]):
        assert ascend_overlay.ledger().of("sure")[-1].state == "applied"


def test_partials_and_instances_are_functions_of_modules() -> None:
    """What the tables above take for granted of the Python that they run on."""
    assert not hasattr(type(functools.partial(len)), "__get__") or sys.version_info >= (3, 14)


# --- constructors, and what else Python treats in its own way ---------------------------------------------------------

BUILDING = """
    class Empty: pass
    class OnlyNew:
        def __new__(cls, x): return object.__new__(cls)
    class Generic:
        def __class_getitem__(cls, item): return ("stock", cls.__name__, item)
    class Derived(Generic): pass
    class Called:
        def __call__(self, x): return ("stock", x)
        def register(self): ...
    called = Called()
    class Part:
        def __get__(self, instance, owner=None): return lambda x: ("stock", x)
    class Whole:
        part = Part()
    def registered(x): return ("stock", x)
    registered.register = None
"""


@pytest.fixture
def building(site: Any) -> Any:
    site.write({"building.py": BUILDING})
    return importlib.import_module("building")


def test_a_constructor_where_there_is_none(overlay: Overlay, building: Any) -> None:
    overlay.replace("building:Empty.__init__")(lambda self, x, *, y=2: vars(self).update(x=x, y=y))
    with ascend_overlay.enabled():
        assert vars(building.Empty(1)) == {"x": 1, "y": 2}
    assert vars(building.Empty()) == {}
    with pytest.raises(TypeError):
        building.Empty(1)


@pytest.mark.parametrize(
    ("ours", "why"), [(lambda self, x: None, None), (lambda self: None, "no positional argument 'x'")]
)
def test_a_constructor_takes_what_new_takes(overlay: Overlay, building: Any, ours: Any, why: str | None) -> None:
    overlay.replace("building:OnlyNew.__init__")(ours)
    if why is None:
        ascend_overlay.enable()
        assert type(building.OnlyNew(1)) is building.OnlyNew
        return
    with pytest.raises(SignatureError, match=why):
        ascend_overlay.enable()


@pytest.mark.parametrize("kind", ["replace", "attribute"])
def test_what_python_makes_a_class_method_is_one(overlay: Overlay, building: Any, kind: str) -> None:
    def ours(cls: type, item: Any) -> Any:
        return ("ours", cls.__name__, item)

    if kind == "replace":
        overlay.replace("building:Generic.__class_getitem__")(ours)
    else:
        overlay.attribute("building:Generic.__class_getitem__", ours, as_is=True)
    with ascend_overlay.enabled():
        assert building.Generic[int] == ("ours", "Generic", int) and building.Derived[int] == ("ours", "Derived", int)
    assert building.Derived[int] == ("stock", "Derived", int)


def test_what_python_makes_a_class_method_is_one_when_it_is_added(overlay: Overlay, building: Any) -> None:
    seen: list[str] = []
    overlay.add("building:Empty.__class_getitem__", lambda cls, item: (cls.__name__, item))
    overlay.attribute("building:Empty.__init_subclass__", lambda cls, **options: seen.append(cls.__name__))
    overlay.attribute("building:Empty.__new__", lambda cls: object.__new__(cls))
    with ascend_overlay.enabled():
        assert building.Empty[int] == ("Empty", int)
        made = type("Made", (building.Empty,), {})
        assert seen == ["Made"] and type(made()) is made and type(building.Empty()) is building.Empty
    assert not hasattr(building.Empty, "__class_getitem__") and type(building.Empty()) is building.Empty


LACKING = [
    ("lib:dispatched", "ours:plain", r"the original has register\(\), dispatch\(\), which callers may use"),
    ("building:registered", "ours:plain", r"the original has register\(\), which callers may use; give it the same\."),
    ("lib:dispatched", "ours:registered", r"the original has dispatch\(\), which callers may use"),
    ("lib:dispatched", "ours:dispatched", None),
    ("building:called", "ours:called", None),
    ("building:called", "ours:plain", None),
]


@pytest.mark.parametrize(("target", "ours", "why"), LACKING)
def test_what_callers_may_use_beside_calling(
    overlay: Overlay, site: Any, building: Any, target: str, ours: str, why: str | None
) -> None:
    site.write({"ours.py": OURS + "    def registered(x): return ('ours', x)\n    registered.register = None\n"})
    overlay.replace(target, ours)
    if why is not None:
        with pytest.raises(SignatureError, match=why):
            load()
        return
    load()
    module, _, name = target.partition(":")
    assert getattr(sys.modules[module], name)(1) == ("ours", 1)


NAMED = [
    ("lib:plain", "ours:method", "plain", "plain", "lib"),
    ("lib:Thing.method", "ours:method", "method", "Thing.method", "lib"),
    ("lib:Thing.static", "ours:plain", "static", "Thing.static", "lib"),
    ("lib:Thing.make", "ours:make", "make", "Thing.make", "lib"),
]


@pytest.mark.parametrize(("target", "ours", "name", "qualified", "module"), NAMED)
def test_a_replacement_goes_by_the_name_of_the_target(
    overlay: Overlay, site: Any, target: str, ours: str, name: str, qualified: str, module: str
) -> None:
    site.write({"ours.py": OURS.replace("def method(self, x)", "def method(self, x=0)")})
    site.write({"lib.py": LIB.replace("def plain(x)", "def plain(self)")})
    overlay.replace(target, ours)
    lib = load()
    found: Any = lib
    for part in qualified.split("."):
        found = getattr(found, part)
    assert (found.__name__, found.__qualname__, found.__module__) == (name, qualified, module)
    assert importlib.import_module("ours").plain.__module__ == "ours"


def test_a_property_may_bring_its_own_text(overlay: Overlay, site: Any) -> None:
    text = (
        "    class Told:\n        @property\n        def value(self):\n            'Ours.'\n            return 'ours'\n"
    )
    site.write({"ours.py": OURS + text})
    overlay.replace("lib:Thing.value", "ours:Told.value")
    assert load().Thing.value.__doc__ == "Ours."


def test_what_is_not_called_is_an_attribute(overlay: Overlay, building: Any) -> None:
    overlay.replace("lib:calls", "ours:plain")
    with pytest.raises(
        TargetError, match=r"the target lib:calls is \[\], which is not callable; use overlay.attribute"
    ):
        load()


def test_a_method_from_a_class_that_is_still_being_made(overlay: Overlay) -> None:
    lib: Any = importlib.import_module("lib")

    class Mixin:
        def method(self, x: Any) -> Any:
            return "ours", super().method(x)  # type: ignore[misc]

        overlay.replace("lib:Thing.method", method)
        ascend_overlay.enable()
        found = lib.Thing().method(1)

    assert Mixin.found == ("ours", ("base", 1))


OWN_SUPER = "    def super(): return None\n    def own_super(self, x): return ('ours', super())\n"
USES = """
    def names_super(self, x): return ("ours", super.__name__)
    def given_super(self, x): return ("ours", super(type(self), self).method(x))
    def calls_other(self, x): print, super; return ("ours", list())
"""


@pytest.mark.parametrize("name", ["names_super", "calls_other", "given_super"])
def test_only_a_bare_call_of_super_needs_a_class(overlay: Overlay, site: Any, name: str) -> None:
    site.write({"more.py": USES})
    overlay.replace("lib:Thing.method", f"more:{name}")
    answers = {"names_super": "super", "calls_other": [], "given_super": ("base", 1)}
    assert load().Thing().method(1) == ("ours", answers[name])


def test_a_function_called_super_is_any_function(overlay: Overlay, site: Any) -> None:
    site.write({"more.py": OWN_SUPER})
    overlay.replace("lib:Thing.method", "more:own_super")
    assert load().Thing().method(1) == ("ours", None)
