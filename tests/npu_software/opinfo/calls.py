"""The calls of an operator that are compared: as it is, in place, into given results, strided inputs, wrong inputs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.testing._internal.common_utils import noncontiguous_like
from torch.utils._pytree import tree_map

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.int64, torch.bool)
"""Those of an operator that are compared; another one of it where it has none of these."""

_SEEN = 60
"""Samples of a dtype that are chosen from: some operators have thousands."""

_Make = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Arguments:
    """What an operator is called with."""

    input: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call, to be made on copies of its arguments.

    Attributes:
        name: dtype, way of calling, number of the sample.
        function: takes the arguments, unpacked.
        arguments: on the CPU.
        out: makes what is given to be written to, of what the plain call returns; None where nothing is.
    """

    name: str
    function: Callable[..., Any]
    arguments: Arguments
    out: _Make | None = None


def seeded() -> None:
    """Let everything that draws numbers begin anew."""
    random.seed(0)
    torch.manual_seed(0)


def dtypes_of(op: Any) -> list[torch.dtype]:
    """Return the dtypes in which an operator is compared."""
    found = [dtype for dtype in DTYPES if dtype in op.dtypes]
    return found or sorted(op.dtypes, key=str)[:1]


def calls_of(op: Any, bound: int) -> Iterator[Call]:
    """Yield the calls of an operator.

    Args:
        op: an OpInfo.
        bound: samples of each dtype, spread over all there are; other ways of calling have the first of them.
    """
    for dtype in dtypes_of(op):
        name = str(dtype).removeprefix("torch.")
        samples = _spread(op, dtype, bound)
        for number, sample in samples:
            yield Call(f"{name}, sample {number}", op, sample)
        for number, sample in samples[:1]:
            yield from _ways(op, f"{name}, sample {number}", sample)
    yield from _wrong(op)


def _spread(op: Any, dtype: torch.dtype, bound: int) -> list[tuple[int, Arguments]]:
    seeded()
    found = list(itertools.islice(op.sample_inputs("cpu", dtype), _SEEN))
    step = max(1, -(-len(found) // bound))
    return [(number, Arguments(one.input, one.args, one.kwargs)) for number, one in enumerate(found)][::step]


def _ways(op: Any, name: str, sample: Arguments) -> Iterator[Call]:
    yield Call(f"{name}, strided", op, _strided(sample))
    for way, function in (("in place", op.get_inplace()), ("as a method", op.get_method())):
        if function is not None:
            yield Call(f"{name}, {way}", function, sample)
    if op.supports_out:
        for way, make in _OUT.items():
            yield Call(f"{name}, into {way}", op, sample, make)


def _wrong(op: Any) -> Iterator[Call]:
    if op.error_inputs_func is None:
        return
    seeded()
    for number, one in enumerate(op.error_inputs("cpu")):
        sample = one.sample_input
        yield Call(f"wrong input {number}", op, Arguments(sample.input, sample.args, sample.kwargs))


def _strided(sample: Arguments) -> Arguments:
    def strided(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_nested:
            return value
        return noncontiguous_like(value)

    return Arguments(*(tree_map(strided, part) for part in (sample.input, sample.args, sample.kwargs)))


_OUT: dict[str, _Make] = {
    "an empty result": lambda result: result.new_empty(0),
    "a given result": torch.zeros_like,
    "a result with strides": lambda result: result.new_zeros((*result.shape, 2))[..., 1],
    "a result that is too small": lambda result: result.new_zeros(1),
    "a result that is too large": lambda result: result.new_zeros((2, *result.shape)),
}
