"""Processes that play a second part of vLLM: an engine core or worker that lives in somebody else's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ascend_overlay import Overlay
from ascend_overlay.engine import enter_role

overlay = Overlay(
    "roles",
    vllm=">=0.27.1",
    reason="conditions by role must hold where vLLM runs the engine core or the worker inside another process",
    upstream=None,
)


def _entering(role: str) -> Callable[..., Any]:
    def construct(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        enter_role(role)
        return wrapped(*args, **kwargs)

    return construct


overlay.wrap("vllm.v1.engine.core:EngineCore.__init__")(_entering("engine_core"))
overlay.wrap("vllm.v1.worker.worker_base:WorkerWrapperBase.__init__")(_entering("worker"))
