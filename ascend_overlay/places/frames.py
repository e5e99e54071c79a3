"""The calls that run right now, in all threads."""

from __future__ import annotations

import sys
import threading
from types import FrameType


def outside() -> list[FrameType]:
    """Return the frames of all threads, but not that of the caller.

    Whoever has its own frame in a variable keeps itself, and all that it has in other variables, alive.
    """
    tops = dict(sys._current_frames())
    frames: list[FrameType] = []
    caller = sys._getframe(1)
    tops[threading.get_ident()] = caller.f_back  # type: ignore[assignment]
    del caller
    for top in tops.values():
        frame: FrameType | None = top
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
    return frames
