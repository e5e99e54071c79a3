"""Graphs in pieces without a compiler: vLLM's breakable graphs, for who does not ask for torch.compile.

vLLM has an environment variable for them. It marks the operators between the pieces when it defines them, and forgets
the mode of compilation that was asked for when it makes a configuration. So the variable is there from the beginning,
and gives way to who asks for torch.compile. Where the user has set it, it stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

VARIABLE = "VLLM_USE_BREAKABLE_CUDAGRAPH"
_ours: set[str] = set()


def prepare() -> None:
    """Have the operators marked, unless the user says whether or not."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = "1"
        _ours.add(VARIABLE)


def decide(wrapped: Callable[..., bool], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Set the variable for the configuration `instance`, unless the user has."""
    from vllm import envs
    from vllm.config import CompilationMode

    asked = instance.compilation_config.mode not in (None, CompilationMode.NONE)
    value = "0" if asked else "1"
    if VARIABLE in _ours and os.environ.get(VARIABLE) != value:
        os.environ[VARIABLE] = value
        # An engine that was here before may have it read once and for all.
        envs.disable_envs_cache()
    return wrapped(*args, **kwargs)
