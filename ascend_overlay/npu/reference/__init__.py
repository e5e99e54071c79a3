"""The reference kernels that come with ascend_overlay.

Common to all: the arithmetic is float32 whatever the dtype of the tensors, as in the kernels of the NPU, and the result
is rounded once, to the dtype of the output. Arguments that torch_npu documents as unsupported are refused here, too, so
that what runs on a laptop is not refused by the hardware.

Importing this package imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ascend_overlay.npu.kernel import ReferenceKernel

    KERNELS: tuple[ReferenceKernel, ...]

OPERATORS: dict[str, tuple[str, ...]] = {
    "normalization": ("npu_rms_norm", "npu_add_rms_norm", "npu_gemma_rms_norm"),
    "activation": ("npu_swiglu", "npu_clipped_swiglu"),
    "gelu": ("npu_gelu", "npu_fast_gelu", "npu_geglu"),
    "rotary": ("npu_mrope", "npu_rotary_mul", "npu_interleave_rope"),
    "layout": ("npu_format_cast",),
    "moe_gating": (
        "npu_moe_gating_top_k",
        "npu_moe_gating_top_k_softmax",
        "npu_moe_gating_top_k_softmax_v2",
    ),
    "moe_routing": ("npu_moe_init_routing_v2", "npu_moe_token_unpermute"),
    "moe_matmul": ("npu_grouped_matmul",),
    "attention": (
        "npu_fused_infer_attention_score",
        "npu_fused_infer_attention_score_v2",
        "npu_fused_infer_attention_score_v2.out",
        "npu_scatter_pa_kv_cache",
        "npu_scatter_pa_kv_cache_functional",
    ),
    "latent_cache": ("npu_kv_rmsnorm_rope_cache",),
    "qkv_cache": ("npu_qkv_rms_norm_rope_cache", "npu_qkv_rms_norm_rope_cache_functional"),
    "paged_gather": ("npu_gather_pa_kv_cache", "npu_gather_pa_kv_cache_functional"),
    "batch_matmul": ("npu_transpose_batchmatmul",),
    "attention_update": ("npu_attention_update",),
    "quantization": ("npu_quantize", "npu_dynamic_quant", "npu_trans_quant_param"),
    "norm_quantization": ("npu_add_rms_norm_dynamic_quant",),
    "static_norm_quantization": ("npu_add_rms_norm_quant",),
    "swiglu_quantization": ("npu_dequant_swiglu_quant",),
    "moe_swiglu_quantization": ("npu_grouped_matmul_swiglu_quant_v2",),
    "quantized_matmul": ("npu_quant_matmul", "npu_weight_quant_batchmatmul"),
}
"""Module of this package -> the operators that it has kernels of; those of a module are loaded together."""


def kernels(operators: Iterable[str]) -> list[ReferenceKernel]:
    """Return the kernels of the modules that have any of `operators`; what no module has is passed over."""
    wanted = set(operators)
    return [kernel for module, names in OPERATORS.items() if wanted & {*names} for kernel in _of(module)]


def names() -> list[str]:
    """Return the operators that have a kernel here, without importing any."""
    return [name for found in OPERATORS.values() for name in found]


def _of(module: str) -> tuple[ReferenceKernel, ...]:
    found: tuple[ReferenceKernel, ...] = importlib.import_module(f"{__name__}.{module}").KERNELS
    return found


def __getattr__(name: str) -> Any:
    if name != "KERNELS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tuple(kernels(names()))
