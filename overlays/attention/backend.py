"""What the backend takes, in vLLM's terms; layouts.py and shapes.py say the same of its KV cache, as releases ask."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from vllm.v1.attention.backend import AttentionBackend, MultipleOf

from ascend_overlay.overlays.attention import limits
from ascend_overlay.overlays.attention.forward import AscendAttentionImpl
from ascend_overlay.overlays.attention.metadata import AscendMetadataBuilder


class Served(AttentionBackend):  # type: ignore[misc, unused-ignore]
    """Decoder attention by npu_fused_infer_attention_score_v2.

    The size of the KV cache, and what a block of it is, are vLLM's own; see cache.py for what lies in a block. Soft
    caps and ALiBi are not told to a backend before its layers are built; see choice.py.
    """

    supported_dtypes: ClassVar[list[torch.dtype]] = list(limits.DTYPES)

    @staticmethod
    def get_name() -> str:
        """Return the name of `--attention-backend`."""
        return "ASCEND"

    @staticmethod
    def get_impl_cls() -> type[AscendAttentionImpl]:
        """Return the class that computes a layer."""
        return AscendAttentionImpl

    @staticmethod
    def get_builder_cls() -> type[AscendMetadataBuilder]:
        """Return the class that describes a batch."""
        return AscendMetadataBuilder

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int | MultipleOf]:
        """Return the one size of blocks."""
        return [limits.BLOCK_SIZE]

    @classmethod
    def why_not(cls, config: Any) -> str | None:
        """Return what is against the model of vLLM's `config`; the NPU's platform asks before it builds one."""
        size: int = config.model_config.get_head_size()
        if limits.head_size(size):
            return None
        return f"heads of {size} elements are not served, since {limits.OPERATOR} takes multiples of 16 up to 256"

    @classmethod
    def supports_head_size(cls, head_size: int) -> bool:
        """Tell whether heads may have `head_size` elements."""
        return limits.head_size(head_size)

    @classmethod
    def supports_sink(cls) -> bool:
        """Tell whether there may be attention sinks."""
        return True

    @classmethod
    def supports_sliding_window(cls) -> bool:
        """Tell whether there may be a window."""
        return True

    @classmethod
    def supports_non_causal(cls) -> bool:
        """Tell whether a decoder may look ahead."""
        return True

    @classmethod
    def supports_kv_connector(cls) -> bool:
        """Tell whether the cache may be sent elsewhere: a block does not hold what its layout says; see cache.py."""
        return False

    @classmethod
    def supports_combination(
        cls,
        head_size: int,
        dtype: torch.dtype,
        kv_cache_dtype: Any,
        block_size: int | None,
        use_mla: bool,
        has_sink: bool,
        *others: Any,
        **more: Any,
    ) -> str | None:
        """Return what is against a combination, if anything."""
        if kv_cache_dtype in ("float16", "bfloat16") and str(dtype) != f"torch.{kv_cache_dtype}":
            return f"a KV cache of {kv_cache_dtype} beside a model of {dtype}"
        return limits.sinks(head_size, dtype) if has_sink else None
