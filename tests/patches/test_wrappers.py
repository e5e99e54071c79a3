"""What overlay.wrap installs behaves as what it wraps, whatever that is."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import operator
import pickle
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
import wrapper_kit as kit
from wrapper_kit import Derived, Kit, Noting

from ascend_overlay.patches.wrappers import Layer, made_by_us, step_aside, stepped_aside, wrapped

PLAIN = ("function", "coroutine", "generator", "async_generator")
PROXIED = ("cached_function", "callable_object", "partial", "builtin")
BOUND = ("method", "of_class", "coroutine", "generator", "async_generator")
DESCRIBED = ("static", "value", "kept", "attribute")
PROXIED_MEMBERS = ("cached_method", "builtin", "partial", "callable_object")

EVERYTHING = [
    *((kit, name) for name in (*PLAIN, *PROXIED)),
    *((Kit, name) for name in (*BOUND, *DESCRIBED, *PROXIED_MEMBERS)),
]

each = pytest.mark.parametrize(("owner", "name"), EVERYTHING, ids=lambda value: getattr(value, "__name__", value))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Put a wrapper in the place of a member of `owner`; returns what is installed."""

    def put(owner: Any, name: str, wrapper: Any) -> Any:
        outer = wrapped(vars(owner)[name], wrapper, member=isinstance(owner, type))
        monkeypatch.setattr(owner, name, outer)
        return outer

    return put


async def _collected(source: AsyncGenerator[Any, None]) -> list[Any]:
    return [value async for value in source]


def _use(owner: Any, name: str) -> Any:
    """Do with a member what its users do: read it, call it, await or exhaust what that gives."""
    got = getattr(Kit(1) if owner is Kit else owner, name)
    if name in ("value", "kept", "attribute"):
        return got
    result = got("abc" if name == "builtin" else 3)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    if inspect.isasyncgen(result):
        return asyncio.run(_collected(result))
    return list(result) if inspect.isgenerator(result) else result


def _seen_instance(owner: Any, name: str) -> Any:
    if owner is kit or name in ("static", "builtin", "partial", "callable_object"):
        return None
    return Kit if name == "of_class" else Kit(1)


@each
def test_a_call_goes_through_the_wrapper_and_gives_what_it_gave(install: Any, owner: Any, name: str) -> None:
    before, noting = _use(owner, name), Noting()
    install(owner, name, noting)

    assert _use(owner, name) == before

    arguments = () if name in ("value", "kept", "attribute") else ("abc",) if name == "builtin" else (3,)
    assert noting.calls == [(_seen_instance(owner, name), arguments, {})]


@each
def test_it_is_of_the_same_kind(install: Any, owner: Any, name: str) -> None:
    raw, got = vars(owner)[name], getattr(Kit(1) if owner is Kit else owner, name)
    outer = install(owner, name, Noting())
    now = getattr(Kit(1) if owner is Kit else owner, name)

    assert isinstance(outer, raw.__class__)
    predicates = {getattr(inspect, tells) for tells in dir(inspect) if tells.startswith("is")}
    if name in (*PROXIED, *PROXIED_MEMBERS):
        # A proxy can be bound, whatever it stands for.
        predicates -= {inspect.ismethoddescriptor, inspect.isroutine}
    for tells in (*predicates, asyncio.iscoroutinefunction, callable):
        assert tells(outer) == tells(raw), tells
        assert tells(now) == tells(got), tells


@each
def test_it_tells_the_same_of_itself(install: Any, owner: Any, name: str) -> None:
    raw = vars(owner)[name]
    before = _told(raw)

    assert _told(install(owner, name, Noting())) == before


