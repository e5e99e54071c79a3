"""Calling operators: the reference kernel on the CPU, and on a machine with an NPU the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ascend_overlay.commands.verify.numbers import compare, same
from ascend_overlay.commands.verify.outcome import Outcome
from ascend_overlay.npu import registration
from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.genuine import meta
from ascend_overlay.npu.genuine.meta import Call, Shape, flat
from ascend_overlay.npu.overloads import overload

SLACK = 2.0
"""How many tolerances the NPU may be off the reference kernel: each of the two may be off the formula by one."""


@dataclass(frozen=True)
class Device:
    """Where a real kernel runs.

    Attributes:
        name: as torch calls it: "npu".
        move: brings a tensor there.
        call: calls the operator of that name with arguments that are there.
    """

    name: str
    move: Callable[[Tensor], Tensor]
    call: Callable[..., Any]


@dataclass
class Run:
    """A case after its run on the CPU.

    Attributes:
        case: the case.
        outcome: what came of it.
        call: the call, with the shapes of its tensors.
        returned: what the reference kernel returned, with the shapes of its tensors; None where it raised.
        written: results, then written arguments.
    """

    case: OperatorCase
    outcome: Outcome
    call: Call
    returned: tuple[Shape | None, ...] | None = None
    written: tuple[Any, ...] = ()


def npu_device() -> Device | None:
    """Return the NPU of this machine, or None where there is none."""
    npu: Any = getattr(torch, "npu", None)
    if npu is None or not npu.is_available():
        return None
    return Device("npu", lambda tensor: tensor.to("npu"), _call)


def run(case: OperatorCase) -> Run:
    """Call the operator with the reference kernel, and compare with the baseline."""
    outcome = Outcome("operator", case.operator, case.label, case.dtype, case.against)
    outcome.rtol, outcome.atol, outcome.units = case.rtol, case.atol, case.units
    positional, named = case.arguments()
    done = Run(case, outcome, _described(case.operator, positional, named))
    try:
        returned = _call(case.operator, *positional, **named)
    except Exception as error:
        outcome.problems.append(f"the reference kernel raises {_shown(error)}")
        return done
    done.returned = tuple(meta.described(tensor) for tensor in flat(returned))
    done.written = (*flat(returned), *_written(case.operator, positional, named))
    outcome.problems.extend(_touched(case, (positional, named)))
    outcome.problems.extend(_faked(done.call, done.returned))
    try:
        fresh, keywords = case.arguments()
        wanted = flat(case.baseline(*fresh, **keywords))
    except Exception as error:
        outcome.problems.append(f"the baseline raises {_shown(error)}")
        return done
    _compare(done.written, wanted, outcome)
    return done


def run_on(device: Device, done: Run) -> Outcome:
    """Call the real kernel of a case that has been run, and compare with the reference kernel."""
    case = done.case
    # What lies between two integers is rounded to one or the other, whoever does it.
    units = case.atol if case.units is None else case.units
    outcome = Outcome("NPU", case.operator, case.label, case.dtype, "reference kernel")
    outcome.rtol, outcome.atol, outcome.units = SLACK * case.rtol, SLACK * case.atol, units
    if done.returned is None:
        outcome.skipped = "the reference kernel raised"
        return outcome
    positional, named = case.arguments()
    try:
        moved = [_moved(value, device) for value in positional]
        keywords = {name: _moved(value, device) for name, value in named.items()}
        returned = device.call(case.operator, *moved, **keywords)
        got = (*flat(returned), *_written(case.operator, tuple(moved), keywords))
        here = [None if tensor is None else tensor.cpu() for tensor in got]
    except Exception as error:
        outcome.problems.append(f"the kernel of the NPU raises {_shown(error)}")
        return outcome
    for one, other in zip(here, done.written, strict=False):
        if isinstance(one, Tensor) and isinstance(other, Tensor) and one.dtype != other.dtype:
            outcome.problems.append(f"the NPU returns {one.dtype}, the reference kernel {other.dtype}")
    _compare(here, done.written, outcome)
    return outcome


def _compare(got: Sequence[Any], wanted: Sequence[Any], outcome: Outcome) -> None:
    numbers = compare(got, wanted, rtol=outcome.rtol, atol=outcome.atol, units=outcome.units)
    outcome.numbers = numbers
    if numbers.problem:
        outcome.problems.append(numbers.problem)


def _call(operator: str, *positional: Any, **named: Any) -> Any:
    returned = overload(operator)(*positional, **named)
    return () if returned is None else returned


def _described(operator: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Call:
    return Call(
        operator,
        tuple(meta.described(value) for value in positional),
        {name: meta.described(value) for name, value in named.items()},
    )


def _bound(operator: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Iterator[tuple[str, bool, Any]]:
    """Yield each passed argument: its name, whether the operator writes to it, and its value."""
    kernel = registration.kernels().get(operator)
    undeclared = () if kernel is None else kernel.undeclared_writes
    for place, argument in enumerate(overload(operator)._schema.arguments):
        declared = argument.alias_info is not None and argument.alias_info.is_write
        written = declared or argument.name in undeclared
        if place < len(positional):
            yield argument.name, written, positional[place]
        elif argument.name in named:
            yield argument.name, written, named[argument.name]


def _written(operator: str, positional: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    return [
        tensor
        for _, written, value in _bound(operator, positional, named)
        if written
        for tensor in flat(value)
        if tensor is not None
    ]


def _faked(call: Call, returned: Sequence[Shape | None]) -> Iterator[str]:
    """Yield a phrase if the fake kernel announces something else than the reference kernel returned."""
    kernel = registration.kernels().get(call.operator)
    if kernel is None:
        return
    try:
        announced = kernel.fake(*map(meta.made, call.arguments), **{k: meta.made(v) for k, v in call.keywords.items()})
    except Exception as error:
        yield f"the fake kernel raises {_shown(error)}"
        return
    found = () if announced is None else tuple(meta.described(tensor) for tensor in flat(announced))
    if list(map(str, found)) != list(map(str, returned)):
        theirs, ours = (", ".join(map(str, shapes)) for shapes in (found, returned))
        yield f"the fake kernel announces {theirs}, and the reference kernel returns {ours}"
    elif found != tuple(returned):
        theirs, ours = (", ".join(str(shape and shape.stride) for shape in shapes) for shapes in (found, returned))
        yield f"the fake kernel announces the strides {theirs}, and the reference kernel returns {ours}"


def _touched(case: OperatorCase, used: Arguments) -> Iterator[str]:
    """Yield a phrase for each argument that was written to although nothing says so."""
    pristine = {name: value for name, _, value in _bound(case.operator, *case.arguments())}
    for name, written, value in _bound(case.operator, *used):
        if written:
            continue
        for before, after in zip(flat(pristine[name]), flat(value), strict=True):
            if isinstance(after, Tensor) and not same(before, after):
                yield f"the reference kernel writes to the argument {name!r}, or the case makes another at each call"
                break


def _moved(value: Any, device: Device) -> Any:
    if isinstance(value, Tensor):
        if value.is_contiguous() or not value.numel():
            return device.move(value)
        # With what lies between its elements, since a copy of the tensor alone may have other strides.
        span = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
        return device.move(value.as_strided((span,), (1,))).as_strided(value.shape, value.stride())
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, device) for item in value)
    return value


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
