"""Ranks that Ray starts: what they are given of this process's environment."""

from __future__ import annotations

import importlib
import os
from typing import Any

PREFIXES = (
    "ASCEND_OVERLAY",
    "ASCEND_GLOBAL_",
    "ASCEND_LAUNCH_",
    "HCCL_",
    "PYTORCH_NPU_ALLOC_CONF",
    "TASK_QUEUE_ENABLE",
)
"""Of variables that torch_npu, hccl and this library read when a process starts, too early for what vLLM copies.

Which devices a process sees is not among them: that is said where it runs, by Ray.
"""
_PATH = "PYTHONPATH"


def equip(parallel: Any) -> None:
    """Have the actors of vLLM's executor for Ray start with these variables: Ray's own processes may lack them.

    Args:
        parallel: vLLM's ParallelConfig, whose `ray_runtime_env` is what actors are started with.
    """
    environment = dict(parallel.ray_runtime_env or {})
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES) or name == _PATH}
    environment["env_vars"] = given | dict(environment.get("env_vars") or {})
    # Ray is no dependency of anybody's here; who asks for it has it.
    kind: Any = importlib.import_module("ray.runtime_env").RuntimeEnv
    parallel.ray_runtime_env = kind(**environment)
