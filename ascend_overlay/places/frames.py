"""The calls that run right now, in all threads."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType


def tops() -> dict[int, FrameType]:
    """Return what each thread executes right now.

    sys._current_frames() holds a lock of the interpreter; a collection of garbage in the middle of it, which may need
    that lock, never ends.
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
    threads = dict(tops())
    frames: list[FrameType] = []
    caller = sys._getframe(1)
    threads[threading.get_ident()] = caller.f_back  # type: ignore[assignment]
    del caller
    for top in threads.values():
        frame: FrameType | None = top
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
    return frames
