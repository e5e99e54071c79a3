"""Engines for tiny models within one process, one after the other: seconds each, where one alone takes a minute.

vLLM otherwise starts three more processes for each, of which each imports vLLM.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo import runs

EAGER, TRACED, COMPILED = "eager", "traced", "compiled"
MODES = (EAGER, TRACED, COMPILED)
"""Without torch.compile; with it, its graphs run as they are; with it and Inductor.

To be run in this order within a process: eager must not find vLLM's helpers compiled.
"""


def environment(cache: Path, *, overlaid: bool) -> dict[str, str]:
    """Return the environment of a process that runs engines within itself, and keeps vLLM's caches in `cache`."""
    found = runs.environment(cache, overlaid=overlaid, compiled=True)
    # It counts in GiB, and clearing one takes longer than everything else about a tiny model.
    del found["VLLM_CPU_KVCACHE_SPACE"]
    return found | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Otherwise each process of a model that is spread over several wants cores of its own.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }


def prepare() -> None:
    """Make vLLM, here imported first, fit for several engines in this process."""
    # A million objects are made, which stay.
    gc.disable()
    from vllm import LLM  # noqa: F401
    from vllm.model_executor.models import registry

    gc.enable()
    _keep_what_is_there()
    _register_kernels_once()
    # vLLM looks at a model class in a process of its own, in order not to touch an accelerator in this one. There is
    # none, and that process would take longer than everything else about a tiny model.
    registry._run_in_subprocess = lambda function: function()


def _keep_what_is_there() -> None:
    """Leave what is imported out of the search for garbage, for which vLLM asks eight times for each engine.

    vLLM freezes the heap with an engine in it, and thaws it; here it is frozen before the first, and remains so.
    """
    gc.freeze()
    for name in ("collect", "freeze", "unfreeze"):
        setattr(gc, name, _unless_for_vllm(getattr(gc, name)))


def _unless_for_vllm(function: Callable[..., Any]) -> Callable[..., Any]:
    def asked(*arguments: Any) -> Any:
        asking = str(sys._getframe(1).f_globals.get("__name__"))
        return 0 if asking.startswith("vllm.") else function(*arguments)

    return asked


def _register_kernels_once() -> None:
    """Have vLLM put kernels in the places of Triton's for the first engine alone: then they are there.

    Each time it looks through the names of all modules, and wraps what it put there before.
    """
    try:
        from vllm.triton_utils import dispatcher
    except ImportError:  # 0.27.1 has none
        return
    register = dispatcher.register_kernels

    def once(overrides: Any) -> None:
        missing = {name: kernel for name, kernel in overrides.items() if name not in dispatcher._registry}
        if missing:
            register(missing)

    dispatcher.register_kernels = once


def engine(model: str, *, dtype: str, mode: str, parallel: int = 1, **more: Any) -> Any:
    """Return an `LLM` for a tiny model; end it by `shut_down` before the next one.

    Args:
        model: folder of the model.
        dtype: what it computes in: "bfloat16", "float16", "float32".
        mode: one of MODES.
        parallel: over how many processes it is spread, which were started with RANK, LOCAL_RANK, WORLD_SIZE,
            MASTER_ADDR and MASTER_PORT in their environments, and all do the same.
        **more: further arguments of `LLM`.
    """
    import torch
    from vllm import LLM, envs

    # vLLM stops reading the environment when the first engine is up.
    envs.disable_envs_cache()
    # Its own switch for tests: the graphs of torch.compile are not given to Inductor.
    os.environ["VLLM_CPU_CI_ENV"] = str(int(mode == TRACED))
    # Helper functions of vLLM are compiled even with enforce_eager; that takes longer than the rest of the run.
    torch._dynamo.config.disable = mode == EAGER
    torch._dynamo.reset()
    if parallel > 1:
        more |= {"tensor_parallel_size": parallel, "distributed_executor_backend": "external_launcher"}
    return LLM(
        model,
        dtype=dtype,
        enforce_eager=mode == EAGER,
        max_model_len=256,
        max_num_seqs=8,
        kv_cache_memory_bytes=64 << 20,
        disable_log_stats=True,
        **more,
    )


def shut_down(llm: Any) -> None:
    """End the engine, and leave this process to the next one."""
    llm.llm_engine.engine_core.shutdown()