def _told(raw: Any) -> dict[str, Any]:
    """Return what can be asked of a function, whatever it is in."""
    function = getattr(raw, "__func__", None) or getattr(raw, "fget", None) or getattr(raw, "func", None) or raw
    told: dict[str, Any] = {
        name: getattr(value, name, None)
        for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__isabstractmethod__")
        for value in (raw, function)
    }
    if isinstance(inspect.unwrap(function), operator.attrgetter):
        # It has no name; a function cannot be without.
        return {"__doc__": told["__doc__"], "annotations": told["__annotations__"] or {}}
    for ask in (inspect.signature, inspect.getfullargspec, inspect.getsource, inspect.getdoc):
        if isinstance(function, kit.Callable_) and ask is inspect.getfullargspec:
            # A proxy does not tell it of an object.
            continue
        try:
            told[ask.__name__] = ask(function)
        except (TypeError, ValueError):
            told[ask.__name__] = "nothing"
    return told


@each
def test_it_is_known_as_ours(install: Any, owner: Any, name: str) -> None:
    raw = vars(owner)[name]

    assert not made_by_us(raw)
    assert made_by_us(install(owner, name, Noting()))


@each
@pytest.mark.parametrize("times", [1, 2])
def test_it_steps_aside_for_whoever_holds_it(install: Any, owner: Any, name: str, times: int) -> None:
    raw, before, noting = vars(owner)[name], _use(owner, name), Noting()
    outer = install(owner, name, noting)
    assert not stepped_aside(outer)

    for _ in range(times):
        step_aside(outer, raw)

    assert stepped_aside(outer)
    assert _use(owner, name) == before
    assert noting.calls == []
    assert _told(outer) == _told(raw)


def test_what_is_not_ours_cannot_step_aside() -> None:
    with pytest.raises(TypeError, match="was not made by overlay"):
        step_aside(kit.function, kit.function)


def test_a_bound_method_that_somebody_keeps_steps_aside_too(install: Any) -> None:
    noting = Noting()
    raw = vars(Kit)["method"]
    outer = install(Kit, "method", noting)
    kept = Kit(1).method
    around = functools.wraps(outer)(lambda self, x: outer(self, x))

    step_aside(outer, raw)

    assert kept(3) == around(Kit(1), 3) == ("method", 1, 3, 2)
    assert noting.calls == []


def test_it_steps_aside_for_something_of_another_kind(install: Any) -> None:
    """The patch under a wrapper is taken out: what it goes aside for is another function."""
    outer = install(kit, "function", Noting())

    step_aside(outer, kit.coroutine)

    assert inspect.iscoroutinefunction(outer)
    assert asyncio.run(outer(2)) == 4
    assert inspect.signature(outer) == inspect.signature(kit.coroutine)


def test_a_layer_does_not_install_what_has_stepped_aside() -> None:
    noting = Noting()
    layer = Layer(rank=0, whose="a test", wrapper=noting, member=False)
    first = layer.value(kit.function)
    assert layer.value(kit.function) is first

    step_aside(first, kit.function)
    layer.value(kit.function)(3)

    assert len(noting.calls) == 1


@each
def test_copies_are_what_copies_of_the_original_are(install: Any, owner: Any, name: str) -> None:
    raw = vars(owner)[name]
    outer = install(owner, name, Noting())
    for copied in (copy.copy, copy.deepcopy):
        try:
            itself = copied(raw) is raw
        except TypeError as error:
            with pytest.raises(TypeError, match=str(error)[:20]):
                copied(outer)
            continue
        # A copy of an object that can be called would have no wrapper around it.
        assert (copied(outer) is outer) == itself or made_by_us(copied(outer))


@pytest.mark.parametrize("name", [*PLAIN, "cached_function", "callable_object"])
def test_a_function_is_pickled_by_its_name(install: Any, name: str) -> None:
    outer = install(kit, name, Noting())
    if name == "callable_object":
        pytest.skip("an object without a name is pickled by what it is made of")

    assert pickle.loads(pickle.dumps(outer)) is outer


