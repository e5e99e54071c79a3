"""Ctrl-C at one line of some files, the n-th that is executed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import ascend_overlay

_ROOT = os.path.dirname(ascend_overlay.__file__)


class Interruption:
    """Raises KeyboardInterrupt at one line of the traced files, the n-th that is executed; None: notes the lines.

    Args:
        at: which line.
        files: the traced files, below ascend_overlay/.
    """

    def __init__(self, at: int | None, files: Iterable[str]) -> None:
        self._at = at
        self._files = {os.path.join(_ROOT, name) for name in files}
        self.lines: list[str] = []

    def __enter__(self) -> Interruption:
        sys.settrace(self._trace)
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        sys.settrace(None)
        return kind is KeyboardInterrupt

    def firsts(self) -> list[int]:
        """Return when each line was executed first."""
        return sorted({line: at for at, line in reversed(list(enumerate(self.lines)))}.values())

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.lines.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}")
            if len(self.lines) - 1 == self._at:
                raise KeyboardInterrupt
        return self._line
