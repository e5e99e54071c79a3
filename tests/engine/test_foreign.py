"""Others change the places that overlays patch: that is seen, said once, and never lost."""

from __future__ import annotations

import functools
import importlib
import itertools
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import wrapt

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay.errors import ForeignError

LIBRARY = """
    def run(x=1): return ("stock", x)
    class Thing:
        def method(self, x=1): return ("stock", x)
        @staticmethod
        def static(x=1): return ("stock", x)
        @classmethod
        def class_(cls, x=1): return ("stock", x)
        size = 1
    CONSTANT = 1
    TABLE = {"run": run}
    COPY = [run]
"""


@pytest.fixture
def lib(site: Any) -> ModuleType:
    """The module that is patched, with a copy elsewhere."""
    site.write({"lib.py": LIBRARY, "user.py": "from lib import run\n"})
    importlib.import_module("user")
    return importlib.import_module("lib")


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return ("ours", *wrapped(*args, **kwargs))


class Place:
    """A place, how it is patched, how it is called, and how somebody else reaches it."""

    def __init__(self, target: str, kind: str, owner: str, name: Any, call: Callable[[ModuleType], Any]) -> None:
        self.target, self.kind, self.owner, self.name, self.call = target, kind, owner, name, call

    def overlay(self, name: str = "one") -> Overlay:
        """Return an overlay that changes it."""
        overlay = Overlay(name, reason="a test")
        if self.kind == "wrap":
            overlay.wrap(self.target)(around)
        elif self.kind == "replace":
            overlay.replace(self.target)(lambda *args, **kwargs: ("ours", "stock", 1))
        elif self.kind == "item":
            overlay.item(self.target, self.name, lambda x=1: ("ours", "stock", 1))
        else:
            overlay.attribute(self.target, 2)
        return overlay

    def owner_in(self, lib: ModuleType) -> Any:
        """Return what has it."""
        return functools.reduce(getattr, filter(None, self.owner.split(".")), lib)

    def get(self, lib: ModuleType) -> Any:
        """Return what is in it, undressed."""
        owner = self.owner_in(lib)
        return owner[self.name] if isinstance(owner, dict) else vars(owner)[self.name]

    def set(self, lib: ModuleType, value: Any) -> None:
        """Put something in it."""
        owner = self.owner_in(lib)
        if isinstance(owner, dict):
            owner[self.name] = value
        else:
            setattr(owner, self.name, value)

    def delete(self, lib: ModuleType) -> None:
        """Remove it."""
        owner = self.owner_in(lib)
        if isinstance(owner, dict):
            del owner[self.name]
        else:
            delattr(owner, self.name)

    def patcher(self, lib: ModuleType, value: Any) -> Any:
        """Return mock's way of putting `value` in it."""
        owner = self.owner_in(lib)
        if isinstance(owner, dict):
            return mock.patch.dict(owner, {self.name: value})
        return mock.patch.object(owner, self.name, value)

    def monkey(self, monkeypatch: pytest.MonkeyPatch, lib: ModuleType, value: Any) -> None:
        """Have pytest put `value` in it."""
        owner = self.owner_in(lib)
        if isinstance(owner, dict):
            monkeypatch.setitem(owner, self.name, value)
        else:
            monkeypatch.setattr(owner, self.name, value)


PLACES = {
    "function, wrapped": Place("lib:run", "wrap", "", "run", lambda m: m.run()),
    "function, replaced": Place("lib:run", "replace", "", "run", lambda m: m.run()),
    "method": Place("lib:Thing.method", "wrap", "Thing", "method", lambda m: m.Thing().method()),
    "method, replaced": Place("lib:Thing.method", "replace", "Thing", "method", lambda m: m.Thing().method()),
    "static method": Place("lib:Thing.static", "wrap", "Thing", "static", lambda m: m.Thing.static()),
    "class method": Place("lib:Thing.class_", "wrap", "Thing", "class_", lambda m: m.Thing.class_()),
    "class attribute": Place("lib:Thing.size", "attribute", "Thing", "size", lambda m: m.Thing.size),
    "constant": Place("lib:CONSTANT", "attribute", "", "CONSTANT", lambda m: m.CONSTANT),
    "dict entry": Place("lib:TABLE", "item", "TABLE", "run", lambda m: m.TABLE["run"]()),
}
OURS: dict[str, Any] = dict.fromkeys(PLACES, ("ours", "stock", 1)) | {"class attribute": 2, "constant": 2}
STOCK: dict[str, Any] = dict.fromkeys(PLACES, ("stock", 1)) | {"class attribute": 1, "constant": 1}
CALLED = [name for name in PLACES if isinstance(STOCK[name], tuple)]
WRAPPED = [name for name in CALLED if PLACES[name].kind != "item"]


