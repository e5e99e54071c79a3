"""The calls that run right now, in all threads."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType


def tops() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the thread's id.

    Up to Python 3.11, sys._current_frames() has the interpreter's list of threads locked, and may let the garbage
    collector run meanwhile; a threading.local that goes then waits for that lock for ever.
    """
    enabled = gc.isenabled()
    try:
        gc.disable()
        return sys._current_frames()
    finally:
        if enabled:
            gc.enable()


def outside() -> list[FrameType]:
    """Return the frames of all threads, but not that of the caller.

    Whoever has its own frame in a variable keeps itself, and all that it has in other variables, alive.
    """
    innermost = tops()
    frames: list[FrameType] = []
    caller = sys._getframe(1)
    innermost[threading.get_ident()] = caller.f_back  # type: ignore[assignment]
    del caller
    for top in innermost.values():
        frame: FrameType | None = top
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
    return frames
