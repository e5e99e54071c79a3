"""Stands for vllm.transformers_utils.tokenizer."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.transformers_utils.tokenizer",
    {
        "AnyTokenizer": "vllm.tokenizers:TokenizerLike",
        "cached_get_tokenizer": "vllm.tokenizers:cached_get_tokenizer",
        "cached_tokenizer_from_config": "vllm.tokenizers:cached_tokenizer_from_config",
        "get_tokenizer": "vllm.tokenizers:get_tokenizer",
    },
)
