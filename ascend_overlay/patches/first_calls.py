"""Whether a wrapper has run: noted by its first call, after which the wrapper itself is what is called.

A counter would cost each call, and what `torch.compile` traces would have to carry it along.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ascend_overlay.patches.shells import Link


@dataclass(eq=False, slots=True)
class Calls:
    """What is known of the calls of one wrapper.

    Attributes:
        ran: it was called, or `torch.compile` has traced it.
        traced: `torch.compile` has, and guards what it has seen.
        tell: called where the first call is not a traced one.
    """

    ran: bool = False
    traced: bool = False
    tell: Callable[[], object] | None = None


def first_call(link: Link, calls: Calls) -> Callable[..., Any]:
    """Return what goes in the place of the wrapper of `link` until it has been called."""
    wrapper = link.wrapper
    if calls.ran and not calls.traced:
        return wrapper  # type: ignore[no-any-return]
    return _First(link, wrapper, calls)


class _First:
    """A wrapper that notes that it runs, and then leaves its place to the one that it stands for."""

    __slots__ = ("_calls", "_link", "_wrapper")

    def __init__(self, link: Link, wrapper: Any, calls: Calls) -> None:
        self._link, self._wrapper, self._calls = link, wrapper, calls

    def __call__(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        _note(self)
        return self._wrapper(wrapped, instance, args, kwargs)

    def note(self) -> None:
        """Note a call."""
        calls = self._calls
        if _is_tracing():
            calls.ran = calls.traced = True
            return
        if not calls.traced:
            self._link.wrapper = self._wrapper
        if not calls.ran:
            calls.ran = True
            if calls.tell is not None:
                calls.tell()


def _note(first: _First) -> bool:
    first.note()
    return True


# torch.compile calls such a function while it traces, and takes what it returns for a constant.
_note._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _is_tracing() -> bool:
    guards = sys.modules.get("torch._guards")
    return guards is not None and guards.TracingContext.try_get() is not None
