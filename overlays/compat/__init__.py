"""Model code written for vLLM 0.6 to 0.9 loads and runs on the vLLM of today.

Modules that are gone are served again, moved names are found where they were, and a model class with the older
interface is adapted when vLLM loads it. Each use is noted in the ledger, with what to write instead. Code of today's
interface is recognised when it is loaded and left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ascend_overlay import Overlay, ref

_MOVED = "ascend_overlay.overlays.compat.moved"
_REGISTRY = "vllm.model_executor.models.registry"

overlay = Overlay(
    "compat",
    vllm=">=0.27.1",
    reason="models written against the API of vLLM 0.6 to 0.9 neither import nor pass vLLM's inspection any more",
    upstream=None,
)

overlay.module_alias("vllm.attention", f"{_MOVED}.attention")
overlay.module_alias("vllm.attention.layer", f"{_MOVED}.attention_layer")
overlay.module_alias("vllm.attention.selector", f"{_MOVED}.attention_selector")
overlay.module_alias("vllm.attention.backends", f"{_MOVED}.attention_backends")
overlay.module_alias("vllm.attention.backends.abstract", f"{_MOVED}.attention_abstract")
overlay.module_alias("vllm.attention.backends.utils", f"{_MOVED}.attention_utils")
overlay.module_alias("vllm.model_executor.sampling_metadata", f"{_MOVED}.sampling_metadata")
overlay.module_alias("vllm.model_executor.pooling_metadata", f"{_MOVED}.pooling_metadata")
overlay.module_alias("vllm.model_executor.layers.sampler", f"{_MOVED}.sampler")
overlay.module_alias("vllm.transformers_utils.tokenizer", f"{_MOVED}.tokenizer")
overlay.module_alias("vllm.worker", f"{_MOVED}.worker")
overlay.module_alias("vllm.worker.worker_base", f"{_MOVED}.worker_base")

overlay.add("vllm.utils:__getattr__", ref("ascend_overlay.overlays.compat.names:of_utils"))
overlay.add("vllm.model_executor:__getattr__", ref("ascend_overlay.overlays.compat.names:of_model_executor"))

overlay.wrap("vllm.model_executor.layers.rotary_embedding:get_rope", "ascend_overlay.overlays.compat.rope:get_rope")


@overlay.wrap(f"{_REGISTRY}:_ModelInfo.from_model_cls", reason="what vLLM inspects is the adapted class")
def inspected(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Inspect the adapted class."""
    from ascend_overlay.overlays.compat.models import adapted

    model = kwargs["model"] if "model" in kwargs else args[0]
    return wrapped(adapted(model))


@overlay.wrap(f"{_REGISTRY}:_ModelRegistry._try_load_model_cls", reason="what vLLM runs is the adapted class")
def loaded(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the adapted class."""
    from ascend_overlay.overlays.compat.models import adapted

    model = wrapped(*args, **kwargs)
    return model if model is None else adapted(model)


@overlay.wrap(
    f"{_REGISTRY}:_LazyRegisteredModel._get_cache_filename",
    reason="vLLM keeps what it inspected on disk, by source file; the adapted class is another one",
)
def cached_as(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Keep what was inspected through this overlay apart; vLLM's own models are never adapted."""
    name = wrapped(*args, **kwargs)
    return name if instance.module_name.startswith("vllm.") else f"ascend_overlay-compat-{name}"
