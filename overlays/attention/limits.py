"""What npu_fused_infer_attention_score_v2 does not compute, in words for the ledger and for errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

OPERATOR = "npu_fused_infer_attention_score_v2"

BLOCK_SIZE = 128
"""Tokens of a block. The operator takes 128, 256, 384 and 512 and recommends 128; vLLM splits larger ones."""
DTYPES = (torch.float16, torch.bfloat16)

_KNOWN_OPTIONS = frozenset({"sinks"})


def head_size(size: int) -> bool:
    """Tell whether the operator takes heads of `size` elements in the layout TND.

    CANN documents 64, 128 and 192; recent versions compute other ones, none above 256.
    """
    return size % 16 == 0 and 0 < size <= 256


def sinks(size: int, dtype: torch.dtype) -> str | None:
    """Return what is against attention sinks, if anything."""
    if dtype != torch.bfloat16:
        return f"attention sinks with {dtype}, where torch_npu takes bfloat16"
    return None if size in (64, 128) else f"attention sinks with heads of {size} elements, where CANN takes 64 and 128"


def layer(arguments: Mapping[str, Any]) -> list[str]:
    """Return what is against a layer, by the `arguments` of vLLM's Attention, beyond what vLLM's selector is told."""
    found = []
    if arguments.get("logits_soft_cap"):
        found.append(f"a soft cap of the scores ({arguments['logits_soft_cap']})")
    if arguments.get("alibi_slopes") is not None or arguments.get("use_alibi_sqrt"):
        found.append("ALiBi")
    size, values = arguments["head_size"], arguments.get("head_size_v")
    if values not in (None, size):
        found.append(f"values of {values} elements beside keys of {size}")
    heads, kv_heads = arguments["num_heads"], arguments.get("num_kv_heads") or arguments["num_heads"]
    if heads > 64 * kv_heads or heads > 256:
        found.append(f"{heads} heads of queries for {kv_heads} of keys")
    if kv_heads * size > 65535:
        found.append(f"{kv_heads * size} elements of keys a token")
    options = {name for name, value in arguments.get("extra_impl_args", {}).items() if value is not None}
    found += [f"the option {name}" for name in sorted(options - _KNOWN_OPTIONS)]
    return found