@pytest.mark.parametrize("name", ["method", "coroutine", "of_class", "cached_method"])
def test_a_bound_method_is_pickled_and_copied_with_its_object(install: Any, name: str) -> None:
    install(Kit, name, Noting())
    obj = Kit(7)

    for again in (pickle.loads(pickle.dumps(getattr(obj, name))), copy.deepcopy(getattr(obj, name))):
        assert again.__name__ == name
        assert again.__self__ == (Kit if name == "of_class" else obj)
        assert again.__self__ is not obj


@pytest.mark.parametrize("name", ["static", "method"])
def test_a_member_is_pickled_by_its_qualified_name(install: Any, name: str) -> None:
    """vLLM gives EngineCoreProc.run_engine_core to the processes that it spawns."""
    install(Kit, name, Noting())

    assert pickle.loads(pickle.dumps(getattr(Kit, name))) is getattr(Kit, name)


def test_a_bound_method_is_one(install: Any) -> None:
    outer = install(Kit, "method", Noting())
    obj = Kit(1)

    assert obj.method == obj.method
    assert hash(obj.method) == hash(obj.method)
    assert obj.method != Kit(2).method
    assert obj.method.__self__ is obj
    assert obj.method.__func__ is outer
    assert Kit.of_class == Kit.of_class


CALLS: dict[str, tuple[Callable[[Any], Any], Any, tuple[Any, ...], dict[str, Any]]] = {
    "by keyword": (lambda obj: obj.method(x=3, y=4), "object", (), {"x": 3, "y": 4}),
    "through the class": (lambda obj: Kit.method(obj, 3), "object", (3,), {}),
    "through the class, self by keyword": (lambda obj: Kit.method(self=obj, x=3), "object", (), {"x": 3}),
    "of a derived class": (lambda obj: Derived.method(obj, 3), "object", (3,), {}),
    "by super()": (lambda obj: super(Derived, Derived(obj.tag)).method(3), "object", (3,), {}),
    "a class method of an object": (lambda obj: obj.of_class(3), Kit, (3,), {}),
    "a class method of a derived class": (lambda obj: Derived.of_class(3), Derived, (3,), {}),
    "a static method of an object": (lambda obj: obj.static(3), None, (3,), {}),
}


@pytest.mark.parametrize("how", CALLS)
def test_however_it_is_called(install: Any, how: str) -> None:
    call, instance, args, kwargs = CALLS[how]
    before, noting = call(Kit(1)), Noting()
    for name in ("method", "of_class", "static"):
        install(Kit, name, noting)

    assert call(Kit(1)) == before

    assert noting.calls == [(Kit(1) if instance == "object" else instance, args, kwargs)]


