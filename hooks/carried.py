"""What a process gives to those that it starts, beside the variables that they may not inherit or not read.

It travels as something that arms the overlays where it is unpickled, by text that needs no ascend_overlay: an
interpreter that has none refuses to import vLLM.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ascend_overlay.hooks import activation

_ARRIVAL = """
import sys
if search is not None:
    sys.path[:] = search
try:
    from ascend_overlay.hooks.carried import arrive
except ImportError as error:
    if error.name is None or not error.name.startswith("ascend_overlay"):
        raise
    import os
    os.environ.update(owed["variables"])
    names = {"__name__": "ascend_overlay_refusal"}
    exec(refusal, names)
    names["refuse"](word)
else:
    arrive(owed, word)
"""
"""Executed where it is unpickled; it may not count on anything of ours."""
_REFUSAL = Path(__file__).parent / "startup" / "ascend_overlay_refusal.py"


class Carried:
    """Is `value` where it is unpickled, and has armed the overlays there before.

    Args:
        owed: what that process is to have, as ascend_overlay.api.owed() returns it.
        value: what is sent.
        search: the sys.path that it will have; None: its own.
        word: a connection of multiprocessing by which it tells why it is refused; None: none.
    """

    def __init__(
        self,
        owed: Mapping[str, Any],
        value: object = None,
        search: Sequence[str] | None = None,
        word: Connection | None = None,
    ) -> None:
        self._names = {"owed": dict(owed), "search": None if search is None else list(search), "word": word}
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        names = {**self._names, "refusal": _REFUSAL.read_text(encoding="utf-8")}
        return eval, ("(exec(text, names), value)[1]", {"text": _ARRIVAL, "names": names, "value": self._value})


def arrive(owed: dict[str, Any], word: Connection | None = None) -> None:
    """Have this process be what the one that started it owes it: now where vLLM is loaded, else once it is.

    Where its own environment switches the overlays off, it has none, and is refused with vLLM.

    Raises:
        OverlayError: it cannot.
    """
    from ascend_overlay import settings

    is_off = settings.declined() and not owed.get("was_off")
    kept = {settings.PREFIX: os.environ[settings.PREFIX]} if is_off else {}
    os.environ.update({**owed["variables"], **kept})
    activation.expect(owed, word)
    activation.arm_asked_for()
    if is_off:
        activation.arm()
