"""What check says of a patch is what enable() does with it: one table, judged by both."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.targets import judge_patch
from ascend_overlay.errors import OverlayError
from ascend_overlay.source.atlas import Atlas
from ascend_overlay.source.beside import Beside
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

Declare = Callable[[Overlay], object]

STOCK = """
import abc, contextlib, dataclasses, enum, functools
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Literal, NamedTuple, TypedDict

LIMIT = 5
NAME = "a"
NAMES = ["a"]
CHOICE = Literal["a", "b"]
double = lambda a: a

def plain(a, b=1): return a
async def waits(a): return a
def gives(a): yield a
async def streams(a): yield a
def promises(a) -> Awaitable[int]: ...
def iterates(a) -> "Iterator[int]": return iter([a])
@contextlib.contextmanager
def opened(a): yield a
@contextlib.asynccontextmanager
async def awaited(a): yield a
@functools.lru_cache(maxsize=None)
def kept(a): return a
@functools.cache
def cached(a): return a
@functools.singledispatch
def chosen(a): return a
def twice(function):
    @functools.wraps(function)
    def inner(*args, **kwargs): return function(*args, **kwargs)
    return inner
@twice
def decorated(a): return a

class Base:
    def above(self, a): return a

class C(Base):
    limit = 3
    def __init__(self, a=1):
        self.a = a
    def m(self, a): return a
    async def wait(self, a): return a
    def give(self, a): yield a
    @staticmethod
    def s(a): return a
    @classmethod
    def c(cls, a): return a
    @property
    def p(self): return 1
    @property
    def both(self): return self.a
    @both.setter
    def both(self, value): self.a = value
    @functools.cached_property
    def once(self): return 1
    @abc.abstractmethod
    def none(self): ...

class Itself:
    def m(self): return super(Itself, self).__init__()

class Made(type):
    def __call__(cls, *args): return super().__call__(*args)
class Odd(metaclass=Made):
    pass
@dataclasses.dataclass
class D:
    x: int = 1
    y: str = "a"
    z: list = dataclasses.field(default_factory=list)
class Derived(D):
    pass
class Plain:
    n: int
    w: int = 2
class E(enum.Enum):
    A = 1
class N(NamedTuple):
    x: int = 1
class T(TypedDict):
    x: int

thing = C()
"""

MINE = """
import contextlib, dataclasses, functools
from STOCK import C, D, Base, Itself

LIMIT = 7
NAME = "b"
def nothing(): ...
def one(a): return a
def plain(a, b=1): return a
def method(self, a): return a
def getter(self): return 1
def bare(self, a): return super().m(a)
async def waits(a): return a
async def wait(self, a): return a
def gives(a): yield a
async def streams(a): yield a
def promises(a) -> "Awaitable[int]": ...
@contextlib.contextmanager
def opened(a): yield a
@functools.lru_cache(maxsize=None)
def kept(a): return a
@functools.singledispatch
def chosen(a): return a
def any_way(*args, **kwargs): ...
def wrapper(wrapped, instance, args, kwargs): return wrapped(*args, **kwargs)
def wrapper_of_three(wrapped, args, kwargs): ...
def wrapper_by_any(wrapped, *rest): ...
def wrapper_with_more(wrapped, instance, args, kwargs, more): ...
def wrapper_with_default(wrapped, instance, args, kwargs, more=1): ...
def wrapper_by_name(wrapped, instance, *, args, kwargs): ...
async def wrapper_async(wrapped, instance, args, kwargs): ...
def wrapper_giving(wrapped, instance, args, kwargs): yield 1

class Sub(C):
    def m(self, a): return a
class Narrow(C):
    def m(self): return 1
class Awaiting(C):
    async def m(self, a): return a
class Static(C):
    @staticmethod
    def m(a): return a
class Valued(C):
    m = 1
class Demanding(C):
    def __init__(self, a): ...
class NoSetter(C):
    @property
    def both(self): return 1
class OfBase(Base):
    pass
class Itselfish(Itself):
    pass
class Other:
    def __init__(self, a=1): ...
    def m(self, a): return a
    @staticmethod
    def s(a): return a
    @classmethod
    def c(cls, a): return a
    @property
    def p(self): return 2
