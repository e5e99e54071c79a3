"""Which attention backend serves a layer: one of those that overlays registered with vLLM, found by its name there.

Each has a method of its own, why_not(), for the models that it does not serve.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.registry import AttentionBackendEnum

from ascend_overlay.errors import ConfigError
from ascend_overlay.overlays.platform import refusals

NAMES = {"attention": "ASCEND", "mla": "ASCEND_MLA"}
"""Overlay -> the name of its backend."""
_SERVED = {
    "attention": ("a model with plain attention",),
    "mla": (
        "a model with multi-head latent attention",
        "; VLLM_MLA_DISABLE=1 has vLLM make plain attention of it, which is served",
    ),
}


def path(selected: Any, wanted: Any) -> str:
    """Return the path of the backend for a layer with the AttentionSelectorConfig `wanted`.

    Raises:
        ConfigError: none serves it, or the user asked for one that is not for NPUs.
    """
    overlay = "mla" if wanted.use_mla else "attention"
    name = NAMES[overlay]
    if selected is not None and selected.name not in NAMES.values():
        raise ConfigError(
            f"--attention-backend asks for {selected.name}, which has no kernels for an NPU; leave the option out, and "
            f"{name} serves this model."
        )
    found = registered(overlay)
    against = ["sparse attention"] if wanted.use_sparse else []
    if not wanted.use_mla:
        # An NPU has no compute capability in vLLM's sense, and the backend does not look at it.
        against += found.validate_configuration(**wanted._asdict(), device_capability=None)
    if against:
        what = f"{wanted.attn_type} attention with heads of {wanted.head_size} elements in {wanted.dtype}"
        raise refusals.refused(f"{what} is not served by {name}: {', '.join(against)}")
    place: str = AttentionBackendEnum[name].get_path()
    return place


def why_not(config: Any) -> str | None:
    """Return what is against the model of vLLM's `config`, as the backend that would serve it says; None if nothing is.

    Raises:
        ConfigError: the overlay of that backend is off.
    """
    found = registered("mla" if config.model_config.use_mla else "attention").why_not(config)
    return None if found is None else str(found)


def registered(overlay: str) -> Any:
    """Return the class of the backend that `overlay` brings.

    Raises:
        ConfigError: the overlay is off.
    """
    if NAMES[overlay] not in AttentionBackendEnum.__members__:
        raise refusals.off(overlay, *_SERVED[overlay])
    return AttentionBackendEnum[NAMES[overlay]].get_class()
