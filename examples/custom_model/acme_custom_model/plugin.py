"""The plugin: one overlay that makes vLLM serve checkpoints of the architecture CustomModelForCausalLM."""

from __future__ import annotations

from collections.abc import Iterable

from ascend_overlay import Overlay, ref
from ascend_overlay.hooks import hookimpl

overlay = Overlay(
    "acme_custom_model",
    vllm=">=0.32,<0.34",
    reason="vLLM does not know the architecture CustomModelForCausalLM",
)
# The first name is what config.json says in "architectures", the second what it says in "model_type".
overlay.model("CustomModelForCausalLM", "acme_custom_model.model:CustomModelForCausalLM")
overlay.item(
    "vllm.transformers_utils.config:_CONFIG_REGISTRY",
    "acme_custom",
    ref("acme_custom_model.config:CustomConfig"),
    reason="transformers refuses a config.json whose model_type it does not know, unless vLLM has a class for it",
)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Contribute the overlay."""
    return [overlay]
