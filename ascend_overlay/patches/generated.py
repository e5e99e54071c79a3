"""Wrapping what @dataclass writes: each derived class has its own, and none calls that of its base."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ascend_overlay.patches.base import Applied, Context
from ascend_overlay.places import declared, generated
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import Place

_inside = threading.local()


def once(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that runs once an object, also where the method of a derived class calls that of its base."""

    @functools.wraps(wrapper)
    def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        key = (id(wrapper), id(instance))
        running: set[tuple[int, int]] = _inside.__dict__.setdefault("running", set())
        if key in running:
            return wrapped(*args, **kwargs)
        with _entered(running, key):
            return wrapper(wrapped, instance, args, kwargs)

    return around


def wrap_derived(place: Place, make: Callable[[], Change], context: Context, applied: Applied) -> None:
    """Wrap the generated method of each class derived from the target's, those that exist and those still to come."""

    def wrap(cls: type) -> None:
        if cls is not place.owner and declared.is_generated(cls, place.name, vars(cls).get(place.name)):
            slot = context.slots.at(Attribute(cls, place.name))
            applied.change(slot, make(), shared=False)

    def follow(cls: type) -> None:
        if issubclass(cls, place.owner):
            wrap(cls)

    applied.undo.append(functools.partial(generated.unwatch, follow))
    generated.watch(follow)
    for cls in own_generated(place):
        if "__pydantic_validator__" in vars(cls):
            applied.stale.append(f"{cls.__module__}.{cls.__qualname__}.{place.name} (compiled by pydantic)")
        else:
            wrap(cls)
            applied.copies.append(f"{cls.__module__}.{cls.__qualname__}.{place.name} (generated)")


def own_generated(place: Place) -> list[type]:
    """Return the derived classes that have a generated method of their own in place of the target."""
    return [
        cls
        for cls in generated.derived(place.owner)[1:]
        if declared.is_generated(cls, place.name, vars(cls).get(place.name))
        or (place.name == "__init__" and "__pydantic_validator__" in vars(cls))
    ]


def reach_captured(slot: Slot, applied: Applied) -> None:
    """Have the function that msgspec captured lead to the changes of `slot`."""
    if slot.redirect(slot.storeys[-1]):
        applied.notes.append("msgspec captured the function: its code leads to the patch")
    else:
        applied.stale.append(f"{slot.storage.name} as msgspec captured it")


@contextmanager
def _entered(running: set[tuple[int, int]], key: tuple[int, int]) -> Iterator[None]:
    running.add(key)
    try:
        yield
    finally:
        running.discard(key)
