"""overlay.wrap as a whole: what it installs, who is said to keep what was there, and that all of it comes back."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConflictError, TargetError
from ascend_overlay.patches import shells

LIBRARY = """
    import functools
    from collections.abc import AsyncIterator, Iterator

    def run(x): return x

    class Base:
        def plain(self, x): return x
        async def coroutine(self, x): return x
        def generator(self, x): yield x
        async def async_generator(self, x): yield x
        @staticmethod
        async def static(x): return x
        @classmethod
        async def of_class(cls, x): return x

    class Derived(Base): ...

    def around(function):
        @functools.wraps(function)
        def inner(*args): return function(*args)
        return inner
"""


def adding(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Add one to the argument."""
    return wrapped(args[0] + 1, *args[1:], **kwargs)


def test_nobody_is_said_to_keep_what_the_wrappers_themselves_hold(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIBRARY, "user.py": "from lib import run\nfrom lib import Base\nplain = Base.plain\n"})
    lib, user = importlib.import_module("lib"), importlib.import_module("user")
    stock = lib.run
    for name in ("first", "second"):
        overlay = Overlay(name, reason="a test")
        overlay.wrap("lib:run")(adding)
        overlay.wrap("lib:Base.plain")(adding)
        offer(overlay)

    ascend_overlay.enable(only=["first"])
    ascend_overlay.enable(only=["second"])

    assert [user.run(1), lib.Base().plain(1)] == [3, 3]
    assert [list(entry.stale) for entry in ascend_overlay.ledger()] == [[]] * 4
    ascend_overlay.disable(only=["first"])
    assert [user.run(1), lib.Base().plain(1)] == [2, 2]
    ascend_overlay.disable()
    assert user.run is lib.run is stock


@pytest.mark.parametrize("owner", ["Base", "Derived"])
@pytest.mark.parametrize("name", ["plain", "coroutine", "generator", "async_generator", "static", "of_class"])
def test_a_member_keeps_its_kind_inherited_or_not(site: Any, offer: Any, owner: str, name: str) -> None:
    site.write({"lib.py": LIBRARY})
    lib = importlib.import_module("lib")
    cls = getattr(lib, owner)
    before = getattr(cls(), name)
    overlay = Overlay("kinds", reason="a test")
    overlay.wrap(f"lib:{owner}.{name}")(adding)
    offer(overlay)

    ascend_overlay.enable()

    after = getattr(cls(), name)
    for tells in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert tells(after) == tells(before)
    assert inspect.signature(after) == inspect.signature(before)
    assert _result(after(1)) == 2
    ascend_overlay.disable()
    assert (name in vars(cls)) == (owner == "Base")
    assert getattr(cls(), name).__func__ is before.__func__ if name != "static" else getattr(cls, name) is before


def _result(given: Any) -> Any:
    if inspect.iscoroutine(given):
        return asyncio.run(given)
    if inspect.isasyncgen(given):
        return asyncio.run(anext(given))  # type: ignore[arg-type]
    return next(given) if inspect.isgenerator(given) else given


def test_an_inherited_method_is_looked_up_at_each_call(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIBRARY})
    lib = importlib.import_module("lib")
    for target in ("lib:Derived.coroutine", "lib:Base.coroutine"):
        overlay = Overlay(target.partition(":")[2].replace(".", "_").lower(), reason="a test")
        overlay.wrap(target)(adding)
        offer(overlay)

    ascend_overlay.enable(only=["derived_coroutine"])
    assert asyncio.run(lib.Derived().coroutine(1)) == 2
    ascend_overlay.enable(only=["base_coroutine"])
    assert asyncio.run(lib.Derived().coroutine(1)) == 3


GETTERS = """
    import functools, operator
    class Callable:
        def __call__(self, thing): return thing.size
    def get(extra, thing): return thing.size
    class Thing:
        size = 1
        by_getter = property(operator.attrgetter("size"))
        by_partial = property(functools.partial(get, 0))
        by_object = property(Callable())
"""


@pytest.mark.parametrize("name", ["by_getter", "by_partial", "by_object"])
def test_the_getter_of_a_property_may_be_anything(site: Any, offer: Any, name: str) -> None:
    site.write({"lib.py": GETTERS})
    lib = importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    overlay.wrap(f"lib:Thing.{name}")(lambda wrapped, instance, args, kwargs: (wrapped(), instance.size))
    offer(overlay)
    ascend_overlay.enable()
    assert getattr(lib.Thing(), name) == (1, 1)
    ascend_overlay.disable()
    assert getattr(lib.Thing(), name) == 1


