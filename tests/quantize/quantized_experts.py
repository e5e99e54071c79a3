"""Quantized experts inside vLLM, beside their formula computed from the checkpoint in integers and float64."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def routed(x: Tensor, weights: Tensor, experts: Tensor, found: Callable[[int], Tensors], *, bits: int = 8) -> Tensor:
    """Return what a layer of experts gives, in float64, before the last rounding.

    What lies between is rounded to the dtype of the activations where the format has it: the two products of an expert,
    and what is quantized for the second.

    Args:
        x: (tokens, hidden).
        weights: (tokens, k), float32.
        experts: (tokens, k).
        found: number of an expert -> its tensors: "gate_proj.weight" and so on.
        bits: of the weights: 8, or 4, of two outputs in a byte.
    """
    total = torch.zeros(x.shape, dtype=torch.float64)
    for expert in experts.unique().tolist():
        tokens, places = (experts == expert).nonzero(as_tuple=True)
        tensors = found(expert)
        rows, step = _quantized(x[tokens])
        product = functools.partial(_product, tensors, x.dtype, bits)
        gate, up = (product(rows, step, name).double() for name in ("gate_proj", "up_proj"))
        activated = gate * torch.sigmoid(gate) * up
        # One operator activates and quantizes in bfloat16, without rounding in between.
        rows, step = _quantized(activated if x.dtype == torch.bfloat16 else activated.to(x.dtype))
        down = product(rows, step, "down_proj")
        total.index_add_(0, tokens, down.double() * weights[tokens, places].double().unsqueeze(-1))
    return total


def of_4_bits(x: Tensor, weights: Tensor, experts: Tensor, found: Callable[[int], Tensors]) -> Tensor:
    """Return the same of experts of the type W4A16."""
    total = torch.zeros(x.shape, dtype=torch.float64)
    for expert in experts.unique().tolist():
        tokens, places = (experts == expert).nonzero(as_tuple=True)
        tensors = found(expert)
        gate, up = (
            (x[tokens].double() @ _whole(tensors, name).T).to(x.dtype).double() for name in ("gate_proj", "up_proj")
        )
        activated = (gate * torch.sigmoid(gate) * up).to(x.dtype).double()
        down = (activated @ _whole(tensors, "down_proj").T).to(x.dtype)
        total.index_add_(0, tokens, down.double() * weights[tokens, places].double().unsqueeze(-1))
    return total


def _whole(tensors: Tensors, name: str) -> Tensor:
    packed, scale = tensors[f"{name}.weight_packed"].long(), tensors[f"{name}.weight_scale"].double()
    numbers = torch.stack([((packed >> (4 * place)) & 15) - 8 for place in range(8)], -1).flatten(1)
    return numbers * scale.repeat_interleave(numbers.shape[1] // scale.shape[1], 1)


def _quantized(x: Tensor) -> tuple[Tensor, Tensor]:
    step = x.float().abs().amax(-1, keepdim=True) / 127
    return (x.float() / step).round().nan_to_num(0).long(), step


def _product(tensors: Tensors, dtype: torch.dtype, bits: int, rows: Tensor, step: Tensor, name: str) -> Tensor:
    weight, scale = tensors[f"{name}.weight"].long(), tensors[f"{name}.weight_scale"]
    if bits == 4:
        weight = torch.stack((((weight & 15) ^ 8) - 8, weight >> 4), 1).flatten(0, 1)
    else:
        # The NPU takes a scale of bfloat16 where it writes that.
        scale = scale.to(dtype if dtype == torch.bfloat16 else torch.float32)
    total = rows @ weight.T
    return (total.double() * scale.double().flatten() * step.double()).to(dtype)
