"""Whether a vLLM engine lives in this process."""

from __future__ import annotations

import gc
import sys

from ascend_overlay.places.bindings import unfrozen

_ENGINES = (
    ("vllm.v1.engine.llm_engine", "LLMEngine"),
    ("vllm.v1.engine.async_llm", "AsyncLLM"),
    ("vllm.v1.engine.core", "EngineCore"),
)


def live_engines() -> list[str]:
    """Return the names of the vLLM engine classes that have a live instance in this process."""
    classes = [
        getattr(sys.modules[module], name) for module, name in _ENGINES if hasattr(sys.modules.get(module), name)
    ]
    if not classes:
        return []
    with unfrozen():
        if not _instances(classes):
            return []
        gc.collect()
        return sorted({type(found).__name__ for found in _instances(classes)})


def _instances(classes: list[type]) -> list[object]:
    kinds = {derived for cls in classes for derived in [cls, *_derived(cls)]}
    return [found for found in gc.get_referrers(*kinds) if type(found) in kinds]


def _derived(cls: type) -> list[type]:
    children: list[type] = cls.__subclasses__()
    return [step for child in children for step in [child, *_derived(child)]]
