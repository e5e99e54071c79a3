"""The attention layer under its older signature."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.attention import Attention as VllmAttention

from ascend_overlay.errors import OverlayError


class Attention(VllmAttention):  # type: ignore[misc, unused-ignore]
    """vLLM's Attention, constructed and called as code for vLLM 0.6 to 0.9 does.

    Args:
        num_heads: heads of this rank.
        head_size: size of a head.
        scale: factor of the scores.
        num_kv_heads: heads of keys and values of this rank.
        alibi_slopes: one slope a head.
        cache_config: passed on.
        quant_config: passed on.
        blocksparse_params: refused: no backend has it any more.
        logits_soft_cap: passed on.
        per_layer_sliding_window: passed on.
        use_mla: refused: vLLM has MLAAttention for it.
        prefix: full name of the layer; it must be unique.
        attn_type: passed on.
        kv_sharing_target_layer_name: passed on.
        **extra: passed on.

    Raises:
        OverlayError: an argument asks for what this class no longer does.
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: int | None = None,
        alibi_slopes: list[float] | None = None,
        cache_config: Any = None,
        quant_config: Any = None,
        blocksparse_params: dict[str, Any] | None = None,
        logits_soft_cap: float | None = None,
        per_layer_sliding_window: int | None = None,
        use_mla: bool = False,
        prefix: str = "",
        attn_type: Any = None,
        kv_sharing_target_layer_name: str | None = None,
        **extra: Any,
    ) -> None:
        if use_mla:
            raise OverlayError(
                f"the attention layer {prefix!r} asks for use_mla=True, which vLLM's Attention no longer takes; use "
                f"vllm.model_executor.layers.attention.MLAAttention, or vLLM's own model class of that architecture."
            )
        if blocksparse_params is not None:
            raise OverlayError(
                f"the attention layer {prefix!r} asks for block-sparse attention, which vLLM no longer has; leave "
                f"blocksparse_params out to attend to everything."
            )
        if attn_type is not None:
            extra["attn_type"] = attn_type
        super().__init__(
            num_heads=num_heads,
            head_size=head_size,
            scale=scale,
            num_kv_heads=num_kv_heads,
            alibi_slopes=alibi_slopes,
            cache_config=cache_config,
            quant_config=quant_config,
            logits_soft_cap=logits_soft_cap,
            per_layer_sliding_window=per_layer_sliding_window,
            prefix=prefix,
            kv_sharing_target_layer_name=kv_sharing_target_layer_name,
            **extra,
        )

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        output_shape: Any = None,
        output_dtype: Any = None,
        **unused: Any,
    ) -> torch.Tensor:
        """Attend; `kv_cache` and `attn_metadata`, in 4th and 5th place once, are not looked at.

        Args:
            query: (tokens, heads * head size).
            key: (tokens, heads of keys * head size).
            value: as key.
            output_shape: shape of the result, or what code of the older API passes here.
            output_dtype: its dtype, likewise.
            **unused: `kv_cache` and `attn_metadata` by name.

        Returns:
            (tokens, heads * head size).
        """
        shape = output_shape if isinstance(output_shape, torch.Size) else None
        dtype = output_dtype if isinstance(output_dtype, torch.dtype) else None
        unknown = set(unused) - {"kv_cache", "attn_metadata"}
        if unknown:
            raise TypeError(f"Attention.forward() got unexpected arguments: {', '.join(sorted(unknown))}")
        result: torch.Tensor = super().forward(query, key, value, shape, dtype)
        return result
