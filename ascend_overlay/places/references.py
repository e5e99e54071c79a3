"""Holders that the garbage collector does not know of, found by counting references.

Libraries in C++ keep functions in structures of their own: PyTorch's dispatcher holds every function that was
registered as an operator. No search finds such a holder, but the object's reference count is higher than all holders
that are found account for.
"""

from __future__ import annotations

import collections
import gc
import inspect
import sys
from collections.abc import Sequence
from typing import Any

from ascend_overlay.places import frames
from ascend_overlay.places.holders import is_ours_by_file


class Probe:
    """An object that is held as the searched ones are, and by nobody else: what the search itself adds to a count."""

    def __init__(self) -> None:
        self.subject: Any = lambda: None
        # One for what a Swap holds of each searched object.
        self.held = [self.subject]


def unseen(wanted: Sequence[Any], found: Sequence[Any], probe: Probe) -> tuple[set[int], dict[int, list[str]]]:
    """Return the ids of the objects of `wanted` that somebody holds who is not among `found`.

    With it come the names of the running functions that have one in a variable, which the garbage collector does not
    see, either.

    Args:
        wanted: the objects that were searched for, and the probe's subject.
        found: all their referrers that the garbage collector knows of.
        probe: what was searched for with them.
    """
    # Before anything here adds to it.
    counts = {id(item): sys.getrefcount(item) for item in wanted}
    # One that refers to another is among those that were found, which is a list like any other.
    seen = collections.Counter(key for key in map(id, found) if key in counts)
    for referrer in found:
        for held in gc.get_referents(referrer):
            if id(held) in counts:
                seen[id(held)] += 1
    running = _held_by_frames(set(counts))
    for key, names in running.items():
        seen[key] += len(names)
    usual = counts[id(probe.subject)] - seen[id(probe.subject)]
    return {key for key, count in counts.items() if count - seen[key] > usual}, running


def _held_by_frames(ids: set[int]) -> dict[int, list[str]]:
    held: dict[int, list[str]] = {}
    for frame in frames.outside():
        if not frame.f_code.co_flags & inspect.CO_OPTIMIZED or is_ours_by_file(frame.f_code):
            continue
        for value in frames.variables(frame).values():
            if id(value) in ids:
                name = f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}"
                held.setdefault(id(value), []).append(name)
    return held