def test_a_generator_is_awaited_where_it_was_before(site: Any, offer: Any) -> None:
    text = "import types\ndef plain(x): yield x\n@types.coroutine\ndef awaited(x): yield x\n"
    site.write({"lib.py": text})
    lib = importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    for name in ("plain", "awaited"):
        overlay.wrap(f"lib:{name}")(adding)
    offer(overlay)
    ascend_overlay.enable()
    for name in ("plain", "awaited"):
        made = getattr(lib, name)(1)
        assert inspect.isawaitable(made) == (name == "awaited") and list(made) == [2]


def test_a_wrapper_has_one_link_to_what_it_wraps(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIBRARY})
    lib = importlib.import_module("lib")
    stock = lib.run
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(adding)
    offer(overlay)
    ascend_overlay.enable()
    link = shells.link_of(lib.run)
    assert link is not None and link.inner is stock
    # The first call is noted by what stands in the wrapper's place until then.
    lib.run(1)
    assert link.inner is stock and link.wrapper is adding


INHERITED = """
    import functools
    class Base:
        def plain(self, x): return ("base", x)
        @property
        def value(self): return ("base", self.held)
        @value.setter
        def value(self, given): self.held = given
        held = 1
        @staticmethod
        def static(x): return ("base", x)
        @classmethod
        def of_class(cls, x): return (cls.__name__, x)
        given = len
    class Derived(Base): pass
    class Table(dict): pass
    class Deeper(Table): pass
    class Text(str): pass
    HOLDER = Derived()
"""
WAYS: dict[str, tuple[str, Callable[[Any], Any], Any]] = {
    "method": ("Derived.plain", lambda lib: lib.Derived().plain(1), ("base", 1)),
    "static method": ("Derived.static", lambda lib: lib.Derived.static(1), ("base", 1)),
    "class method": ("Derived.of_class", lambda lib: lib.Derived().of_class(1), ("Derived", 1)),
    "property": ("Derived.value", lambda lib: lib.Derived().value, ("base", 1)),
    "builtin": ("Derived.given", lambda lib: lib.Derived().given("abc"), 3),
    "builtin of the class": ("Derived.given", lambda lib: lib.Derived.given("abc"), 3),
    "method of a builtin": ("Table.get", lambda lib: lib.Table(a=1).get("a"), 1),
    "special method of a builtin": ("Table.__getitem__", lambda lib: lib.Table(a=1)["a"], 1),
    "class method of a builtin": ("Table.fromkeys", lambda lib: lib.Table.fromkeys("a", 1), {"a": 1}),
    "class method of a builtin, derived": (
        "Table.fromkeys",
        lambda lib: type(lib.Deeper.fromkeys("a")).__name__,
        "Deeper",
    ),
    "static method of a builtin": ("Text.maketrans", lambda lib: lib.Text.maketrans({"a": "b"}), {97: "b"}),
    "static method of an object": ("HOLDER.static", lambda lib: lib.HOLDER.static(1), ("base", 1)),
    "builtin of an object": ("HOLDER.given", lambda lib: lib.HOLDER.given("abc"), 3),
}


def noting(met: list[str]) -> Callable[..., Any]:
    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        met.append("met")
        return wrapped(*args, **kwargs)

    return note


@pytest.mark.parametrize(("path", "use", "expected"), WAYS.values(), ids=WAYS)
def test_what_is_inherited_is_wrapped_where_it_was_named(
    site: Any, offer: Any, path: str, use: Callable[[Any], Any], expected: Any
) -> None:
    site.write({"lib.py": INHERITED})
    lib: Any = importlib.import_module("lib")
    owner, _, name = path.partition(".")
    met: list[str] = []
    overlay = Overlay("one", reason="a test")
    overlay.wrap(f"lib:{path}")(noting(met))
    offer(overlay)
    for _ in range(2):
        ascend_overlay.enable()
        assert use(lib) == expected and met == ["met"]
        assert name in vars(getattr(lib, owner))
        assert lib.Base().plain(2) == ("base", 2) and lib.Base().value == ("base", 1) and met == ["met"]
        ascend_overlay.disable()
        assert use(lib) == expected and met == ["met"]
        assert name not in vars(getattr(lib, owner))
        met.clear()


