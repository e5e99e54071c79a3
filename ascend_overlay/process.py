"""Which part of vLLM this process plays, and how it tells the processes that it starts."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROLES = ("main", "api_server", "engine_core", "worker", "inspection", "child")
"""Roles of a process: where the program started, vLLM's API server processes, its EngineCore, its workers, the
subprocess that inspects a model class, and any other child started by multiprocessing."""

_INSPECTION_MODULE = "vllm.model_executor.models.registry"
_NAME_PREFIXES = {"EngineCore": "engine_core", "VllmWorker": "worker", "ApiServer": "api_server"}

# A process can play a second part without a name that says so: EngineCore inside the main process
# (VLLM_ENABLE_V1_MULTIPROCESSING=0), the worker inside EngineCore (UniProcExecutor), a Ray actor.
_entered: set[str] = set()


def role() -> str:
    """Return the first role of this process, one of ROLES; it names the process in the ledger."""
    name = multiprocessing.current_process().name
    for prefix, role_name in _NAME_PREFIXES.items():
        if name.startswith(prefix):
            return role_name
    argv = getattr(sys, "orig_argv", [])
    if any(flag == "-m" and module == _INSPECTION_MODULE for flag, module in itertools.pairwise(argv)):
        return "inspection"
    if name != "MainProcess":
        return "child"
    for entered in ("worker", "engine_core"):
        if entered in _entered and _is_ray_worker():
            return entered
    return "main"


def roles() -> frozenset[str]:
    """Return every role that this process plays."""
    return frozenset({role(), *_entered})


def enter(name: str) -> bool:
    """Note that this process now also plays the role `name`; return whether that is new."""
    if name in roles():
        return False
    _entered.add(name)
    return True


def forget_entered() -> None:
    """Drop the roles that were entered: a forked child starts its own part."""
    _entered.clear()


def startup_folder() -> str:
    """Return the folder whose sitecustomize switches the overlays on in every Python process started with it."""
    from ascend_overlay import hooks

    return str(Path(hooks.__file__).parent / "startup")


class Propagation:
    """The changes to os.environ that carry the overlays into child processes, and their undoing."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}

    @property
    def active(self) -> bool:
        """Whether os.environ is changed."""
        return bool(self._before)

    def original(self) -> dict[str, str]:
        """Return os.environ as it would be without the changes."""
        environment: dict[str, str | None] = {**os.environ, **self._before}
        return {name: value for name, value in environment.items() if value is not None}

    def start(self, variables: Mapping[str, str]) -> None:
        """Set `variables`, put the start-up folder first on PYTHONPATH, and let Ray copy the variables.

        What an earlier start() set is taken back first.
        """
        self.stop()
        wanted = dict(variables)
        wanted["PYTHONPATH"] = prepended(os.environ.get("PYTHONPATH", ""), startup_folder())
        # Read by vLLM when it starts Ray actors, which do not inherit this environment.
        wanted["VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY"] = _with_item(
            os.environ.get("VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY", ""), "ASCEND_OVERLAY"
        )
        for name, value in wanted.items():
            self._before[name] = os.environ.get(name)
            os.environ[name] = value

    def stop(self) -> None:
        """Put every variable back to what it was before the first start()."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before.clear()


def prepended(path: str, folder: str) -> str:
    """Return the search path `path` with `folder` first, and there only."""
    return os.pathsep.join([folder, *(part for part in path.split(os.pathsep) if part and part != folder)])


def _with_item(text: str, item: str) -> str:
    items = [part for part in text.split(",") if part]
    return ",".join(items if item in items else [*items, item])


def _is_ray_worker() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and "default_worker" in (sys.argv[0] if sys.argv else "")
