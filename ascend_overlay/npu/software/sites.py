"""Where in a program the host waits for the NPU."""

from __future__ import annotations

import collections
import sys
import sysconfig
import threading
from pathlib import Path
from types import FrameType

_CHECKOUT = f"{Path(__file__).parents[3]}/"
_OURS = f"{Path(__file__).parents[1]}/"
# Code that torch.compile has written has a file of the name <eval_with_key>.
_WRITTEN = "<eval_with_key>"


class Sites:
    """Counts waits by the line that led to them: the innermost that is not Python's, PyTorch's, torch_npu's or ours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        packages = (sys.modules.get(name) for name in ("torch", "torch_npu"))
        folders = (
            f"{Path(package.__file__).parent}/" for package in packages if package is not None and package.__file__
        )
        self._inside = (*folders, _OURS, _WRITTEN)
        self._found: collections.Counter[tuple[str, str]] = collections.Counter()

    def note(self, what: str) -> None:
        """Note that the host is about to wait, in this thread, for `what`."""
        where = self._site(sys._getframe(1))
        with self._lock:
            self._found[what, where] += 1

    def rows(self) -> list[dict[str, str | int]]:
        """Return what was waited for, where, and how often, the most frequent first."""
        with self._lock:
            found = list(self._found.items())
        found.sort(key=lambda row: (-row[1], row[0]))
        return [{"what": what, "where": where, "times": times} for (what, where), times in found]

    def _site(self, frame: FrameType | None) -> str:
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith(self._inside) and not _is_standard(name):
                # The full name is there from Python 3.11 on.
                called = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
                return f"{_short(name)}:{frame.f_lineno} in {called}"
            frame = frame.f_back
        return "a thread that runs no code of the program"


_STANDARD = f"{sysconfig.get_path('stdlib')}/"
_INSTALLED = ("/site-packages/", "/dist-packages/")


def _is_standard(name: str) -> bool:
    return name.startswith(_STANDARD) and not any(folder in name for folder in _INSTALLED)


def _short(name: str) -> str:
    """Return the name of a file from the folder of installed packages on, or as it is."""
    for start in _INSTALLED:
        if start in name:
            return name.rpartition(start)[2]
    return name.removeprefix(_CHECKOUT)
