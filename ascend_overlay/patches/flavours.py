"""Whether a function answers a call with a value, a coroutine, a generator or an asynchronous generator."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

PLAIN, COROUTINE, GENERATOR, ASYNC_GENERATOR = "function", "async function", "generator", "async generator"

_ANSWERS = {
    COROUTINE: ("Awaitable", "Coroutine", "Future", "Task"),
    GENERATOR: ("Generator", "Iterator", "Iterable"),
    ASYNC_GENERATOR: ("AsyncGenerator", "AsyncIterator", "AsyncIterable"),
}
"""What a plain function that gives the same is annotated to return."""
_CALLERS = {
    PLAIN: "whose callers take what it returns",
    COROUTINE: "whose callers await it",
    GENERATOR: "whose callers iterate over it",
    ASYNC_GENERATOR: "whose callers iterate over it with async for",
}


def of(function: Any) -> str:
    """Return what calling `function` gives, as far as Python itself tells."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        # An instance is called by its class.
        function = inspect.getattr_static(type(function), "__call__", function)
    if inspect.isasyncgenfunction(function):
        return ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function) or _is_marked(function):
        return COROUTINE
    return GENERATOR if inspect.isgeneratorfunction(function) else PLAIN


def mismatch(original: Any, replacement: Any) -> str | None:
    """Return why callers of `original` cannot use what `replacement` gives them, or None where they can."""
    theirs, ours = of(original), of(replacement)
    if theirs == ours or _says(replacement, theirs) or _says(original, ours):
        return None
    if theirs == PLAIN and ours == COROUTINE and of(inspect.unwrap(original)) == COROUTINE:
        # A decorator's plain function around an async one.
        return None
    why = f"the original is {_a(theirs)}, {_CALLERS[theirs]}, and it is {_a(ours)}"
    if theirs == PLAIN:
        wrapped = of(inspect.unwrap(original))
        if wrapped == ours != COROUTINE:
            return f"{why}; decorate it as the original is (contextlib.contextmanager, for example)"
        return f"{why}; write a plain function that returns what the original returns"
    kind = "async def" if theirs in (COROUTINE, ASYNC_GENERATOR) else "def"
    body = " with a yield" if theirs in (GENERATOR, ASYNC_GENERATOR) else ""
    return f"{why}; write it with {kind}{body}, or annotate it as returning {_article(_ANSWERS[theirs][0])}"


def _is_marked(function: Any) -> bool:
    marker = getattr(asyncio.coroutines, "_is_coroutine", None)
    return marker is not None and getattr(function, "_is_coroutine", None) is marker


def _says(function: Any, flavour: str) -> bool:
    """Tell whether a plain function is annotated to return what one of `flavour` gives."""
    if flavour == PLAIN or of(function) != PLAIN:
        return False
    annotation = getattr(function, "__annotations__", {}).get("return")
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "") or str(annotation)
    name = text.partition("[")[0].rpartition(".")[2]
    return name in _ANSWERS[flavour]


def _a(flavour: str) -> str:
    return _article("plain function" if flavour == PLAIN else flavour)


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
