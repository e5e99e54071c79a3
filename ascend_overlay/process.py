"""Which part of vLLM this process plays."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

ROLES = ("main", "api_server", "engine_core", "worker", "inspection", "child")
"""Roles of a process: where the program started, vLLM's API server processes, its EngineCore, its workers, the
subprocess that inspects a model class, and any other child started by multiprocessing."""

_INSPECTION_MODULE = "vllm.model_executor.models.registry"
_NAME_PREFIXES = {"EngineCore": "engine_core", "VllmWorker": "worker", "ApiServer": "api_server"}

# A process can play a second part without a name that says so: EngineCore inside the main process
# (VLLM_ENABLE_V1_MULTIPROCESSING=0), the worker inside EngineCore (UniProcExecutor), a Ray actor.
_entered: set[str] = set()


RUN = "ASCEND_OVERLAY_RUN"
"""The variable by which the processes of a run know that they belong together."""
_run: list[str] = []


def run() -> str:
    """Return what the processes of this run have in common, and no other run has."""
    if not _run:
        _run.append(os.environ.get(RUN) or os.urandom(4).hex())
    return _run[0]


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


@contextlib.contextmanager
def playing(name: str | None) -> Iterator[None]:
    """Play the role `name` as well for the length of a with-block."""
    before = set(_entered)
    if name is not None:
        _entered.add(name)
    try:
        yield
    finally:
        _entered.clear()
        _entered.update(before)


def forget_entered() -> None:
    """Drop the roles that were entered: a forked child starts its own part."""
    _entered.clear()


def main_module() -> str | None:
    """Return the name of the module that runs as __main__ (`python -m NAME`); None where it has no other name."""
    return getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)


def describe() -> dict[str, Any]:
    """Return what identifies this process, as it is now; a ledger has what shown() makes of it."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "host": os.uname().nodename,
        "run": run(),
        "role": role(),
        "roles": sorted(roles()),
        "argv": list(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def shown(description: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a process without the secrets of its command line."""
    # Imported where somebody reads or writes a ledger: its patterns take longer to compile than all else here.
    from ascend_overlay import redaction

    return {**description, "argv": redaction.arguments(description["argv"])}


def _is_ray_worker() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and "default_worker" in (sys.argv[0] if sys.argv else "")
