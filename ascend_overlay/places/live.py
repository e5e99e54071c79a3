"""Whether a vLLM engine lives in this process."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

from ascend_overlay.places.bindings import unfrozen
from ascend_overlay.places.instances import instances

_ENGINES = (
    ("vllm.v1.engine.llm_engine", "LLMEngine"),
    ("vllm.v1.engine.async_llm", "AsyncLLM"),
    ("vllm.v1.engine.core", "EngineCore"),
)


def live_engines(parts: Iterable[Any] = ()) -> list[str]:
    """Return the names of the vLLM engine classes that have a live instance in this process.

    Args:
        parts: what else may hold the classes, as in instances().
    """
    parts = list(parts)
    if not instances(_ENGINES, parts):
        return []
    with unfrozen():
        gc.collect()
    return sorted({type(found).__name__ for found in instances(_ENGINES, parts)})
