"""Targets of every kind, and a wrapper that notes its calls."""

from __future__ import annotations

import functools
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


def function(x: int, *, y: int = 2) -> tuple[Any, ...]:
    """Return what it was given."""
    return "function", x, y


async def coroutine(x: int) -> int:
    """Return twice of it."""
    return 2 * x


def generator(x: int) -> Iterator[int]:
    """Count."""
    yield from range(x)


async def async_generator(x: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(x):
        yield number


@functools.lru_cache(maxsize=4)
def cached_function(x: int) -> int:
    """Return its square."""
    return x * x


class Callable_:
    """An object that can be called."""

    hint = "an attribute"

    def __call__(self, x: int) -> tuple[Any, ...]:
        """Return what it was given."""
        return "called", x


callable_object = Callable_()
partial = functools.partial(function, y=5)
builtin = len


class Kit:
    """Members of every kind."""

    def __init__(self, tag: int = 0) -> None:
        self.tag = tag

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kit) and other.tag == self.tag

    def __hash__(self) -> int:
        return self.tag

    def method(self, x: int, *, y: int = 2) -> tuple[Any, ...]:
        """Return what it was given."""
        return "method", self.tag, x, y

    @staticmethod
    def static(x: int) -> tuple[Any, ...]:
        """Return what it was given."""
        return "static", x

    @classmethod
    def of_class(cls, x: int) -> tuple[Any, ...]:
        """Return what it was given."""
        return "class", cls.__name__, x

    @property
    def value(self) -> tuple[Any, ...]:
        """The tag."""
        return "value", self.tag

    @value.setter
    def value(self, tag: int) -> None:
        self.tag = tag

    @functools.cached_property
    def kept(self) -> tuple[Any, ...]:
        """The tag."""
        return "kept", self.tag

    async def coroutine(self, x: int) -> tuple[Any, ...]:
        """Return what it was given."""
        return "coroutine", self.tag, x

    def generator(self, x: int) -> Iterator[int]:
        """Count."""
        yield from range(self.tag, x)

    async def async_generator(self, x: int) -> AsyncIterator[int]:
        """Count."""
        for number in range(self.tag, x):
            yield number

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def cached_method(self, x: int) -> int:
        """Return a sum."""
        return self.tag + x

    builtin = len
    partial = functools.partial(function, y=5)
    callable_object = callable_object
    attribute = property(operator.attrgetter("tag"))


class Derived(Kit):
    """What has no member of its own."""


@dataclass
class Noting:
    """A wrapper that passes each call on and notes it."""

    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def __call__(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Pass the call on."""
        self.calls.append((instance, args, kwargs))
        return wrapped(*args, **kwargs)
