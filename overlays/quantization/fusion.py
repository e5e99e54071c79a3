"""Norms and activations that quantize what they return, where nobody but quantized linear layers reads it.

npu_add_rms_norm_dynamic_quant, npu_add_rms_norm_quant and npu_dequant_swiglu_quant return integers, and no floats. So a
norm or an activation may become one only where all who read its result are known, and each of them is of the type
W8A8_DYNAMIC; or, for a norm, where there is one who does, of the type W8A8, whose scale it takes.

Who reads what is in two tables, of functions of vLLM; a class of ours says it itself, in `reads_input`. A model that
computes otherwise has other functions, and stays as it is. Who looks on is seen at each call: where a hook, or a
forward that somebody gave to an object or a class later, would get rows in place of a tensor, floats are handed on.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.modules.module as hooked
from torch import Tensor, nn
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import RowParallelLinear

import ascend_overlay
from ascend_overlay import npu, settings
from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
from ascend_overlay.overlays.quantization.quantized_rows import QuantizedRows
from ascend_overlay.overlays.quantization.schemes.w8a8 import W8A8
from ascend_overlay.overlays.quantization.schemes.w8a8_dynamic import W8A8Dynamic
from ascend_overlay.overlays.quantization.schemes.w8a8_mix import W8A8Mix, only_decodes

npu.load("npu_add_rms_norm_dynamic_quant", "npu_add_rms_norm_quant", "npu_dequant_swiglu_quant")

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

_ALIGNED = 32
"""Bytes of which a row has a multiple, without which torch_npu's own passes do not use npu_add_rms_norm_quant."""

Forward = Callable[..., Any]
Way = tuple[tuple[nn.Module, Forward], ...]
"""Who gets rows on their way to the linear layers that read them, and by which function."""


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
    passed: list[Any] = []
    readers = _readers(getattr(layer, reader, None), passed)
    if _take_rows(readers):
        norm.__class__ = QuantizingNorm
    elif readers is not None and len(readers) == 1 and _static(readers[0]):
        if norm.weight.nbytes % _ALIGNED:
            return False
        alone: Any = readers[0]
        norm.__class__, norm.reader = StaticNorm, (alone,)
        # Its scale comes with the weights.
        alone.norm_quantizes = True
    else:
        return False
    norm.maker, norm.way = _way([layer]), _way([norm, *passed])
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
    act.__class__ = _quantizing(type(act))
    act.maker, act.way = _way([mlp]), _way([act, down])
    return True


def _readers(module: Any, passed: list[Any]) -> list[nn.Module] | None:
    """Return the linear layers that alone read what `module` is given, or None where that is not known.

    Args:
        module: the module.
        passed: gets who is given it, these layers among them.
    """
    names: Iterable[str] | None = getattr(module, "reads_input", None)
    if names is None:
        names = next((names for known, names in _READS.items() if _is_any(module, [known])), None)
    if names is None:
        return None
    passed.append(module)
    found: list[nn.Module] = []
    for name in names:
        child: Any = getattr(module, name, None)
        if isinstance(getattr(child, "quant_method", None), AscendLinearMethod):
            passed.append(child)
            found.append(child)
            continue
        behind = _readers(child, passed)
        if behind is None:
            return None
        found += behind
    return found


def _take_rows(layers: Iterable[Any] | None) -> bool:
    """Tell whether all of `layers`, and at least one, compute with rows that are quantized dynamically."""
    return bool(layers) and all(_takes_rows(layer) for layer in layers or ())


def _takes_rows(layer: Any) -> bool:
    scheme = _scheme(layer)
    return scheme is W8A8Dynamic or (scheme is W8A8Mix and not only_decodes())


def _static(layer: Any) -> bool:
    """Tell whether `layer` computes with one scale of its inputs."""
    scheme = _scheme(layer)
    return scheme is W8A8 or (scheme is W8A8Mix and only_decodes())