class Odd:
    def takes_anything(self: Any, x: int = 0) -> Any:
        return self, x

    def variadic(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs


ODD_CALLS: dict[str, tuple[Callable[[], Any], Any]] = {
    "None for self": (lambda: Odd.takes_anything(None, 3), (None, (3,), {})),
    "None for self, by keyword": (lambda: Odd.takes_anything(self=None), (None, (), {})),
    "no self": (lambda: Odd.variadic(), (None, (), {})),
    "no self, a keyword": (lambda: Odd.variadic(self=1), (None, (), {"self": 1})),
}


@pytest.mark.parametrize("how", ODD_CALLS)
def test_calls_that_only_some_methods_allow(install: Any, how: str) -> None:
    call, seen = ODD_CALLS[how]
    before, noting = call(), Noting()
    for name in ("takes_anything", "variadic"):
        install(Odd, name, noting)

    assert call() == before
    assert noting.calls == [seen]


@pytest.mark.parametrize(
    "call", [lambda: Kit.method(), lambda: Kit.method(x=3), lambda: Kit(1).method(), lambda: Kit.static(), kit.function]
)
def test_a_wrong_call_is_refused_in_the_words_of_the_original(install: Any, call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError) as before:
        call()
    for name in ("method", "static"):
        install(Kit, name, Noting())

    with pytest.raises(TypeError) as now:
        call()

    assert str(now.value) == str(before.value)


async def _async_wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return ("seen", await wrapped(*args, **kwargs))


def _sync_wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return _after(wrapped(*args, **kwargs))


async def _after(awaitable: Any) -> Any:
    return ("seen", await awaitable)


def _knowing_wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return ("seen", 2 * args[0])


@pytest.mark.parametrize("wrapper", [_async_wrapper, _sync_wrapper, _knowing_wrapper])
def test_a_wrapper_of_a_coroutine_function_may_be_one_or_not(install: Any, wrapper: Any) -> None:
    outer = install(kit, "coroutine", wrapper)

    async def use() -> Any:
        # A task takes a coroutine only.
        return await asyncio.create_task(outer(2))

    assert asyncio.run(use()) == ("seen", 4)


def _conversation(start: Any = 0) -> Generator[Any, Any, str]:
    said = start
    while True:
        try:
            said = yield ("heard", said)
        except KeyError as error:
            said = error
        except GeneratorExit:
            HISTORY.append("closed")
            raise
        if said == "bye":
            return "end"


async def _async_conversation(start: Any = 0) -> AsyncGenerator[Any, Any]:
    said = start
    while True:
        try:
            said = yield ("heard", said)
        except KeyError as error:
            said = error
        except GeneratorExit:
            await asyncio.sleep(0)
            HISTORY.append("closed")
            raise
        if said == "bye":
            return


HISTORY: list[str] = []


def test_a_generator_is_spoken_to_through_the_wrapper() -> None:
    outer = wrapped(_conversation, Noting(), member=False)
    HISTORY.clear()
    error = KeyError("thrown")

    talk = outer(start=1)
    assert [next(talk), talk.send(2), talk.throw(error), next(talk)] == [
        ("heard", 1),
        ("heard", 2),
        ("heard", error),
        ("heard", None),
    ]
    with pytest.raises(StopIteration, match="end"):
        talk.send("bye")
    closed = outer()
    next(closed)
    closed.close()
    assert HISTORY == ["closed"]
    with pytest.raises(ValueError, match="not mine"):
        _started(outer()).throw(ValueError("not mine"))


def _started(generator: Any) -> Any:
    next(generator)
    return generator


def test_an_asynchronous_generator_is_spoken_to_through_the_wrapper() -> None:
    outer = wrapped(_async_conversation, Noting(), member=False)
    HISTORY.clear()
    error = KeyError("thrown")

    async def speak() -> None:
        talk = outer(start=1)
        assert await anext(talk) == ("heard", 1)
        assert await talk.asend(2) == ("heard", 2)
        assert await talk.athrow(error) == ("heard", error)
        assert await anext(talk) == ("heard", None)
        with pytest.raises(StopAsyncIteration):
            await talk.asend("bye")
        closed = outer()
        await anext(closed)
        await closed.aclose()
        assert HISTORY == ["closed"]
        failing = outer()
        await anext(failing)
        with pytest.raises(ValueError, match="not mine"):
            await failing.athrow(ValueError("not mine"))

    asyncio.run(speak())


class _Counting:
    """An asynchronous iterator that is no generator."""

    def __init__(self) -> None:
        self.count = 0

    def __aiter__(self) -> _Counting:
        return self

    async def __anext__(self) -> int:
        self.count += 1
        if self.count > 3:
            raise StopAsyncIteration
        return self.count


def test_a_wrapper_may_give_another_iterator() -> None:
    counting = wrapped(kit.async_generator, lambda *_: _Counting(), member=False)
    listed = wrapped(kit.generator, lambda *_: [1, 2], member=False)

    assert asyncio.run(_collected(counting(0))) == [1, 2, 3]
    assert list(listed(0)) == [1, 2]

    async def stopped() -> None:
        source = counting(0)
        await anext(source)
        with pytest.raises(ValueError, match="not mine"):
            await source.athrow(ValueError("not mine"))
        source = counting(0)
        await anext(source)
        await source.aclose()

    asyncio.run(stopped())


def test_an_old_style_coroutine_can_be_awaited() -> None:
    import types

    @types.coroutine
    def old(x: int) -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        return x

    async def use(function: Any) -> Any:
        return await function(3)

    outer = wrapped(old, Noting(), member=False)

    assert asyncio.run(use(outer)) == 3
    assert made_by_us(outer)
    step_aside(outer, old)
    assert asyncio.run(use(outer)) == 3


@pytest.mark.parametrize(("owner", "name"), [(kit, "cached_function"), (Kit, "cached_method")])
def test_the_methods_of_a_cache_are_there(install: Any, owner: Any, name: str) -> None:
    outer = install(owner, name, Noting())
    outer.cache_clear()

    _use(owner, name)
    _use(owner, name)

    assert getattr(owner, name).cache_info().hits == 1
    assert outer.cache_parameters() == {"maxsize": 4, "typed": False}
    outer.cache_clear()
    assert outer.cache_info().hits == 0


def test_an_object_that_is_called_keeps_its_attributes(install: Any) -> None:
    outer = install(kit, "callable_object", Noting())

    assert outer.hint == "an attribute"
    assert isinstance(outer, kit.Callable_)


class _Doubling(property):
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else 2 * super().__get__(instance, owner)


class _Marked(functools.cached_property[Any]):
    mark = 1


class Particular:
    @_Doubling
    def doubled(self) -> int:
        """A number."""
        return 3

    @_Marked
    def marked(self) -> int:
        """A number."""
        return 4


def test_a_derived_descriptor_stays_one(install: Any) -> None:
    doubled = install(Particular, "doubled", Noting())
    marked = install(Particular, "marked", Noting())
    particular = Particular()

    assert type(doubled) is _Doubling
    assert type(marked) is _Marked
    assert (particular.doubled, particular.marked) == (6, 4)
    assert vars(particular) == {"marked": 4}
    assert doubled.__doc__ == marked.__doc__ == "A number."


def test_the_setter_of_a_property_stays(install: Any) -> None:
    install(Kit, "value", Noting())
    obj = Kit(1)
    obj.value = 5  # type: ignore[assignment]

    assert obj.value == ("value", 5)


def test_a_property_that_cannot_be_read_has_no_call() -> None:
    with pytest.raises(TypeError, match="cannot be read"):
        wrapped(property(fset=lambda self, value: None), Noting(), member=True)


def test_attributes_of_functions_and_methods_are_kept(install: Any) -> None:
    def marked() -> None: ...

    marked.route = "/v1"  # type: ignore[attr-defined]
    static = staticmethod(marked)
    static.more = 1  # type: ignore[attr-defined]

    assert wrapped(marked, Noting(), member=False).route == "/v1"
    assert wrapped(static, Noting(), member=True).__func__.route == "/v1"
    assert wrapped(static, Noting(), member=True).more == 1


def test_what_is_bound_to_the_wrapper_is_a_bound_method(install: Any) -> None:
    seen = []
    install(Kit, "method", lambda wrapped, *_: seen.append(wrapped))
    obj = Kit(1)

    obj.method(3)

    (bound,) = seen
    assert (bound.__self__, bound.__name__) == (obj, "method")
    assert str(inspect.signature(bound)).startswith("(x: ")


def test_whoever_wraps_plain_functions_only_does_not_import_wrapt() -> None:
    program = """
import sys
from ascend_overlay.patches.wrappers import made_by_us, wrapped
class K:
    def method(self): return 1
    @property
    def value(self): return 1
outer = wrapped(K.method, lambda wrapped, *_: wrapped() + 1, member=True)
assert outer(K()) == 2 and made_by_us(outer)
wrapped(vars(K)["value"], None, member=True)
assert "wrapt" not in sys.modules
wrapped(len, None, member=False)
assert "wrapt" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
