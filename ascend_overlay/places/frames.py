"""The calls that run right now, in all threads."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType
from typing import Any


def tops() -> dict[int, FrameType]:
    """Return what each thread executes right now.

    sys._current_frames() holds a lock of the interpreter; a collection of garbage in the middle of it, which may need
    that lock, never ends.
    """
    # Who comes while another thread is here finds the collector off; the last one to leave turns it on.
    mark = _Inside(gc.isenabled() or any(other.was_on for other in list(_inside)))
    _inside.append(mark)
    try:
        gc.disable()
        return sys._current_frames()
    finally:
        _inside.remove(mark)
        if mark.was_on and not _inside:
            gc.enable()


class _Inside:
    """A thread that looks at frames, and whether the collector of garbage was on before it or any other came."""

    def __init__(self, was_on: bool) -> None:
        self.was_on = was_on


_inside: list[_Inside] = []


def outside() -> list[FrameType]:
    """Return the frames of all threads, but not that of the caller.

    Whoever has its own frame in a variable keeps itself, and all that it has in other variables, alive.
    """
    threads = dict(tops())
    frames: list[FrameType] = []
    threads[threading.get_ident()] = sys._getframe(1).f_back  # type: ignore[assignment]
    for top in threads.values():
        frame: FrameType | None = top
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
    return frames


def variables(frame: FrameType) -> dict[str, Any]:
    """Return the variables of a call by name, without those that functions inside share: these are in cells."""
    shared = {*frame.f_code.co_cellvars, *frame.f_code.co_freevars}
    found = frame.f_locals
    held = {name: value for name, value in found.items() if name not in shared}
    if type(found) is dict and frame.f_trace is None and sys.gettrace() is None:
        # Up to Python 3.12, the frame keeps this copy of its variables, and a search would find that as a holder.
        found.clear()
    return held


def executing() -> set[str]:
    """Return the names of the modules whose code runs right now: they may go on to import what is there."""
    return {str(frame.f_globals.get("__name__")) for frame in outside() if frame.f_code.co_name == "<module>"}
