"""Type hints, and what they are made of."""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation, and all that it has inside."""
    yield annotation
    for part in _inside(annotation):
        yield from parts(part)


def _inside(annotation: Any) -> Sequence[Any]:
    # The arguments of a Callable are a list.
    return annotation if isinstance(annotation, list) else typing.get_args(annotation)


def exchanged(annotation: Any, change: Callable[[Any], Any]) -> Any:
    """Return `annotation` with what `change` returns in place of each part for which that is another object."""
    if (changed := change(annotation)) is not annotation:
        return changed
    inside = _inside(annotation)
    news = tuple(exchanged(part, change) for part in inside)
    if all(new is part for new, part in zip(news, inside, strict=True)):
        return annotation
    if isinstance(annotation, list):
        return list(news)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, news)
    if typing.get_origin(annotation) is typing.Annotated:
        return typing.Annotated[news]
    copy_with = getattr(annotation, "copy_with", None)
    if typing.get_origin(annotation) is abc.Callable:
        return (typing.Callable if copy_with is not None else abc.Callable)[news[0], news[1]]
    return copy_with(news) if copy_with is not None else typing.get_origin(annotation)[news]
