"""A fork while another thread enables overlays.

The child gets all of it or nothing, and never waits for a thread that it does not have.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

from ascend_overlay.engine.locks import Lock

_PATIENCE = 5.0
"""Seconds that a fork waits for an enable() in another thread, which may itself wait for what this thread imports."""


class Forking(Protocol):
    """What is told of forks."""

    @property
    def locks(self) -> tuple[Lock, ...]: ...

    def after_fork(self) -> None: ...


_engines: weakref.WeakSet[Any] = weakref.WeakSet()
_held: list[tuple[Lock, Any]] = []


def look_after(engine: Forking) -> None:
    """Have `engine` in one piece whenever this process forks, and have it told in the child."""
    if not _registered:
        _registered.append(True)
        os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
    _engines.add(engine)


_registered: list[bool] = []


def _before() -> None:
    for engine in list(_engines):
        for lock in engine.locks:
            try:
                place = lock.take(None, _PATIENCE)
            except TimeoutError:
                # The child takes back what it finds half done.
                continue
            if place is not None:
                _held.append((lock, place))


def _release() -> None:
    while _held:
        lock, place = _held.pop()
        lock.give_back(place)


def _in_child() -> None:
    _release()
    for engine in list(_engines):
        engine.after_fork()
