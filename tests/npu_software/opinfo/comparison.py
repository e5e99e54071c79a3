"""Whether two results are the same: where they are, how they lie in memory, and every bit of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from .found import DEVICE, LAYOUT, ROUNDING, TYPE, VALUES

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def compared(expected: Any, got: Any, *, content: bool = True) -> Iterator[tuple[str, str]]:
    """Yield what is not the same in two nestings of results, as kind and detail.

    Args:
        expected: on the CPU.
        got: on the NPU.
        content: whether what is in the tensors is promised.
    """
    ours, theirs = tree_flatten(got), tree_flatten(expected)
    if str(ours[1]) != str(theirs[1]):
        yield TYPE, f"{ours[1]} instead of {theirs[1]}"
        return
    for one, other in zip(theirs[0], ours[0], strict=True):
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            yield from _tensors(one, other, content)
        elif type(one) is not type(other):
            yield TYPE, f"{type(other).__name__} instead of {type(one).__name__}"
        elif content and not isinstance(one, torch.device) and one != other and one == one:
            yield VALUES, f"{other!r} instead of {one!r}"


def _tensors(expected: torch.Tensor, got: torch.Tensor, content: bool) -> Iterator[tuple[str, str]]:
    if got.device.type != "npu":
        yield DEVICE, f"a result on {got.device}"
    if (wrong := _layout(got)) != (right := _layout(expected)):
        yield LAYOUT, f"{wrong} instead of {right}"
    elif content and expected.numel():
        yield from _values(expected, got)


def _layout(tensor: torch.Tensor) -> str:
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"{tensor.dtype} {tensor.layout}"
    bits = f"{' conj' * tensor.is_conj()}{' neg' * tensor.is_neg()}"
    # Where there is no second element, nobody takes the step to it.
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    strides = [step if size > 1 else "-" for size, step in steps] if tensor.numel() else []
    return f"{tensor.dtype} {list(tensor.shape)} {strides} from {tensor.storage_offset()}{bits}"


def _values(expected: torch.Tensor, got: torch.Tensor) -> Iterator[tuple[str, str]]:
    right, wrong = _numbers(expected), _numbers(got.cpu())
    unequal = _bits(right) != _bits(wrong)
    if right.is_floating_point():
        unequal &= ~(right.isnan() & wrong.isnan())
    if not unequal.any():
        return
    try:
        torch.testing.assert_close(wrong, right, equal_nan=True)
    except AssertionError as error:
        yield VALUES, " ".join(str(error).split())
    else:
        worst = (wrong[unequal] - right[unequal]).abs().max().item()
        yield ROUNDING, f"{int(unequal.sum())} of {unequal.numel()} elements, at most by {worst:.2g}"


def _numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return what is in a tensor of any kind, as real numbers or integers."""
    if tensor.is_nested:
        tensor = torch.cat([one.reshape(-1) for one in tensor.unbind()])
    plain = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    plain = plain.resolve_conj().resolve_neg()
    plain = torch.view_as_real(plain) if plain.is_complex() else plain
    return plain.int_repr() if plain.is_quantized else plain.contiguous()


def _bits(plain: torch.Tensor) -> torch.Tensor:
    return plain.view(_BITS[plain.element_size()])


def sharing(results: Any, arguments: Any) -> list[tuple[int, ...]]:
    """Return of each tensor among the results the numbers of the arguments whose memory it has."""
    owners = [_memory(one) for one in tree_flatten(arguments)[0]]
    return [
        tuple(number for number, owner in enumerate(owners) if owner and owner == _memory(one))
        for one in tree_flatten(results)[0]
        if isinstance(one, torch.Tensor)
    ]


def _memory(value: Any) -> int:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_nested or not value.numel():
        return 0
    return value.untyped_storage().data_ptr()
