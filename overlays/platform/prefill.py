"""What vLLM's builder for multi-head latent attention wants to hold: a backend for prompts."""

from __future__ import annotations

from typing import Any, NoReturn

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
