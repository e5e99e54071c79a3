"""A plugin with one overlay whose target any process can load quickly, and that shows how often it was applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

overlay = Overlay("probe", vllm=">=0.27.1", reason="the tests ask in every process whether it was applied")


@overlay.wrap("vllm.version:_prev_minor_version")
def probed(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Mark the answer."""
    return f"probed {wrapped(*args, **kwargs)}"


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Return the probe."""
    return [overlay]