def theirs(*args: Any, **kwargs: Any) -> Any:
    """Stand in the place of something."""
    return ("theirs",)


def value_of_theirs(place: Place) -> Any:
    """Return what somebody else puts in a place."""
    if place.kind == "attribute":
        return 30
    return staticmethod(theirs) if place.name in ("static", "class_") else theirs


def result_of_theirs(place: Place) -> Any:
    return 30 if place.kind == "attribute" else ("theirs",)


def entry(name: str = "one") -> Any:
    (found,) = ascend_overlay.ledger().of(name)
    return found


@pytest.mark.parametrize("case", PLACES)
def test_who_stands_in_place_of_ours_is_named_and_stays(lib: ModuleType, offer: Any, case: str, caplog: Any) -> None:
    # given
    place = PLACES[case]
    offer(place.overlay())
    stock = place.get(lib)
    ascend_overlay.enable()
    ours = place.get(lib)
    assert place.call(lib) == OURS[case]
    # when
    place.set(lib, value_of_theirs(place))
    # then
    with caplog.at_level(logging.WARNING, logger="ascend_overlay"):
        found = entry()
        entry()
        api._engine.look()
    assert found.state == "displaced"
    who = "30" if place.kind == "attribute" else "test_foreign.py"
    assert any(who in note and "seen at" in note for note in found.notes), found.notes
    assert len([record for record in caplog.records if "stands in place" in record.message]) == 1
    # and when it goes
    place.set(lib, ours)
    assert entry().state == "applied" and not any("seen at" in note for note in entry().notes)
    assert place.call(lib) == OURS[case]
    # and when it comes back and ours goes
    place.set(lib, value_of_theirs(place))
    ascend_overlay.disable()
    assert place.call(lib) == result_of_theirs(place)
    place.set(lib, stock)
    assert place.call(lib) == STOCK[case] and list(api._engine._patcher.slots) == []


def by_closure(inner: Any) -> Any:
    def outer(*args: Any, **kwargs: Any) -> Any:
        return ("theirs", *inner(*args, **kwargs))

    return outer


