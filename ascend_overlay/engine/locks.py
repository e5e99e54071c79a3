"""A lock that cannot be left behind."""

from __future__ import annotations

import sys
import threading
import time
from types import FrameType, TracebackType

from ascend_overlay.places import frames

_LONGEST_NAP = 0.02
"""Seconds between two looks at a lock that another thread has."""


class Lock:
    """A re-entrant lock that is free again when the call that took it is over, however that ended.

    Ctrl-C can come between any two instructions, the one that takes a lock and the one from which on it is certain to
    be given back among them. So a holder is known by its frame: one that no thread is executing any more holds nothing.
    """

    def __init__(self) -> None:
        # Whoever is first has the lock; the others wait. Each operation of a list happens as a whole.
        self._queue: list[_Place] = []

    def held(self, patience: float | None = None, error: Exception | None = None) -> _Held:
        """Return what holds the lock for the length of a with-block of a function, not of a generator.

        Args:
            patience: seconds to wait for another thread; None: as long as it takes.
            error: raised by entering where that was not enough.
        """
        return _Held(self, patience, error)

    def reset(self) -> None:
        """Forget the holders of other threads: after a fork, there are none."""
        self._queue = [place for place in self._queue if place.thread == threading.get_ident() and _runs(place)]

    def take(self, frame: FrameType | None, patience: float | None) -> _Place | None:
        """Take the lock on behalf of the call that `frame` belongs to (None: until it is given back).

        Returns None where this thread has it already.

        Raises:
            TimeoutError: another thread has it for longer than `patience`.
        """
        me = threading.get_ident()
        deadline = None if patience is None else time.monotonic() + patience
        if self.is_mine():
            return None
        mine = _Place(me, frame)
        self._queue.append(mine)
        nap = 0.0005
        while (first := self._first()) is not mine:
            if first is None:
                # A fork in another thread has emptied the queue.
                self._queue.append(mine)
                continue
            if deadline is not None and time.monotonic() > deadline:
                self.give_back(mine)
                raise TimeoutError
            time.sleep(nap)
            nap = min(nap * 2, _LONGEST_NAP)
        return mine

    def is_mine(self) -> bool:
        """Tell whether a call of this thread, which still runs, holds the lock."""
        first = self._first()
        return first is not None and first.thread == threading.get_ident()

    def give_back(self, place: _Place) -> None:
        """Leave the queue; no harm where that was done before."""
        if place in self._queue:
            self._queue.remove(place)

    def _first(self) -> _Place | None:
        """Return the first in the queue whose call still runs."""
        while queue := self._queue[:1]:
            if _runs(queue[0]):
                return queue[0]
            self.give_back(queue[0])
        return None


class _Place:
    """One holder or waiter."""

    __slots__ = ("frame", "thread")

    def __init__(self, thread: int, frame: FrameType | None) -> None:
        self.thread = thread
        self.frame = frame


def _runs(place: _Place) -> bool:
    """Tell whether the thread is still in the call."""
    frame: FrameType | None
    frame = sys._getframe(1) if place.thread == threading.get_ident() else frames.tops().get(place.thread)
    if place.frame is None:
        return frame is not None
    while frame is not None:
        if frame is place.frame:
            return True
        frame = frame.f_back
    # No frame is left in a variable: it would keep itself alive.
    return False


class _Held:
    def __init__(self, lock: Lock, patience: float | None, error: Exception | None) -> None:
        self._lock = lock
        self._patience = patience
        self._error = error
        self._place: _Place | None = None

    def __enter__(self) -> None:
        try:
            self._place = self._lock.take(sys._getframe(1), self._patience)
        except TimeoutError:
            raise self._error or TimeoutError("another thread holds the lock") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._place is not None:
            self._lock.give_back(self._place)
