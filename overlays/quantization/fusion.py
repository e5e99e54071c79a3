"""Norms and activations that quantize what they return, where nobody but quantized linear layers reads it.

npu_add_rms_norm_dynamic_quant and npu_dequant_swiglu_quant return integers and scales, and no floats. So a norm or an
activation may become one only where all who read its result are known, and each of them is of the type W8A8_DYNAMIC.
Who reads what is in two tables, of functions of vLLM; a class of ours says it itself, in `reads_input`. A model that
computes otherwise has other functions, and stays as it is.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import RowParallelLinear

import ascend_overlay
from ascend_overlay import npu, settings
from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
from ascend_overlay.overlays.quantization.quantized_rows import QuantizedRows
from ascend_overlay.overlays.quantization.schemes.w8a8_dynamic import W8A8Dynamic
from ascend_overlay.overlays.quantization.schemes.w8a8_mix import W8A8Mix, only_decodes

npu.load("npu_add_rms_norm_dynamic_quant", "npu_dequant_swiglu_quant")

_MODELS = "vllm.model_executor.models."
_READS = {
    "llama:LlamaAttention": ("qkv_proj",),
    "llama:LlamaMLP": ("gate_up_proj",),
    "qwen2:Qwen2Attention": ("qkv_proj",),
    "qwen2:Qwen2MLP": ("gate_up_proj",),
    "qwen3:Qwen3Attention": ("qkv_proj",),
    "qwen3_moe:Qwen3MoeAttention": ("qkv_proj",),
    "deepseek_v2:DeepseekV2MLAAttention": ("mla_attn",),
    "deepseek_v2:DeepseekV2MLP": ("gate_up_proj",),
}
"""Class -> which modules in it read what its forward is given, and nothing else does."""
_HANDS_ON = {"input_layernorm": "self_attn", "post_attention_layernorm": "mlp"}
"""Norm -> who reads its result in a layer, and nobody else does."""
_LAYERS = (
    "llama:LlamaDecoderLayer",
    "qwen2:Qwen2DecoderLayer",
    "qwen3:Qwen3DecoderLayer",
    "qwen3_moe:Qwen3MoeDecoderLayer",
    "deepseek_v2:DeepseekV2DecoderLayer",
)
"""Classes of which `_HANDS_ON` is true."""
_ACTIVATES = ("llama:LlamaMLP", "qwen2:Qwen2MLP", "qwen3_moe:Qwen3MoeMLP", "deepseek_v2:DeepseekV2MLP")
"""Classes whose `down_proj` alone reads what their `act_fn` returns."""
_WIDEST = 8192
"""Elements of a row for which npu_dequant_swiglu_quant has room whatever the number of rows."""


def fuse(model: nn.Module, dtype: torch.dtype) -> None:
    """Have norms and activations of `model` quantize what they return, where that is known to be right.

    Args:
        model: built, without its weights.
        dtype: of its activations.
    """
    chosen = settings.current()
    if not chosen.fused_quant or dtype not in (torch.float16, torch.bfloat16):
        return
    made: Counter[str] = Counter()
    for module in model.modules():
        # Who leaves norms or activations to vLLM wants its numbers there.
        if _is_any(module, _LAYERS) and chosen.selects("layernorm"):
            made["norms"] += sum(_norm(module, norm, reader, dtype) for norm, reader in _HANDS_ON.items())
        # torch_npu documents bfloat16; of float16 it says two things.
        if _is_any(module, _ACTIVATES) and chosen.selects("activation") and dtype == torch.bfloat16:
            made["activations"] += _activation(module)
    if made.total():
        text = " and ".join(f"{count} {what}" for what, count in made.items() if count)
        ascend_overlay.note("quantization", f"{text} quantize what they return, in one operator each")


def _norm(layer: Any, name: str, reader: str, dtype: torch.dtype) -> bool:
    norm: Any = getattr(layer, name, None)
    # What is read by ranks in parts of the sequence is gathered before.
    if getattr(layer, "use_sequence_parallel_moe", False) or type(norm) is not RMSNorm:
        return False
    if norm.variance_size_override is not None or not norm.has_weight or norm.weight.dtype != dtype:
        return False
    if not _take_rows(_readers(getattr(layer, reader, None))):
        return False
    norm.__class__ = QuantizingNorm
    return True


def _activation(mlp: Any) -> bool:
    act, down = getattr(mlp, "act_fn", None), getattr(mlp, "down_proj", None)
    theirs = type(act) is SiluAndMul or type(act).__module__.startswith("ascend_overlay.overlays.activation.")
    if not isinstance(act, SiluAndMul) or not theirs:
        return False
    if not isinstance(down, RowParallelLinear) or not down.input_is_parallel or not _take_rows([down]):
        return False
    if 2 * down.input_size_per_partition > _WIDEST:
        return False
    act.__class__ = QuantizingSwiglu
    return True


def _readers(module: Any) -> list[nn.Module] | None:
    """Return the linear layers that alone read what `module` is given, or None where that is not known."""
    names: Iterable[str] | None = getattr(module, "reads_input", None)
    if names is None:
        names = next((names for known, names in _READS.items() if _is_any(module, [known])), None)
    if names is None:
        return None
    found: list[nn.Module] = []
    for name in names:
        child: Any = getattr(module, name, None)
        if isinstance(getattr(child, "quant_method", None), AscendLinearMethod):
            found.append(child)
            continue
        behind = _readers(child)
        if behind is None:
            return None
        found += behind
    return found


def _take_rows(layers: Iterable[Any] | None) -> bool:
    """Tell whether all of `layers`, and at least one, compute with rows that are quantized dynamically."""
    return bool(layers) and all(_takes_rows(layer) for layer in layers or ())


def _takes_rows(layer: Any) -> bool:
    method = getattr(layer, "quant_method", None)
    if not isinstance(method, AscendLinearMethod):
        return False
    return type(method.scheme) is W8A8Dynamic or (type(method.scheme) is W8A8Mix and not only_decodes())


def _is_any(module: Any, names: Iterable[str]) -> bool:
    """Tell whether the forward of `module` is that of one of the classes, not wrapped and not overridden."""
    forward = getattr(type(module), "forward", None)
    if not inspect.isfunction(forward) or hasattr(forward, "__wrapped__"):
        return False
    return f"{forward.__module__}:{forward.__qualname__}" in {f"{_MODELS}{name}.forward" for name in names}


class QuantizingNorm(RMSNorm):  # type: ignore[misc, unused-ignore]
    """Returns, with a residual, what quantized linear layers take; without one, floats."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """Return the norm of `x`, or with `residual` that of the sum as QuantizedRows, and the sum.

        Args:
            x: (..., hidden); float16 or bfloat16.
            residual: shape and dtype of `x`.
        """
        if residual is None or x.dim() < 2 or not x.dtype == residual.dtype == self.weight.dtype:
            return super().forward(x, residual)
        numbers, _, total, scales, _ = torch.ops.npu.npu_add_rms_norm_dynamic_quant.default(
            x, residual, self.weight.data, epsilon=self.variance_epsilon, output_mask=[True, False]
        )
        return QuantizedRows(numbers, scales, x.dtype), total


class QuantizingSwiglu(SiluAndMul):  # type: ignore[misc, unused-ignore]
    """Returns what a quantized linear layer takes."""

    def forward(self, x: Tensor) -> Any:
        """Return ``silu(a) * b`` of the halves of each row as QuantizedRows.

        Args:
            x: (..., 2 d); bfloat16.
        """
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        numbers, scales = torch.ops.npu.npu_dequant_swiglu_quant.default(rows, activate_left=True, quant_mode=1)
        return QuantizedRows(numbers.view(*x.shape[:-1], -1), scales.view(x.shape[:-1]), x.dtype)
