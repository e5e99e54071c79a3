"""Whether a wrapper has run: noted by its first call, after which the wrapper itself is what is called.

A counter would cost each call, and what `torch.compile` traces would have to carry it along.
"""

from __future__ import annotations

import sys
import weakref
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


def first_call(wrapper: Callable[..., Any], calls: Calls, link: Link | None = None) -> Callable[..., Any]:
    """Return what stands for `wrapper` until it is called: in `link`, or where nobody can exchange it (None)."""
    return wrapper if calls.ran and not calls.traced else _First(link, wrapper, calls)


class _First:
    """A wrapper that notes that it runs, and then leaves its place to the one that it stands for."""

    __slots__ = ("_calls", "_link", "_wrapper")

    def __init__(self, link: Link | None, wrapper: Any, calls: Calls) -> None:
        # The link refers to this: in a circle, it would go on to hold what it calls after everything is taken back.
        self._link = weakref.ref(link) if link is not None else None
        self._wrapper, self._calls = wrapper, calls

    def __call__(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        _note(self)
        return self._wrapper(wrapped, instance, args, kwargs)

    def note(self) -> None:
        """Note a call."""
        calls = self._calls
        if _is_tracing():
            calls.ran = calls.traced = True
            return
        link = self._link() if self._link is not None else None
        if not calls.traced and link is not None:
            link.wrapper = self._wrapper
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