def test_what_is_inherited_follows_a_patch_of_the_base(site: Any, offer: Any) -> None:
    site.write({"lib.py": INHERITED})
    lib: Any = importlib.import_module("lib")
    met: list[str] = []
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    for name in ("plain", "static", "of_class", "value"):
        one.wrap(f"lib:Derived.{name}")(noting(met))
    two.replace("lib:Base.plain")(lambda self, x: ("ours", x))
    two.replace("lib:Base.static")(lambda x: ("ours", x))
    two.replace("lib:Base.of_class")(lambda cls, x: ("ours", cls.__name__, x))
    two.replace("lib:Base.value")(lambda self: ("ours", self.held))
    offer(one, two)
    ascend_overlay.enable(only=["one"])
    ascend_overlay.enable(only=["two"])
    made = lib.Derived()
    assert (made.plain(1), made.static(1), made.of_class(1)) == (("ours", 1), ("ours", 1), ("ours", "Derived", 1))
    made.value = 5
    assert made.value == ("ours", 5) and len(met) == 4


def test_a_property_that_is_inherited_keeps_its_other_accessors_and_its_text(site: Any, offer: Any) -> None:
    text = "class Base:\n    @property\n    def value(self):\n        'Stock.'\n        return 1\n"
    text += "    @value.setter\n    def value(self, given): self.given = given\n"
    text += "    @value.deleter\n    def value(self): self.given = 'gone'\nclass Derived(Base): pass\n"
    site.write({"lib.py": text})
    lib: Any = importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:Derived.value")(lambda wrapped, instance, args, kwargs: wrapped() + 1)
    offer(overlay)
    ascend_overlay.enable()
    made = lib.Derived()
    made.value = 5
    assert (made.value, made.given, lib.Derived.value.__doc__) == (2, 5, "Stock.")
    del made.value
    assert made.given == "gone"


STEPS: dict[str, Callable[[Any], Any]] = {
    "run": lambda lib: lib.run,
    "Base.plain": lambda lib: lib.Base.plain,
    "Base.coroutine": lambda lib: lib.Base.coroutine,
    "Base.generator": lambda lib: lib.Base.generator,
    "Base.static": lambda lib: lib.Base.static,
    "Base.of_class": lambda lib: lib.Base.of_class.__func__,
    "Base.value": lambda lib: lib.Base.value.fget,
    "Base.once": lambda lib: lib.Base.once.func,
}


@pytest.mark.parametrize(("path", "look"), STEPS.items(), ids=STEPS)
def test_what_is_wrapped_is_one_step_away(site: Any, offer: Any, path: str, look: Callable[[Any], Any]) -> None:
    more = "        @property\n        def value(self): return 1\n"
    more += "        @functools.cached_property\n        def once(self): return 1\n"
    site.write({"lib.py": LIBRARY.replace("    class Derived", f"{more}\n    class Derived", 1)})
    lib = importlib.import_module("lib")
    stock = look(lib)
    overlay = Overlay("one", reason="a test")
    overlay.wrap(f"lib:{path}")(adding)
    offer(overlay)
    ascend_overlay.enable()
    assert look(lib) is not stock and look(lib).__wrapped__ is stock


@pytest.mark.parametrize("kind", ["wrap", "replace"])
@pytest.mark.parametrize(
    ("name", "definer"),
    [("plain", "Base.plain"), ("of_class", "Base.of_class"), ("value", "Base.value"), ("own", "Derived.own")],
)
def test_a_method_of_an_object_is_that_of_its_class(site: Any, offer: Any, kind: str, name: str, definer: str) -> None:
    own = "    class Derived(Base):\n        def own(self): return 'own'\n"
    site.write(
        {"lib.py": INHERITED.replace("    class Derived(Base): pass\n", own), "ours.py": "def around(*args): ...\n"}
    )
    importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    getattr(overlay, kind)(f"lib:HOLDER.{name}", "ours:around")
    offer(overlay)
    with pytest.raises(
        TargetError, match=rf"lib:HOLDER.{name} is something that an object has .*; name lib:{definer}, for"
    ):
        ascend_overlay.enable()


def test_a_function_of_the_objects_own_is_wrapped(site: Any, offer: Any) -> None:
    site.write({"lib.py": INHERITED + "    HOLDER.own = lambda x: ('own', x)\n"})
    lib: Any = importlib.import_module("lib")
    met: list[str] = []
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:HOLDER.own")(noting(met))
    offer(overlay)
    with ascend_overlay.enabled():
        assert lib.HOLDER.own(1) == ("own", 1) and met == ["met"]
    assert lib.HOLDER.own(1) == ("own", 1) and met == ["met"]