def _scheme(layer: Any) -> type | None:
    method, forward = getattr(layer, "quant_method", None), type(layer).forward
    if not isinstance(method, AscendLinearMethod) or hasattr(forward, "__wrapped__"):
        return None
    # A layer of somebody else may do more with what it is given.
    return type(method.scheme) if forward.__module__.startswith("vllm.model_executor.") else None


def _way(modules: Iterable[nn.Module]) -> Way:
    return tuple((module, type(module).forward) for module in modules)


def _unchanged(way: Way) -> bool:
    """Tell whether each is still called by the same function."""
    return all(type(module).forward is forward and "forward" not in module.__dict__ for module, forward in way)


def _unseen(way: Way) -> bool:
    """Tell whether nobody but these functions gets what goes this way."""
    if hooked._global_forward_hooks or hooked._global_forward_pre_hooks:
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module, _ in way):
        return False
    return _unchanged(way)


def _is_any(module: Any, names: Iterable[str]) -> bool:
    """Tell whether the forward of `module` is that of one of the classes, not wrapped and not overridden."""
    forward = getattr(type(module), "forward", None)
    if not inspect.isfunction(forward) or hasattr(forward, "__wrapped__"):
        return False
    return f"{forward.__module__}:{forward.__qualname__}" in {f"{_MODELS}{name}.forward" for name in names}


class QuantizingNorm(RMSNorm):  # type: ignore[misc, unused-ignore]
    """Returns, with a residual, what quantized linear layers take; without one, or where somebody looks on, floats.

    Attributes:
        maker: who calls it.
        way: from here to those layers.
    """

    maker: Way
    way: Way

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """Return the norm of `x`, or with `residual` that of the sum as QuantizedRows, and the sum.

        Args:
            x: (..., hidden); float16 or bfloat16.
            residual: shape and dtype of `x`.
        """
        if residual is None or x.dim() < 2 or not x.dtype == residual.dtype == self.weight.dtype:
            return super().forward(x, residual)
        if not (_unchanged(self.maker) and _unseen(self.way)):
            return super().forward(x, residual)
        return self._quantized(x, residual)

    def _quantized(self, x: Tensor, residual: Tensor) -> tuple[QuantizedRows, Tensor]:
        numbers, _, total, scales, _ = torch.ops.npu.npu_add_rms_norm_dynamic_quant.default(
            x, residual, self.weight.data, epsilon=self.variance_epsilon, output_mask=[True, False]
        )
        return QuantizedRows(numbers, scales, x.dtype), total


class StaticNorm(QuantizingNorm):
    """Does so with the scale of the one layer that reads it.

    Attributes:
        reader: that layer, which is a part of another module.
    """

    reader: tuple[Any]

    def _quantized(self, x: Tensor, residual: Tensor) -> tuple[QuantizedRows, Tensor]:
        (reader,) = self.reader
        numbers, _, total = torch.ops.npu.npu_add_rms_norm_quant.default(
            x, residual, self.weight.data, reader.norm_scale, reader.norm_offset, epsilon=self.variance_epsilon
        )
        return QuantizedRows(numbers, None, x.dtype), total


class QuantizingSwiglu:
    """Goes before a class of activations. Returns what a quantized linear layer takes; where somebody looks on, floats.

    Attributes:
        maker: who calls it.
        way: from here to that layer.
    """

    maker: Way
    way: Way

    def forward(self, x: Tensor) -> Any:
        """Return ``silu(a) * b`` of the halves of each row as QuantizedRows.

        Args:
            x: (..., 2 d); bfloat16.
        """
        if not (_unchanged(self.maker) and _unseen(self.way)):
            return super().forward(x)  # type: ignore[misc]
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        numbers, scales = torch.ops.npu.npu_dequant_swiglu_quant.default(rows, activate_left=True, quant_mode=1)
        return QuantizedRows(numbers.view(*x.shape[:-1], -1), scales.view(x.shape[:-1]), x.dtype)


_classes: dict[type, type] = {}


def _quantizing(activation: type) -> type:
    if activation not in _classes:
        _classes[activation] = type(f"Quantizing{activation.__name__}", (QuantizingSwiglu, activation), {})
    return _classes[activation]
