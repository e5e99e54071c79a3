"""Weak containers that hold an object: a WeakKeyDictionary, a WeakValueDictionary, a WeakSet.

The garbage collector does not know of them as holders. Each keeps a reference whose callback knows the container.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from ascend_overlay.places import modules

Put = Callable[[Any], None]


def holders(value: Any) -> Iterator[tuple[str, Put]]:
    """Yield the weak containers that hold `value`: what each is called, and what puts another object in its place."""
    try:
        references = weakref.getweakrefs(value)
    except TypeError:
        return
    for reference in references:
        container = _container(reference)
        if isinstance(container, weakref.WeakValueDictionary):
            key = reference.key
            yield f"{_name(container)}[{key!r}]", _setter(container, key)
        elif isinstance(container, weakref.WeakKeyDictionary):
            yield f"a key of {_name(container)}", _key_changer(container, value)
        elif isinstance(container, weakref.WeakSet):
            yield f"{_name(container)}{{}}", _exchanger(container, value)


def _container(reference: Any) -> Any:
    callback = getattr(reference, "__callback__", None)
    if not isinstance(callback, types.FunctionType) or callback.__module__ not in ("weakref", "_weakrefset"):
        return None
    # It refers to the container weakly itself, so that this can go.
    found = (default for default in callback.__defaults__ or () if isinstance(default, weakref.ref))
    return next((container for own in found if (container := own()) is not None), None)


def _name(container: Any) -> str:
    for module in modules.loaded():
        for name, value in list(vars(module).items()):
            if value is container:
                return f"{module.__name__}.{name}"
    return f"a {type(container).__name__}"


def _setter(container: Any, key: Any) -> Put:
    return lambda new: container.__setitem__(key, new)


def _key_changer(container: Any, old: Any) -> Put:
    def put(new: Any) -> None:
        # The new one first: an interruption leaves one entry too many rather than none.
        container[new] = container[old]
        container.pop(old, None)

    return put


def _exchanger(container: Any, old: Any) -> Put:
    def put(new: Any) -> None:
        container.add(new)
        container.discard(old)

    return put
