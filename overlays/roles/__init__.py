"""The points at which a process takes on a part of vLLM, and those at which it starts others.

What waits for the former is applied there, and the engine looks whether everything is in force that should be. At the
latter the other process is given what it is to have (children.py) and asked what it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ascend_overlay import Overlay, conditions
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


_REACHED = "a process that does not inherit the environment, or does not read it, is to have what its parent has"

overlay.wrap(
    "multiprocessing.spawn:get_preparation_data", "ascend_overlay.overlays.roles.children:prepared", reason=_REACHED
)
overlay.wrap(
    "vllm.model_executor.models.registry:_run_in_subprocess",
    "ascend_overlay.overlays.roles.children:inspecting",
    reason=_REACHED,
)
overlay.wrap(
    "vllm.v1.executor.multiproc_executor:WorkerProc.wait_for_ready",
    "ascend_overlay.overlays.roles.children:waiting",
    reason="an error that says that a process ended does not say why it was refused",
)
_ON_RAY = "the workers of a Ray that was there before know nothing of this process's environment"

overlay.wrap(
    "ray.actor:ActorClass._remote",
    "ascend_overlay.overlays.roles.on_ray:actor",
    when=conditions.distribution("ray"),
    reason=_ON_RAY,
)
overlay.wrap(
    "ray.remote_function:RemoteFunction._remote",
    "ascend_overlay.overlays.roles.on_ray:task",
    when=conditions.distribution("ray"),
    reason=_ON_RAY,
)
_JOINED = "engine cores that an operator starts by hand, on another machine too, are to have what their front end has"

overlay.wrap(
    "vllm.v1.engine.core:EngineCoreProc.startup_handshake", "ascend_overlay.overlays.roles.ranks:engine", reason=_JOINED
)
overlay.wrap(
    "vllm.v1.engine.utils:wait_for_engine_startup", "ascend_overlay.overlays.roles.ranks:front_end", reason=_JOINED
)
overlay.wrap(
    "vllm.v1.executor.abstract:Executor.__init__",
    "ascend_overlay.overlays.roles.children:executor",
    reason="workers that lack what this process has are to be found before they compute anything",
)
