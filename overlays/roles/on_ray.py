"""Actors and tasks of Ray: their processes are started by a Ray that may have been there before the overlays.

What their runtime environment says is kept. Added are the variables of the overlays, and a hook that Ray runs in each
process before anything else, sent as text: an interpreter that has no ascend_overlay refuses to import vLLM there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from ascend_overlay import api
from ascend_overlay.errors import ProcessError
from ascend_overlay.hooks.carried import Carried
from ascend_overlay.settings import FALSE, PREFIX, advice

_logger = logging.getLogger("vllm.ascend_overlay")
_HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""The variable by which Ray tells a process of its hook."""
_PATIENCE = 60
"""Seconds that Ray may take to store a hook; its own default."""

# Executed in a process of Ray, which need not have an ascend_overlay. To unpickle `carried` arms the overlays; a hook
# that ours hides is run after it, and is all that a process started from that one knows of.
_TEXT = """
def ascend_overlay_arrives():
    import os
    os.environ.pop(variable, None)
    if hidden:
        from ray._private.runtime_env.setup_hook import load_and_execute_setup_hook
        os.environ[variable] = hidden
        if (error := load_and_execute_setup_hook(hidden)) is not None:
            raise RuntimeError(error)
    return carried
"""

_hooks: dict[tuple[Any, ...], str] = {}
"""The key by which Ray has stored a hook, by job and by what the hook tells."""
_serialized: dict[tuple[tuple[str, str], ...], str] = {}
"""The runtime environment of tasks that have none of their own: one at a time."""
_said: set[str] = set()


def actor(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have an actor start in a process that has the overlays, or refuses to be without."""
    own = kwargs.get("runtime_env")
    if variables := _variables(own):
        kwargs = {**kwargs, "runtime_env": _with_variables(own, variables)}
    return wrapped(*args, **kwargs)


def task(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have a task run in a process that has the overlays, or refuses to be without."""
    own = kwargs.get("runtime_env")
    if not (variables := _variables(own)):
        return wrapped(*args, **kwargs)
    key = tuple(sorted(variables.items()))
    if own or key not in _serialized:
        from ray._private.utils import get_runtime_env_info  # type: ignore[import-not-found, unused-ignore]

        info = get_runtime_env_info(_with_variables(own, variables), is_job_runtime_env=False, serialize=True)
        if own:
            return wrapped(*args, **{**kwargs, "serialized_runtime_env_info": info})
        _serialized.clear()
        _serialized[key] = info
    return wrapped(*args, **{**kwargs, "serialized_runtime_env_info": _serialized[key]})


def _variables(own: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what tells a process with the runtime environment `own` of the overlays; nothing where it is to have none.

    Variables of ours that the runtime environment has itself, or that of the job, win.
    """
    if (owed := api.owed()) is None:
        return {}
    import ray  # type: ignore[import-not-found, unused-ignore]
    from ray._private import auto_init_hook, client_mode_hook  # type: ignore[import-not-found, unused-ignore]

    # Ray has no types for these.
    start: Any = auto_init_hook.auto_init_ray
    is_client: Any = client_mode_hook.client_mode_should_convert
    start()
    if is_client():
        _say_that_nobody_looks()
        return dict(owed["variables"])
    around = _of_the_job(ray)
    said = {**_ours(around), **_ours((own or {}).get("env_vars") or {})}
    variables = {**owed["variables"], **said}
    if variables.get(PREFIX, "").lower() in FALSE:
        return variables
    if said:
        # Whoever gives a process settings of its own has it differ on purpose.
        owed = {**owed, "overlays": {}, "settings": {}}
    is_worker = ray._private.worker.global_worker.mode == ray.WORKER_MODE
    hidden = os.environ.get(_HOOK, "") if is_worker else around.get(_HOOK, "")
    return {**variables, _HOOK: _hook({**owed, "variables": variables}, hidden)}


def _hook(owed: Mapping[str, Any], hidden: str) -> str:
    """Return the key of a hook that brings what is owed and then runs the one that it hides; Ray has it stored."""
    import ray

    worker = ray._private.worker.global_worker
    told = (worker.current_job_id.hex(), repr(owed), hidden)
    if told not in _hooks:
        try:
            from ray._private.runtime_env.setup_hook import (  # type: ignore[import-not-found, unused-ignore]
                decode_function_key,
            )

            export = worker.function_actor_manager.export_setup_func
        except (ImportError, AttributeError) as error:
            raise ProcessError(
                f"Ray {ray.__version__} has no hook for the start of a process as the one that was tried, 2.60, has "
                f"({error}): what it starts would have the overlays or not, and nobody would know. Install another "
                f"Ray, or leave the overlay `roles` out there: {advice('exclude', 'roles')}."
            ) from error
        # What is of __main__ is pickled as it is, and not by the name of a module.
        names: dict[str, Any] = {"__name__": "__main__", "variable": _HOOK, "hidden": hidden, "carried": Carried(owed)}
        exec(_TEXT, names)
        _hooks[told] = decode_function_key(export(names["ascend_overlay_arrives"], timeout=_PATIENCE))
    return _hooks[told]


def _of_the_job(ray: Any) -> dict[str, str]:
    """Return the variables of the runtime environment that what is started from here inherits."""
    return dict(ray.get_runtime_context().runtime_env.get("env_vars") or {})


def _ours(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in variables.items() if name.startswith(PREFIX)}


def _say_that_nobody_looks() -> None:
    if "ray" not in _said:
        _said.add("ray")
        _logger.warning(
            "Ray is used through ray://, which tells its actors and tasks the variables of the overlays, but has no "
            "way to see whether they have them. Start the program on a node of the cluster for that."
        )


def _with_variables(runtime_env: Mapping[str, Any] | None, variables: Mapping[str, str]) -> Any:
    """Return a runtime environment with the variables; those that it has itself win."""
    from ray.runtime_env import RuntimeEnv  # type: ignore[import-not-found, unused-ignore]

    given = dict(runtime_env or {})
    return RuntimeEnv(**{**given, "env_vars": {**variables, **(given.get("env_vars") or {})}})
