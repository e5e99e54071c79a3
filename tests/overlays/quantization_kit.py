"""Quantized checkpoints by the formulas of ModelSlim's format, and what they are to compute, in whole numbers.

Written without the package: neither its quantizer nor its schemes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

torch = pytest.importorskip("torch")

SCHEMES = ("W8A8", "W8A8_DYNAMIC", "W8A8_MIX", "W8A16")


@dataclass
class Checkpoint:
    """The tensors of a checkpoint, and their types; `decodes`: it is computed where W8A8_MIX is static."""

    dtype: Any
    tensors: dict[str, Any] = field(default_factory=dict)
    types: dict[str, Any] = field(default_factory=dict)
    decodes: bool = False

    def put(self, name: str, type_: str, tensors: dict[str, Any]) -> None:
        """Add the tensors of a module."""
        for last, tensor in tensors.items():
            self.tensors[f"{name}.{last}"] = tensor
            self.types[f"{name}.{last}"] = type_

    def add(self, name: str, type_: str, weight: Any, bias: Any = None, asymmetric: bool = False) -> None:
        """Quantize a module: weight (out, in) and bias (out,) in float32."""
        if type_ == "FLOAT":
            floats = {"weight": weight.to(self.dtype)} | ({} if bias is None else {"bias": bias.to(self.dtype)})
            self.put(name, type_, floats)
            return
        scale = (weight.abs().amax(1, keepdim=True) / 127).to(self.dtype).float()
        offset = torch.zeros_like(scale)
        if asymmetric:
            offset = (torch.arange(len(scale)) % 5 - 2.0)[:, None]
        whole = (weight / scale - offset).round().clamp(-128, 127).to(torch.int8)
        tensors = {
            "weight": whole,
            "weight_scale": scale.to(self.dtype),
            "weight_offset": offset.to(self.dtype),
        }
        if bias is not None:
            tensors["bias"] = bias.to(self.dtype)
        if type_ in ("W8A8", "W8A8_MIX"):
            # The step of the inputs has an exact reciprocal, and covers -3 .. 5 or so.
            step, zero = 2**-5, -32
            deq_scale = step * scale.flatten()
            folded = torch.zeros(len(scale)) if bias is None else bias.to(self.dtype).float() / deq_scale
            folded = folded.round().long() - zero * whole.long().sum(1)
            tensors |= {
                "input_scale": torch.tensor([step], dtype=self.dtype),
                "input_offset": torch.tensor([zero], dtype=torch.int8),
                "deq_scale": deq_scale if self.dtype == torch.bfloat16 else deq_scale.view(torch.int32).to(torch.int64),
                "quant_bias": folded.to(torch.int32),
            }
        self.put(name, type_, tensors)

    def expected(self, name: str, x: Any) -> tuple[Any, Any]:
        """Return the outputs of a module for `x` (tokens, in), in float64, and the size of what makes them up."""
        take = {last: self.tensors.get(f"{name}.{last}") for last in _LAST}
        type_ = self.types[f"{name}.weight"]
        bias = 0.0 if take["bias"] is None else take["bias"].double()
        if type_ == "FLOAT":
            weight = take["weight"].double()
            return x.double() @ weight.t() + bias, x.double().abs() @ weight.abs().t()
        scale = take["weight_scale"].double().flatten()
        if type_ == "W8A16":
            weight = (take["weight"].double() + take["weight_offset"].double()) * scale[:, None]
            return x.double() @ weight.t() + bias, x.double().abs() @ weight.abs().t()
        if type_ == "W8A8_DYNAMIC" or (type_ == "W8A8_MIX" and not self.decodes):
            step = x.float().abs().amax(1, keepdim=True) / 127
            whole = (x.float() / step).round().clamp(-128, 127).long()
            product = (whole @ take["weight"].long().t()).double() * scale * step.double()
            return product + bias, product.abs()
        step = take["input_scale"].double()
        whole = (x.double() / step + take["input_offset"].double()).round().clamp(-128, 127).long()
        deq_scale = take["deq_scale"]
        if deq_scale.dtype == torch.int64:
            # The matrix unit reads 19 bits of it.
            deq_scale = (deq_scale.to(torch.int32) & ~0x1FFF).view(torch.float32)
        total = whole @ take["weight"].long().t() + take["quant_bias"].long()
        product = total.double() * deq_scale.double()
        return product, product.abs()


_LAST = (
    "weight",
    "weight_scale",
    "weight_offset",
    "bias",
    "input_scale",
    "input_offset",
    "deq_scale",
    "quant_bias",
)


def config(checkpoint: Checkpoint, packed: dict[str, list[str]] | None = None) -> Any:
    """Return the quantization config of a checkpoint."""
    from ascend_overlay.overlays.quantization.config import AscendQuantizationConfig
    from ascend_overlay.quantization.description import parse

    made = AscendQuantizationConfig(parse(dict(checkpoint.types), "quant_model_description.json"))
    made.packed_modules_mapping = packed or {}
    return made


def load(layer: Any, checkpoint: Checkpoint, modules: Sequence[str], shards: Sequence[Any] = (None,)) -> Any:
    """Load the modules of a checkpoint into a layer, as vLLM's models do, and process it."""
    for module, shard in zip(modules, shards, strict=True):
        for last in _LAST:
            tensor = checkpoint.tensors.get(f"{module}.{last}")
            parameter = getattr(layer, last, None)
            if tensor is not None and parameter is not None:
                parameter.weight_loader(parameter, tensor, *([] if shard is None else [shard]))
    layer.quant_method.process_weights_after_loading(layer)
    return layer


@contextlib.contextmanager
def rank(monkeypatch: pytest.MonkeyPatch, number: int, size: int) -> Iterator[None]:
    """Be one rank of `size`, as far as building and loading layers goes; what ranks add up stays apart."""
    from vllm.model_executor import parameter
    from vllm.model_executor.layers import linear

    def same(tensor: Any) -> Any:
        return tensor

    with monkeypatch.context() as patch:
        for module in (linear, parameter):
            patch.setattr(module, "get_tensor_model_parallel_rank", _returning(number))
            patch.setattr(module, "get_tensor_model_parallel_world_size", _returning(size))
        patch.setattr(linear, "tensor_model_parallel_all_reduce", same)
        yield


def _returning(value: int) -> Callable[[], int]:
    return lambda: value
