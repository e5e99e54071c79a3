"""Comparing what came out with what should have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Numbers:
    """How far results are from what they are compared with.

    Attributes:
        elements: how many numbers were compared.
        largest: the largest difference.
        mean: the mean difference.
        used: the largest share of its tolerance that a number uses; above 1 it is off.
        problem: what is wrong, as a phrase; empty where nothing is.
    """

    elements: int
    largest: float
    mean: float
    used: float
    problem: str = ""


def compare(
    got: Sequence[Any], wanted: Sequence[Any], *, rtol: float, atol: float, units: float | None = None
) -> Numbers:
    """Compare tensors, one by one, by ``|got - wanted| <= atol + rtol * |wanted|``.

    A NaN agrees with a NaN only, and an infinity with itself. None among `got` stands for an optional result that is
    not there; None among `wanted` for one whose numbers are not specified. A tolerance that zeros would pass, where the
    target is not zero, is a problem: such a comparison cannot fail.

    Args:
        got: tensors of any dtype.
        wanted: tensors of the same shapes, in any precision.
        rtol: allowed difference, relative to `wanted`.
        atol: allowed difference beside that.
        units: all that is allowed where `got` is of an integer dtype; None: `atol`.
    """
    if len(got) != len(wanted):
        return _wrong(f"{len(got)} results, not {len(wanted)}")
    elements, total = 0, 0.0
    largest = used = 0.0
    problem = ""
    for place, (result, target) in enumerate(zip(got, wanted, strict=True)):
        which = f"result {place + 1}: " if len(got) > 1 else ""
        if target is None:
            continue
        if result is None:
            return _wrong(f"{which}nothing, not a tensor")
        for value in (result, target):
            if not isinstance(value, Tensor):
                return _wrong(f"{which}{type(value).__name__} is not a tensor")
        if result.shape != target.shape:
            return _wrong(f"{which}shape {tuple(result.shape)}, not {tuple(target.shape)}")
        if not result.numel():
            continue
        if result.is_floating_point():
            difference, allowed = _difference(result, target, rtol, atol)
        else:
            difference, allowed = _difference(result, target, 0.0, atol if units is None else units)
        if not problem and bool(target.any()) and bool((target.double().abs() <= allowed).all()):
            problem = f"{which}zeros would pass, too: the tolerance is too wide for numbers of this size"
        elements += difference.numel()
        total += float(difference.sum())
        largest = max(largest, float(difference.max()))
        share = torch.where(difference == 0, 0.0, difference / allowed)
        used = max(used, float(share.max()))
        if not problem and used > 1:
            problem = which + _worst(result, target, share)
    return Numbers(elements, largest, total / elements if elements else 0.0, used, problem)


def same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors have the same shape, dtype and numbers, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    equal = one == other
    return bool((equal | ((one != one) & (other != other))).all())


def _difference(result: Tensor, target: Tensor, rtol: float, atol: float) -> tuple[Tensor, Tensor]:
    """Return the differences, and what is allowed of each; a mismatch of NaN or infinity is infinitely far."""
    if result.is_floating_point() or target.is_floating_point():
        a, b = result.detach().double(), target.detach().double()
    else:
        # float64 does not tell large integers apart.
        a, b = result.long(), target.long()
    difference = (a - b).abs().double()
    if not (bool(torch.isfinite(a).all()) and bool(torch.isfinite(b).all())):
        agree = (a == b) | (torch.isnan(a) & torch.isnan(b))
        difference = torch.where(agree, 0.0, torch.where(torch.isfinite(a) & torch.isfinite(b), difference, math.inf))
    size = torch.where(torch.isfinite(b), b.abs().double(), 0.0)
    return difference, atol + rtol * size


def _worst(result: Tensor, target: Tensor, share: Tensor) -> str:
    index = int(share.argmax())
    place = [int(part) for part in torch.unravel_index(torch.tensor(index), share.shape)]
    off = int((share > 1).sum())
    value, wanted = result.flatten()[index].item(), target.flatten()[index].item()
    return f"{off} of {share.numel()} numbers off, most at {place}: {value:.7g}, not {wanted:.7g}"


def _wrong(problem: str) -> Numbers:
    return Numbers(0, math.inf, math.inf, math.inf, problem)
