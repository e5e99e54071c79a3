"""The functions that pass a call on: to a wrapper, or to what they stand for.

A shell is of the kind of the function that it stands for; a kind is what `inspect` tells apart: a plain function, a
coroutine function, a generator function, an asynchronous generator function. All are defined in this one module and
have one free variable, the `Link`, so that one can be given the code of another, and another thing to call.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, cast

from ascend_overlay.patches import signatures
from ascend_overlay.places.functions import content_of

_NOTHING: Any = object()
_KINDS = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Link:
    """What a function made here calls, in the one cell of its closure.

    It is an object, rather than a cell each, because whoever looks for the holders of a function knows the objects of
    ascend_overlay and leaves them out.

    Attributes:
        inner: the callable that the call goes to.
        wrapper: what is called with it, where it is not called itself.
        aside: the function no longer calls the wrapper.
    """

    __slots__ = ("__weakref__", "aside", "inner", "wrapper")

    def __init__(self, inner: Any, wrapper: Any = None) -> None:
        self.inner, self.wrapper, self.aside = inner, wrapper, False


def free(link: Link) -> Callable[..., Any]:
    """Return a function that calls the wrapper around a function that nothing is bound to."""

    def outer(*args: Any, **kwargs: Any) -> Any:
        return link.wrapper(link.inner, None, args, kwargs)

    return outer


def method(link: Link) -> Callable[..., Any]:
    """Return a function that calls the wrapper around a method of its first argument."""

    def outer(self: Any = _NOTHING, /, *args: Any, **kwargs: Any) -> Any:
        if self is None or self is _NOTHING:
            return _unbound_call(link, self, args, kwargs)
        # torch.compile looks through this, and not through types.MethodType().
        return link.wrapper(link.inner.__get__(self), self, args, kwargs)

    return outer


def shell(like: object, inner: Callable[..., Any]) -> types.FunctionType:
    """Return a function that calls `inner`, of the kind of the function `like`; it has a name of its own."""
    made = _SHELLS.get(_flags(like), _plain)(Link(inner))
    if _flags(like) == inspect.CO_GENERATOR and like.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:  # type: ignore[attr-defined]
        made = types.coroutine(made)
    return cast(types.FunctionType, made)


def is_plain(function: object) -> bool:
    """Tell whether a call of `function` runs it, rather than making a coroutine or generator."""
    return not _flags(function)


def link_of(function: object) -> Link | None:
    """Return the link of a function that was made by one of the functions of this package, or None."""
    closure = function.__closure__ if isinstance(function, types.FunctionType) else None
    if closure is None or len(closure) != 1:
        return None
    content = content_of(closure[0])
    return content if type(content) is Link else None


def _flags(function: object) -> int:
    return function.__code__.co_flags & _KINDS if isinstance(function, types.FunctionType) else 0


def _unbound_call(link: Link, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method that was called through its class, with None or with its first argument by name."""
    if self is not _NOTHING:
        return link.wrapper(functools.partial(link.inner, None), None, args, kwargs)
    signature = signatures.of(link.inner)
    first = next(iter(signature.parameters.values()), None) if signature is not None else None
    if first is not None and first.kind is first.POSITIONAL_OR_KEYWORD and first.name in kwargs:
        self = kwargs.pop(first.name)
        bound = functools.partial(link.inner, None) if self is None else link.inner.__get__(self)
        return link.wrapper(bound, self, args, kwargs)
    if first is None or first.kind is not first.VAR_POSITIONAL:
        # It is missing: Python says so.
        return link.inner(**kwargs)
    return link.wrapper(link.inner, None, args, kwargs)


def _plain(link: Link) -> Callable[..., Any]:
    def outer(*args: Any, **kwargs: Any) -> Any:
        return link.inner(*args, **kwargs)

    return outer


def _coroutine(link: Link) -> Callable[..., Any]:
    async def outer(*args: Any, **kwargs: Any) -> Any:
        result = link.inner(*args, **kwargs)
        # A wrapper need not be a coroutine function itself: it may hand on what it is given, or know the result.
        return await result if inspect.isawaitable(result) else result

    return outer


def _generator(link: Link) -> Callable[..., Any]:
    def outer(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from link.inner(*args, **kwargs))

    return outer


def _async_generator(link: Link) -> Callable[..., Any]:
    async def outer(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        source = aiter(link.inner(*args, **kwargs))
        try:
            value = await anext(source)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    if hasattr(source, "aclose"):
                        await source.aclose()
                    raise
                except BaseException as error:
                    if not hasattr(source, "athrow"):
                        raise
                    value = await source.athrow(error)
                else:
                    value = await (anext(source) if sent is None else source.asend(sent))
        except StopAsyncIteration:
            return

    return outer


_SHELLS = {
    0: _plain,
    inspect.CO_COROUTINE: _coroutine,
    inspect.CO_GENERATOR: _generator,
    inspect.CO_ASYNC_GENERATOR: _async_generator,
}