class ByAttribute:
    """A wrapper that is an object."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ("theirs", *self.inner(*args, **kwargs))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def by_default(inner: Any) -> Any:
    return lambda *args, inner=inner, **kwargs: ("theirs", *inner(*args, **kwargs))


def _prefixed(inner: Any, *args: Any, **kwargs: Any) -> Any:
    return ("theirs", *inner(*args, **kwargs))


def by_partial(inner: Any) -> Any:
    partial = functools.partial(_prefixed, inner)
    return lambda *args, **kwargs: partial(*args, **kwargs)


def by_wraps(inner: Any) -> Any:
    return functools.wraps(inner)(by_closure(inner))


def by_wrapt(inner: Any) -> Any:
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return ("theirs", *wrapped(*args, **kwargs))

    return wrapt.FunctionWrapper(inner, wrapper)


def by_global(inner: Any) -> Any:
    module: dict[str, Any] = {"inner": inner}
    exec("def outer(*args, **kwargs): return ('theirs', *inner(*args, **kwargs))", module)
    return module["outer"]


def by_table(inner: Any) -> Any:
    table = {"inner": [inner]}
    return lambda *args, **kwargs: ("theirs", *table["inner"][0](*args, **kwargs))


WAYS = [by_closure, ByAttribute, by_default, by_partial, by_wraps, by_wrapt, by_global, by_table]
KINDS_OF_FUNCTION = [name for name in WRAPPED if "static" not in name and "class" not in name]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("case", KINDS_OF_FUNCTION)
def test_who_goes_around_ours_is_named_and_stays(lib: ModuleType, offer: Any, case: str, way: Any) -> None:
    place = PLACES[case]
    offer(place.overlay(), *([place.overlay("two")] if place.kind == "wrap" else []))
    stock = place.get(lib)
    ascend_overlay.enable(only=["one"])
    outer = way(place.get(lib))
    place.set(lib, outer)
    assert place.call(lib) == ("theirs", "ours", "stock", 1)
    found = entry()
    assert found.state == "applied"
    assert any("goes around this patch" in note for note in found.notes), found.notes
    if place.kind == "wrap":
        # A second one goes around theirs; and each goes out from where it is.
        ascend_overlay.enable(only=["two"])
        assert place.call(lib) == ("ours", "theirs", "ours", "stock", 1)
        ascend_overlay.disable(only=["one"])
        assert place.call(lib) == ("ours", "theirs", "stock", 1)
        ascend_overlay.enable(only=["one"])
        assert place.call(lib) == ("ours", "ours", "theirs", "stock", 1)
        ascend_overlay.disable(only=["two"])
        assert place.call(lib) == ("ours", "theirs", "stock", 1)
    ascend_overlay.disable()
    assert place.call(lib) == ("theirs", "stock", 1)
    assert place.get(lib) is outer
    place.set(lib, stock)
    assert place.call(lib) == ("stock", 1)
    assert list(api._engine._patcher.slots) == []


@pytest.mark.parametrize("case", [name for name in WRAPPED if PLACES[name].kind == "wrap"])
@pytest.mark.parametrize("first", ["one", "two"])
def test_two_of_ours_with_theirs_between(lib: ModuleType, offer: Any, case: str, first: str) -> None:
    place = PLACES[case]
    offer(place.overlay("one"), place.overlay("two"))
    stock = place.get(lib)
    kind = type(stock) if isinstance(stock, (staticmethod, classmethod)) else (lambda function: function)
    ascend_overlay.enable(only=["one"])
    inner = place.get(lib)
    place.set(lib, kind(by_closure(getattr(inner, "__func__", inner))))
    theirs_now = place.get(lib)
    ascend_overlay.enable(only=["two"])
    assert place.call(lib) == ("ours", "theirs", "ours", "stock", 1)
    ascend_overlay.disable(only=[first])
    assert place.call(lib) == (("ours", "theirs", "stock", 1) if first == "one" else ("theirs", "ours", "stock", 1))
    ascend_overlay.disable()
    assert place.call(lib) == ("theirs", "stock", 1) and place.get(lib) is theirs_now


# what happens, in the order of the letters: e(nable), d(isable), p(ut theirs), r(estore)
ALL_ORDERS = ["".join(letters) for letters in itertools.permutations("edpr")]
ORDERS = [o for o in ALL_ORDERS if o.index("e") < o.index("d") and o.index("p") < o.index("r")]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("how", ["mock", "monkeypatch"])
@pytest.mark.parametrize("case", PLACES)
def test_mock_and_monkeypatch_in_any_order(
    lib: ModuleType, offer: Any, case: str, how: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = PLACES[case]
    offer(place.overlay())
    stock, user = place.get(lib), importlib.import_module("user")
    copy = user.run
    with pytest.MonkeyPatch.context() as monkey:
        patcher = place.patcher(lib, value_of_theirs(place))
        for step in order:
            if step == "e":
                ascend_overlay.enable()
            elif step == "d":
                ascend_overlay.disable()
            elif step == "p" and how == "mock":
                patcher.start()
            elif step == "p":
                place.monkey(monkey, lib, value_of_theirs(place))
            elif how == "mock":
                patcher.stop()
            else:
                monkey.undo()
            if step == "p":
                assert place.call(lib) == result_of_theirs(place)
            if step == "r" and "d" not in order[: order.index("r")] and "e" in order[: order.index("r")]:
                # The ledger looks, and mends; nothing tells who made a constant, or the entry of a mapping.
                made = case in WRAPPED or order.index("e") < order.index("p")
                assert entry().state == ("applied" if made else "displaced")
                assert place.call(lib) == (OURS[case] if made else STOCK[case])
    assert place.get(lib) is stock and place.call(lib) == STOCK[case]
    assert user.run is copy and lib.COPY[0] is copy
    assert list(api._engine._patcher.slots) == []
    ascend_overlay.enable()
    assert place.call(lib) == OURS[case] and entry().state == "applied"
    ascend_overlay.disable()
    assert place.get(lib) is stock


@pytest.mark.parametrize("last", ["one", "two"])
@pytest.mark.parametrize("kinds", ["wrap replace", "replace wrap"])
def test_a_mock_between_two_overlays_does_not_stay(lib: ModuleType, kinds: str, last: str) -> None:
    stock = lib.run
    for name, kind in zip(["one", "two"], kinds.split(), strict=True):
        overlay = Overlay(name, reason="a test")
        function: Any = around if kind == "wrap" else (lambda x=1: ("ours", x))
        getattr(overlay, kind)("lib:run")(function)
        if name == "one":
            ascend_overlay.enable(overlay)
            patcher = mock.patch.object(lib, "run", lambda x=1: ("mock", x))
            patcher.start()
        else:
            ascend_overlay.enable(overlay, foreign="accept")
    patcher.stop()
    ascend_overlay.disable(only=["one" if last == "two" else "two"])
    assert "mock" not in lib.run() and "ours" in lib.run()
    ascend_overlay.disable()
    assert lib.run is stock


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("then", ["disable", "put back"])
def test_somebody_removes_the_place(lib: ModuleType, offer: Any, case: str, then: str) -> None:
    place = PLACES[case]
    offer(place.overlay())
    ascend_overlay.enable()
    ours = place.get(lib)
    place.delete(lib)
    found = entry()
    assert found.state == "displaced" and any("removed" in note for note in found.notes), found
    if then == "put back":
        place.set(lib, ours)
        assert entry().state == "applied"
        place.delete(lib)
    ascend_overlay.disable()
    with pytest.raises(KeyError):
        place.get(lib)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("required", [True, False])
def test_what_is_required_is_to_be_met_however_lenient_the_settings_are(
    lib: ModuleType, offer: Any, required: bool, strict: bool
) -> None:
    place = PLACES["method"]
    offer(place.overlay())
    ascend_overlay.enable(require=["one"] if required else [], strict=strict)
    place.set(lib, value_of_theirs(place))
    if required:
        with pytest.raises(ForeignError, match="overlay 'one'"):
            api.look()
    else:
        api.look()


@pytest.mark.parametrize("setting", ["warn", "accept"])
@pytest.mark.parametrize("case", PLACES)
def test_where_it_is_no_error_nothing_is_raised(
    lib: ModuleType, offer: Any, case: str, setting: Any, recwarn: pytest.WarningsRecorder
) -> None:
    place = PLACES[case]
    offer(place.overlay())
    ascend_overlay.enable(foreign=setting, strict=True)
    place.set(lib, value_of_theirs(place))
    api.look()
    assert not recwarn.list


@pytest.mark.parametrize("case", ["function, wrapped", "method", "dict entry"])
@pytest.mark.parametrize(
    "when", ["enable", "look", "enter_role"], ids=["a second enable()", "a checkpoint", "the start of a role"]
)
def test_foreign_error(lib: ModuleType, offer: Any, site: Any, case: str, when: str) -> None:
    place = PLACES[case]
    other = Overlay("other", reason="a test")
    other.add("lib:new", 1)
    offer(place.overlay(), other)
    ascend_overlay.enable(only=["one"], foreign="error")
    api.look()
    place.set(lib, value_of_theirs(place))
    with pytest.raises(ForeignError, match=r"overlay 'one'.*test_foreign.py.*foreign='accept'"):
        if when == "enable":
            ascend_overlay.enable(only=["other"], foreign="error")
        elif when == "look":
            api.look()
        else:
            api.enter_role("engine")
    assert place.call(lib) == result_of_theirs(place)
    if when == "enable":
        assert not hasattr(lib, "new"), "nothing of that call stays behind"
    ascend_overlay.disable()
    assert place.call(lib) == result_of_theirs(place)


def test_foreign_accept_says_it_in_the_ledger_alone(lib: ModuleType, offer: Any, caplog: Any) -> None:
    offer(PLACES["method"].overlay())
    ascend_overlay.enable(foreign="accept")
    PLACES["method"].set(lib, theirs)
    with caplog.at_level(logging.WARNING, logger="ascend_overlay"):
        assert entry().state == "displaced" and any("theirs" in note for note in entry().notes)
        api.look()
    assert caplog.records == []


# --- who was there first ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [name for name in PLACES if PLACES[name].kind in ("wrap", "replace")])
def test_who_was_there_before_is_named(lib: ModuleType, offer: Any, case: str) -> None:
    place = PLACES[case]
    before = value_of_theirs(place)
    place.set(lib, before)
    offer(place.overlay())
    ascend_overlay.enable()
    found = entry()
    assert found.state == "applied"
    assert any("theirs" in n and "test_foreign.py" in n and "put there before" in n for n in found.notes), found.notes
    ascend_overlay.disable()
    assert place.get(lib) is before
    ascend_overlay.enable(foreign="accept")
    ascend_overlay.disable()
    with pytest.raises(ForeignError, match=r"overlay 'one'.*theirs.*before.*foreign='accept'"):
        ascend_overlay.enable(foreign="error")
    assert place.get(lib) is before


def test_who_wrapped_it_before_is_named(lib: ModuleType, offer: Any) -> None:
    for place, way in zip([PLACES["function, wrapped"], PLACES["method"]], [by_wraps, by_wrapt], strict=True):
        place.set(lib, way(place.get(lib)))
    offer(PLACES["function, wrapped"].overlay("one"), PLACES["method"].overlay("two"))
    ascend_overlay.enable()
    for name in ("one", "two"):
        assert any("put there before" in note for note in entry(name).notes), entry(name)


OWN = """
    import functools, json, collections
    import json as renamed
    from json import dumps, loads as load
    from collections import OrderedDict
    from helpers import helper, decorate, wrap_with_wraps
    from helpers import *
    try:
        from helpers import optional
    except ImportError:
        optional = None
    def own(x=1): return x
    alias = helper
    made = decorate(own)
    @decorate
    def decorated(x=1): return x
    @wrap_with_wraps
    def wrapped(x=1): return x
    @functools.lru_cache(maxsize=None)
    def cached(x=1): return x
    partial = functools.partial(helper, 1)
    anonymous = lambda x=1: x
    def factory():
        def inner(x=1): return x
        return inner
    from_factory = factory()
    class Mixin:
        def inherited(self, x=1): return x
    class Thing(Mixin):
        def method(self, x=1): return x
        borrowed = helper
        cooked = decorate(method)
        @decorate
        def dressed(self, x=1): return x
        @staticmethod
        def static(x=1): return x
        made = staticmethod(helper)
        @functools.cached_property
        def value(self): return 1
    Thing.added = lambda self, x=1: x
    Thing.given = helper
    for name in ("first", "second"): globals()[name] = helper
