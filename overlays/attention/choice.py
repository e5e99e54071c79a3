"""Choosing the backend ASCEND where vLLM's platform for CPUs would choose its own, and saying where it is not chosen.

It is also what `--attention-backend ASCEND` asks for; where that cannot be, it is an error.

vLLM is imported inside the functions: this module is loaded while vLLM finds out what its platform is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import ascend_overlay
from ascend_overlay.errors import OverlayError
from ascend_overlay.overlays.attention import limits

NAME = "ASCEND"


def get_attn_backend_cls(
    wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Return the path of the backend ASCEND, unless something is against it or the user chose another one."""
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    given = inspect.signature(wrapped).bind(*args, **kwargs)
    wanted = given.arguments["attn_selector_config"]
    if wanted.use_mla or wanted.use_sparse or not _may_choose(given.arguments["selected_backend"]):
        return wrapped(*args, **kwargs)
    against = _against(wanted)
    if not against:
        path: str = AttentionBackendEnum[NAME].get_path()
        return path
    what = f"{wanted.attn_type} attention with heads of {wanted.head_size} elements in {wanted.dtype}"
    _leave(given.arguments["selected_backend"], what, against)
    return wrapped(*given.args, **given.kwargs)


def attention(wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Give a layer that the operator does not compute the backend that vLLM has for it on this platform."""
    from vllm.config import get_current_vllm_config
    from vllm.platforms import current_platform
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    given = inspect.signature(wrapped).bind(*args, **kwargs)
    against = limits.layer(given.arguments) if given.arguments.get("attn_backend") is None else []
    chosen = get_current_vllm_config().attention_config.backend
    # An NPU's platform has nothing else to offer: the layer itself says what it lacks.
    if against and current_platform.is_cpu() and _may_choose(chosen):
        _leave(chosen, "an attention layer", against)
        given.arguments["attn_backend"] = AttentionBackendEnum.CPU_ATTN.get_class()
    wrapped(*given.args, **given.kwargs)


def _may_choose(chosen: Any) -> bool:
    return chosen is None or chosen.name == NAME


def _against(wanted: Any) -> list[str]:
    """Return what is against the backend, by vLLM's AttentionSelectorConfig and its current configuration."""
    from vllm.config import get_current_vllm_config
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    ours = AttentionBackendEnum[NAME].get_class()
    # An NPU has no compute capability in vLLM's sense, and the backend does not look at it.
    against: list[str] = ours.validate_configuration(**wanted._asdict(), device_capability=None)
    if get_current_vllm_config().speculative_config is not None:
        against.append("speculative decoding has not been tried with it")
    if "vllm.model_executor.models.whisper_causal" in sys.modules:
        against.append("Whisper's causal encoder builds on vLLM's own backends")
    return against


def _leave(chosen: Any, what: str, against: list[str]) -> None:
    reasons = ", ".join(against)
    if chosen is not None:
        raise OverlayError(
            f"--attention-backend asks for {NAME}, which cannot serve {what}: {reasons}. Leave the option out, and "
            f"vLLM's own backend serves what this one cannot."
        )
    ascend_overlay.note("attention", f"{what} stays vLLM's: {reasons}")
