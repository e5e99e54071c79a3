"""Quantized layers inside vLLM, beside their formulas computed from the checkpoint in integers and float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from quantized_experts import of_4_bits, routed
from torch import Tensor

Tensors = dict[str, Tensor]


def static(x: Tensor, found: Tensors) -> Tensor:
    """W8A8: y = (x_q @ W + quant_bias) * deq_scale."""
    reciprocal = (1 / found["input_scale"]).to(x.dtype)
    x_q = (x.float() * reciprocal.float() + found["input_offset"].float()).round().clamp(-128, 127).long()
    total = x_q @ found["weight"].long().T + found["quant_bias"].long()
    scale = found["deq_scale"]
    if scale.dtype == torch.int64:
        # The matrix unit reads 19 bits of the float32 number.
        scale = (scale.to(torch.int32) & -8192).view(torch.float32)
    return total.double() * scale.double()


def dynamic(x: Tensor, found: Tensors) -> Tensor:
    """W8A8_DYNAMIC: y = (x_q @ W) * s_w * s_t + b, with s_t of each token."""
    step = x.float().abs().amax(-1, keepdim=True) / 127
    x_q = (x.float() / step).round().nan_to_num(0).long()
    total = (x_q @ found["weight"].long().T).double()
    y = total * found["weight_scale"].double().flatten() * step.double()
    return y + found["bias"].double() if "bias" in found else y


def weights_alone(x: Tensor, found: Tensors) -> Tensor:
    """W8A16: y = x @ (W * s_w) + b."""
    y = (x.double() @ found["weight"].double().T) * found["weight_scale"].double().flatten()
    return y + found["bias"].double() if "bias" in found else y


FORMULAS: dict[str, Callable[[Tensor, Tensors], Tensor]] = {
    "W8A8": static,
    "W8A8_DYNAMIC": dynamic,
    # No engine that only decodes.
    "W8A8_MIX": dynamic,
    "W8A16": weights_alone,
}


EXPERTS: dict[str, Callable[..., Tensor]] = {
    "W8A8_DYNAMIC": routed,
    "W4A8_DYNAMIC": functools.partial(routed, bits=4),
    "W4A16": of_4_bits,
}


class Watched:
    """The calls of the quantized layers of a model.

    Attributes:
        layers: by name of the linear layer: its type; how many calls and values there were; how many values are those
            of the formula, rounded once; the largest distance from the formula, in units of the last place, and for
            W8A16 less what sums in float32 may be wrong by.
        experts: the same, by name of the layer of experts.
    """

    def __init__(self, model: Any, checkpoint: Tensors) -> None:
        from ascend_overlay.overlays.quantization.experts_method import ExpertsMethod
        from ascend_overlay.overlays.quantization.linear import AscendLinearMethod

        self._packed = model.packed_modules_mapping
        self._checkpoint = checkpoint
        self.layers: dict[str, dict[str, Any]] = {}
        self.experts: dict[str, dict[str, Any]] = {}
        for name, layer in model.named_modules():
            method = getattr(layer, "quant_method", None)
            if checkpoint and isinstance(method, AscendLinearMethod):
                self.layers[name] = _record(method.scheme.type)
                layer.register_forward_hook(self._hook(name))
            elif checkpoint and isinstance(method, ExpertsMethod):
                name = name.removesuffix(".routed_experts")
                self.experts[name] = _record(method.scheme_type)
                # vLLM calls the method itself, not the layer.
                vars(method)["apply"] = self._applying(name, method.apply)

    def _hook(self, name: str) -> Callable[[Any, Any, Any], None]:
        parent, _, last = name.rpartition(".")
        projections = [self._tensors(f"{parent}.{part}.") for part in self._packed.get(last, [last])]
        record = self.layers[name]

        def compare(module: Any, args: Any, output: Any) -> None:
            y = output[0] if isinstance(output, tuple) else output
            exact = torch.cat([FORMULAS[record["type"]](args[0], found) for found in projections], -1)
            spare: Any = 0.0
            if record["type"] == "W8A16":
                # Sums in float32, whose error is as large as what is added up.
                sizes = [FORMULAS["W8A16"](args[0].abs(), _absolute(found)) for found in projections]
                spare = 2**-21 * torch.cat(sizes, -1)
            _note(record, y, exact, spare)

        return compare

    def _applying(self, name: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
        def apply(layer: Any, x: Any, topk_weights: Any, topk_ids: Any, *more: Any, **options: Any) -> Any:
            y = theirs(layer, x, topk_weights, topk_ids, *more, **options)
            formula = EXPERTS[self.experts[name]["type"]]
            exact = formula(x, topk_weights, topk_ids, lambda number: self._tensors(f"{name}.{number}."))
            _note(self.experts[name], y, exact)
            return y

        return apply

    def _tensors(self, prefix: str) -> Tensors:
        return {
            name.removeprefix(prefix): tensor for name, tensor in self._checkpoint.items() if name.startswith(prefix)
        }


def _record(type_: str) -> dict[str, Any]:
    return {"type": type_, "calls": 0, "values": 0, "equal": 0, "worst": 0.0}


def _note(record: dict[str, Any], y: Tensor, exact: Tensor, spare: Any = 0.0) -> None:
    """Count a result that should be `exact`, rounded once."""
    record["calls"] += 1
    record["values"] += y.numel()
    record["equal"] += int((y == exact.to(y.dtype)).sum())
    error = (y.double() - exact).abs() - spare
    record["worst"] = max(record["worst"], float((error / _unit(exact, y.dtype)).max()))


def _absolute(found: Tensors) -> Tensors:
    return {name: tensor.float().abs() for name, tensor in found.items()}


def _unit(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the distance between neighbours in `dtype` at the size of each value."""
    smallest = torch.finfo(dtype).smallest_normal
    return torch.finfo(dtype).eps * 2.0 ** torch.floor(torch.log2(values.abs().clamp(min=smallest)))


def sizes(model: Any) -> dict[str, int]:
    """Return how many int8 weights the quantized modules hold, and the bytes of all tensors that these modules hold.

    Besides parameters and buffers, whatever a module has for an attribute counts, so that no copy is overlooked.
    """
    storages: dict[int, int] = {}
    weights: dict[int, int] = {}
    for module in model.modules():
        held = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
        tensors = [tensor for tensor in held if isinstance(tensor, Tensor)]
        if not any(tensor.dtype == torch.int8 for tensor in tensors):
            continue
        for tensor in tensors:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            if tensor.dtype == torch.int8:
                weights[tensor.untyped_storage().data_ptr()] = tensor.numel()
    return {"weights": sum(weights.values()), "bytes": sum(storages.values())}