"""
HELPERS = """
    import functools
    def helper(*args, **kwargs): return "helper"
    def starred(*args, **kwargs): return "starred"
    def optional(*args, **kwargs): return "optional"
    def decorate(function):
        def outer(*args, **kwargs): return function(*args, **kwargs)
        return outer
    def wrap_with_wraps(function):
        @functools.wraps(function)
        def outer(*args, **kwargs): return function(*args, **kwargs)
        return outer
"""
OWN_NAMES = """
    own dumps load helper starred optional alias made decorated wrapped cached partial anonymous from_factory first
    second
    Thing.inherited Thing.method Thing.borrowed Thing.cooked Thing.dressed Thing.static Thing.made Thing.value
    Thing.added
    Thing.given
"""


@pytest.mark.parametrize("name", OWN_NAMES.split())
def test_what_the_module_itself_has_is_nobody_elses(site: Any, offer: Any, name: str) -> None:
    site.write({"own/lib.py": OWN.replace("from helpers", "from helpers_elsewhere"), "helpers_elsewhere.py": HELPERS})
    lib = importlib.import_module("own.lib")
    overlay = Overlay("one", reason="a test")
    overlay.wrap(f"own.lib:{name}")(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
    offer(overlay)
    ascend_overlay.enable(foreign="error")
    assert entry().state == "applied" and not any("before" in note for note in entry().notes), entry()
    assert lib is not None
