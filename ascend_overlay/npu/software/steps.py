"""What each kind of step asks of an NPU: whoever runs a model says when a step begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ascend_overlay.npu.software.launches import launches
from ascend_overlay.npu.software.native_calls import Native


class Steps:
    """Takes the difference of what was counted between one step and the next."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._kind: str | None = None
        self._before: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
        self._found: dict[str, list[tuple[int, int]]] = {}

    def begins(self, kind: str) -> None:
        """Note that a step of this kind begins, and the one before it, whose copies and samples count with it, ends."""
        now = (launches(self._native.counts()), self._native.waits())
        if self._kind is not None:
            launched, waited = (
                sum(after.values()) - sum(was.values()) for was, after in zip(self._before, now, strict=True)
            )
            self._found.setdefault(self._kind, []).append((launched, waited))
        self._kind, self._before = kind, now

    def summary(self) -> dict[str, Any]:
        """Return, by kind, how many steps have ended, and the least and most that one launched and waited."""
        # Asked by another thread than the one in which steps begin.
        found_so_far = {kind: tuple(found) for kind, found in list(self._found.items())}
        return {
            kind: {
                "steps": len(found),
                **{
                    what: {"least": min(numbers), "most": max(numbers)}
                    for what, numbers in zip(("launches", "host waits"), zip(*found, strict=True), strict=True)
                },
            }
            for kind, found in found_so_far.items()
        }
