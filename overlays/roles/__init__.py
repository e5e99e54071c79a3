"""The points at which a process takes on a part of vLLM.

What waits for that is applied there, and the engine looks whether everything is in force that should be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ascend_overlay import Overlay
from ascend_overlay.api import enter_role, look

overlay = Overlay(
    "roles",
    vllm=">=0.27.1",
    reason="conditions by role must hold where vLLM runs the engine core or the worker inside another process",
    upstream=None,
    machinery=True,
)


@overlay.wrap("vllm.v1.engine.core:EngineCore.__init__")
def engine_core(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Whoever constructs an engine core plays its part."""
    enter_role("engine_core")
    return wrapped(*args, **kwargs)


@overlay.wrap("vllm.v1.worker.worker_base:WorkerWrapperBase.__init__")
def worker(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Whoever constructs a worker plays its part."""
    enter_role("worker")
    return wrapped(*args, **kwargs)


@overlay.wrap(
    "vllm.plugins:load_general_plugins",
    reason="general plugins patch vLLM by hand, after the overlays: what they cover is to be seen before anything runs",
)
def general_plugins(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Look what the general plugins of others have changed."""
    result = wrapped(*args, **kwargs)
    look()
    return result
