"""Raising an exception in the middle of ascend_overlay's code, as Ctrl-C and a full memory do."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ascend_overlay

OURS = str(Path(ascend_overlay.__file__).parent)


@functools.cache
def within(file: str) -> str:
    """Return the path of a file of ours, from our folder; of another's, nothing. It is asked for at each line."""
    return os.path.relpath(file, OURS) if file.startswith(OURS) else ""


class Lines:
    """Sees each line of ascend_overlay that is executed inside a with-block.

    Attributes:
        seen: "file:line" of each.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> Any:
        sys.settrace(self._call)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _call(self, frame: types.FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        return self._line if within(frame.f_code.co_filename) else None

    def _line(self, frame: types.FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if event == "line":
            self.at_line(f"{within(frame.f_code.co_filename)}:{frame.f_lineno}")
        return self._line

    def at_line(self, place: str) -> None:
        """Take note of a line."""
        self.seen.append(place)


class Injection(Lines):
    """Raises an exception at the so-manieth of these lines.

    Attributes:
        at: where that was; None: there are not so many lines.
    """

    def __init__(self, count: int, exception: type[BaseException]) -> None:
        super().__init__()
        self.at: str | None = None
        self._left = count
        self._exception = exception

    def at_line(self, place: str) -> None:
        """Raise, once."""
        self._left -= 1
        if self._left == -1:
            self.at = place
            raise self._exception(f"injected at {place}")
