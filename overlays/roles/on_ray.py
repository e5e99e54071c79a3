"""Actors and tasks of Ray: their processes are started by a Ray that may have been there before the overlays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ascend_overlay import api

_serialized: dict[tuple[tuple[str, str], ...], str] = {}
"""The runtime environment of tasks that have none of their own: one at a time."""


def actor(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have an actor start in a process that knows the variables of the overlays."""
    if (variables := api.told()) is not None:
        kwargs = {**kwargs, "runtime_env": _with_variables(kwargs.get("runtime_env"), variables)}
    return wrapped(*args, **kwargs)


def task(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have a task run in a process that knows the variables of the overlays."""
    if (variables := api.told()) is None:
        return wrapped(*args, **kwargs)
    own = kwargs.get("runtime_env")
    key = tuple(sorted(variables.items()))
    if own or key not in _serialized:
        from ray._private.utils import get_runtime_env_info  # type: ignore[import-not-found, unused-ignore]

        info = get_runtime_env_info(_with_variables(own, variables), is_job_runtime_env=False, serialize=True)
        if own:
            return wrapped(*args, **{**kwargs, "serialized_runtime_env_info": info})
        _serialized.clear()
        _serialized[key] = info
    return wrapped(*args, **{**kwargs, "serialized_runtime_env_info": _serialized[key]})


def _with_variables(runtime_env: Mapping[str, Any] | None, variables: Mapping[str, str]) -> Any:
    """Return a runtime environment with the variables; those that it has itself win."""
    from ray.runtime_env import RuntimeEnv  # type: ignore[import-not-found, unused-ignore]

    given = dict(runtime_env or {})
    return RuntimeEnv(**{**given, "env_vars": {**variables, **(given.get("env_vars") or {})}})