@dataclasses.dataclass
class More(D):
    w: int = 1
class OwnInit(D):
    def __init__(self, q): ...
"""


def _replace(target: str, with_: str) -> tuple[str, Declare]:
    return f"replace {target} {with_}", lambda o: o.replace(f"STOCK:{target}", f"MINE:{with_}")


def _wrap(target: str, with_: str = "wrapper") -> tuple[str, Declare]:
    return f"wrap {target} {with_}", lambda o: o.wrap(f"STOCK:{target}", f"MINE:{with_}")


def _subclass(target: str, with_: str, **given: Any) -> tuple[str, Declare]:
    return f"subclass {target} {with_} {given}", lambda o: o.subclass(f"STOCK:{target}", f"MINE:{with_}", **given)


def _factory(target: str, with_: str) -> tuple[str, Declare]:
    return f"factory {target} {with_}", lambda o: o.factory(f"STOCK:{target}", f"MINE:{with_}")


def _set(target: str, value: Any, **given: Any) -> tuple[str, Declare]:
    value = ref(f"MINE:{value[4:]}") if isinstance(value, str) and value.startswith("ref ") else value
    return f"attribute {target} {value} {given}", lambda o: o.attribute(f"STOCK:{target}", value, **given)


def _field(target: str, **given: Any) -> tuple[str, Declare]:
    return f"field {target} {given}", lambda o: o.field(f"STOCK:{target}", **given)


def _call(do: str, **given: Any) -> tuple[str, Declare]:
    return f"call {do} {given}", lambda o: o.call("STOCK", do=f"MINE:{do}", **(given or {"irreversible": True}))


ROWS: list[tuple[str, Declare]] = [
    *(
        _replace(target, with_)
        for target in ("plain", "waits", "gives", "streams", "promises", "iterates", "opened", "awaited", "kept")
        for with_ in ("one", "plain", "waits", "gives", "streams", "promises", "opened", "kept")
    ),
    *(
        _replace(target, with_)
        for target in ("C.m", "C.wait", "C.give", "C.s", "C.c", "C.p", "C.both", "C.once", "C.none", "C.above")
        for with_ in ("one", "method", "getter", "wait", "bare", "Other.m", "Other.s", "Other.c", "Other.p", "Other")
    ),
    *(_replace(target, "one") for target in ("LIMIT", "NAMES", "CHOICE", "double", "C", "C.limit", "C.a", "E.A")),
    *(_replace(target, "one") for target in ("D.x", "D.z", "Plain.n", "thing.m", "cached", "chosen", "decorated")),
    *(_replace("plain", with_) for with_ in ("LIMIT", "Other", "any_way", "not_there", "Other.not_there", "C")),
    _replace("chosen", "chosen"),
    *(
        _wrap(target)
        for target in ("plain", "waits", "gives", "C", "C.m", "C.s", "C.c", "C.p", "C.once", "C.limit", "C.a", "LIMIT")
    ),
    *(_wrap(target) for target in ("thing.m", "E.A", "D.x", "Plain.n", "Plain.w", "kept", "double", "decorated")),
    *(
        _wrap(target, f"wrapper_{how}")
        for target in ("plain", "waits", "gives")
        for how in ("of_three", "by_any", "with_more", "with_default", "by_name", "async", "giving", "not_there")
    ),
    _wrap("plain", "LIMIT"),
    _wrap("plain", "Other"),
    *(
        _subclass("C", with_)
        for with_ in ("Sub", "Narrow", "Awaiting", "Static", "Valued", "Demanding", "NoSetter", "OfBase", "Other")
    ),
    *(_subclass("C", with_, as_is=True) for with_ in ("Narrow", "Static", "Other", "one", "LIMIT", "not_there")),
    *(_subclass(*each) for each in (("C", "one"), ("plain", "Sub"), ("LIMIT", "Sub"), ("Itself", "Itselfish"))),
    *(_subclass(*each) for each in (("D", "More"), ("D", "OwnInit"), ("Base", "OfBase"), ("Base", "Sub"))),
    *(_factory("C", with_) for with_ in ("one", "nothing", "waits", "gives", "Other", "LIMIT", "not_there")),
    *(_factory(target, "any_way") for target in ("plain", "LIMIT", "Odd", "E", "D", "thing")),
    *(_set("LIMIT", value) for value in (6, "6", None, 1.5, "ref LIMIT", "ref NAME", "ref one", "ref not_there")),
    *(_set("LIMIT", value, as_is=True) for value in ("6", "ref one", "ref not_there")),
    *(_set("plain", value) for value in (6, "ref plain", "ref one", "ref Other", None)),
    *(_set("C.m", value) for value in (6, "ref method", "ref one", "ref getter", "ref wait", "ref bare")),
    *(_set(target, 6) for target in ("C", "C.limit", "C.a", "D.x", "D.z", "Derived.x", "E.A", "N.x", "T.x")),
    *(_set(target, 6) for target in ("Plain.n", "Plain.w", "CHOICE", "NAMES", "C.p", "thing.a")),
    *(_set("C", value) for value in ("ref Sub", "ref one", "ref Other")),
    *(_field("D.x", default=each) for each in (2, "b", None)),
    _field("D.x", default=ref("MINE:not_there")),
    *(_field("D.y", default=each) for each in (2, "b", ref("MINE:LIMIT"), ref("MINE:NAME"))),
    *(_field(target, default=2) for target in ("D.q", "Plain.w", "C.limit", "Derived.x", "N.x", "T.x", "E.A")),
    *(_field(target, default=2, annotation=int) for target in ("D.q", "Plain.q", "D.__q__")),
    _field("D.q", annotation=int),
    _field("D.z", default_factory=ref("MINE:nothing")),
    _field("D.z", default_factory=ref("MINE:LIMIT")),
    *(_call(do) for do in ("nothing", "one", "waits", "gives", "LIMIT", "Other", "not_there", "any_way")),
    *(_call("nothing", undo=f"MINE:{undo}") for undo in ("nothing", "one", "plain", "method", "LIMIT", "not_there")),
    *(
        (f"add {value}", functools.partial(lambda o, value: o.add("STOCK:new", ref(f"MINE:{value}")), value=value))
        for value in ("LIMIT", "one", "not_there")
    ),
    *(
        (f"item {value}", functools.partial(lambda o, value: o.entry("STOCK:NAMES", ref(f"MINE:{value}")), value=value))
        for value in ("NAME", "not_there")
    ),
]


@pytest.mark.parametrize("declare", [pytest.param(declare, id=name) for name, declare in ROWS])
def test_both_say_the_same(site: Any, engine: object, declare: Declare) -> None:
    stock, mine = "stock_of_both", "mine_of_both"
    site.write({f"{stock}/__init__.py": STOCK, f"{mine}.py": MINE.replace("STOCK", stock)})
    overlay = Overlay("one", reason="It is looked at.")
    declare(_Named(overlay, STOCK=stock, MINE=mine))  # type: ignore[arg-type]
    atlas = Atlas(Sources(Beside(Tree(site.folder / stock, stock))), stock)
    found = judge_patch(overlay.patches[0], Comparison(None, atlas))
    said = _refused(overlay, stock)
    assert (found.weight == "breaking") == (said is not None), (found.why, said)


def _refused(overlay: Overlay, module: str) -> str | None:
    importlib.import_module(module)
    try:
        ascend_overlay.enable(overlay)
    except OverlayError as error:
        return str(error)
    return None


class _Named:
    """An overlay whose declarations are given names for what they mean."""

    def __init__(self, overlay: Overlay, **names: str) -> None:
        self._overlay, self._names = overlay, names

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        declare = getattr(self._overlay, kind)
        return lambda *args, **given: declare(
            *map(self._named, args), **{name: self._named(each) for name, each in given.items()}
        )

    def _named(self, value: Any) -> Any:
        text = getattr(value, "text", value)
        if not isinstance(text, str):
            return value
        for name, meant in self._names.items():
            text = text.replace(f"{name}:", f"{meant}:") if text != name else meant
        return text if isinstance(value, str) else ref(text)
