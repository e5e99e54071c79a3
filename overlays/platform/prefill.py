"""What vLLM's builder for multi-head latent attention wants to hold: a backend for prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from vllm.platforms import current_platform
from vllm.v1.attention.backends.mla.prefill.base import MLAPrefillBackend

from ascend_overlay.errors import OverlayError


class ByTheAttentionBackend(MLAPrefillBackend):  # type: ignore[misc, unused-ignore]
    """The backend ASCEND_MLA computes prompts by itself, so this one is never asked.

    Without it vLLM takes FLASH_ATTN's wherever a platform has no compute capability (platforms/interface.py).
    """

    @staticmethod
    def get_name() -> str:
        """Return what vLLM's log calls it."""
        return "ASCEND_MLA"

    def run_prefill_new_tokens(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: nobody should come here."""
        raise OverlayError(
            "vLLM asks the NPU platform for its prefill backend of multi-head latent attention, which ASCEND_MLA does "
            "without; please report the model."
        )

    run_prefill_context_chunk = run_prefill_new_tokens


def choose(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what the builder is to hold; on another platform, what vLLM chooses."""
    return ByTheAttentionBackend if current_platform.device_name == "npu" else wrapped(*args, **kwargs)