def test_two_names_of_one_thing_are_a_conflict_that_names_both(site: Any, offer: Any) -> None:
    site.write(
        {"lib.py": LIBRARY, "user.py": "from lib import Base as Copy\nimport lib as again\nfrom lib import run\n"}
    )
    importlib.import_module("user")
    places = [("lib:Base.plain", "user:Copy.plain", "lib:Base.plain"), ("lib:run", "user:again.run", "lib:run")]
    for first, second, place in places:
        one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
        one.replace(first)(lambda *args, **kwargs: "one")
        two.replace(second)(lambda *args, **kwargs: "two")
        ascend_overlay.enable(one)
        with pytest.raises(
            ConflictError, match=f"{second} is the same thing as {place}, which overlay 'one' .* decides al"
        ):
            ascend_overlay.enable(two)
        ascend_overlay.disable()


HELD = """
    import functools
    def run(): return "stock"
    class Thing:
        def method(self): return "stock"
        @staticmethod
        def static(): return "stock"
        @classmethod
        def of_class(cls): return "stock"
    def keep(function):
        def kept(): return function()
        return kept
"""
HOLDERS: dict[str, Callable[[Any], Any]] = {
    "run": lambda lib: lib.run,
    "Thing.method": lambda lib: functools.partial(lib.Thing.method, lib.Thing()),
    "Thing.static": lambda lib: lib.Thing.static,
    "Thing.of_class": lambda lib: lib.Thing.of_class,
}


@pytest.mark.parametrize(("path", "take"), HOLDERS.items(), ids=HOLDERS)
def test_who_keeps_a_replacement_meets_the_wrapper_that_comes_later(
    site: Any, offer: Any, path: str, take: Callable[[Any], Any]
) -> None:
    site.write({"held.py": HELD, "ours.py": "def run(): return 'ours'\ndef method(self): return 'ours'\n"})
    lib: Any = importlib.import_module("held")
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    one.replace(f"held:{path}", f"ours:{'method' if path in ('Thing.method', 'Thing.of_class') else 'run'}")
    two.wrap(f"held:{path}")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(one, two)
    ascend_overlay.enable(only=["one"])
    held = lib.keep(take(lib))
    assert held() == "ours"
    ascend_overlay.enable(only=["two"])
    assert held() == take(lib)() == "<ours>"
    ascend_overlay.disable(only=["two"])
    assert held() == take(lib)() == "ours"
    ascend_overlay.enable(only=["two"])
    ascend_overlay.disable(only=["one"])
    assert held() == take(lib)() == "<stock>"
    ascend_overlay.disable()
    assert held() == take(lib)() == "stock"


BORROWED = [
    ("attribute", "run"),
    ("attribute", "called"),
    ("replace", "cached"),
]


@pytest.mark.parametrize(("kind", "name"), BORROWED)
def test_what_is_put_in_place_as_it_is_stays_what_it_was_to_its_own_module(
    site: Any, offer: Any, kind: str, name: str
) -> None:
    text = """
        import functools
        def run(): return "ours"
        class Called:
            def __call__(self): return "ours"
        called = Called()
        @functools.lru_cache
        def cached(): return "ours"
        ALL = [run, called, cached]
    """
    site.write({"held.py": HELD, "ours.py": text, "copier.py": "from held import run\nfrom held import run as again\n"})
    lib: Any = importlib.import_module("held")
    copier: Any = importlib.import_module("copier")
    ours: Any = importlib.import_module("ours")
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    if kind == "attribute":
        one.attribute("held:run", ascend_overlay.ref(f"ours:{name}"), as_is=True)
    else:
        one.replace("held:run", f"ours:{name}")
    two.wrap("held:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(one, two)
    place = ["run", "called", "cached"].index(name)
    for _ in range(2):
        ascend_overlay.enable(only=["one"])
        assert lib.run is getattr(ours, name) is ours.ALL[place] and ours.run() == "ours"
        assert lib.run() == copier.run() == "ours" and (kind == "attribute" or copier.again() == "ours")
        ascend_overlay.enable(only=["two"])
        assert lib.run() == copier.run() == "<ours>"
        ascend_overlay.disable(only=["two"])
        assert lib.run is getattr(ours, name) and lib.run() == "ours"
        ascend_overlay.disable()
        assert lib.run() == copier.run() == copier.again() == "stock"
        assert getattr(ours, name)() == ours.ALL[place]() == "ours"


def test_two_names_of_one_attribute_are_a_conflict(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIBRARY + "    limit = 1\n", "user.py": "import lib as again\n"})
    importlib.import_module("user")
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    one.attribute("lib:limit", 2)
    two.attribute("user:again.limit", 3)
    ascend_overlay.enable(one)
    with pytest.raises(ConflictError, match=r"user:again\.limit is the same thing as lib:limit, which overlay 'one' "):
        ascend_overlay.enable(two)
    ascend_overlay.disable()
    assert importlib.import_module("lib").limit == 1
