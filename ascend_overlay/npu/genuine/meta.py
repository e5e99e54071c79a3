"""Asking torch_npu's meta kernels: which shapes and dtypes an operator returns for given arguments.

Run as a module in a process of its own (process.py), where the genuine torch_npu is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ascend_overlay.npu.genuine import process
from ascend_overlay.npu.genuine.source import TorchNpu
from ascend_overlay.npu.overloads import overload


@dataclass(frozen=True)
class Shape:
    """What is known of a tensor without its numbers.

    Attributes:
        shape: its dimensions.
        dtype: its dtype, without the "torch.".
        stride: its strides.
    """

    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Call:
    """A call of an operator, with a Shape for each tensor among its arguments."""

    operator: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What torch_npu says to a call.

    Attributes:
        results: a Shape for each tensor that the meta kernel returns, None for one that is not there; None as a whole
            where there is no answer.
        refusal: why the schema or the meta kernel refuses the call.
        no_meta: the operator has no meta kernel.
    """

    results: tuple[Shape | None, ...] | None = None
    refusal: str = ""
    no_meta: bool = False


@dataclass(frozen=True)
class Statement:
    """What a torch_npu says.

    Attributes:
        version: as it calls itself.
        schemas: operator -> its schema without the namespace, as torch prints it; None where there is none.
        meta: those of the operators that have a meta kernel.
        answers: one for each call, in their order.
    """

    version: str
    schemas: dict[str, str | None] = field(default_factory=dict)
    meta: frozenset[str] = frozenset()
    answers: tuple[Answer, ...] = ()


def ask(torch_npu: TorchNpu, operators: Sequence[str], calls: Sequence[Call]) -> Statement:
    """Return the schemas of `operators` and the answers of the meta kernels to `calls`.

    Raises:
        ConfigError: torch_npu cannot be imported here.
    """
    statement: Statement = process.ask(torch_npu, __name__, (list(operators), list(calls)))
    return statement


def described(value: Any) -> Any:
    """Return an argument with a Shape for each tensor in it."""
    import torch

    if isinstance(value, torch.Tensor):
        return Shape(tuple(value.shape), str(value.dtype).removeprefix("torch."), tuple(value.stride()))
    if isinstance(value, (list, tuple)):
        return type(value)(described(item) for item in value)
    return value


def made(value: Any) -> Any:
    """Return an argument with a tensor on the meta device for each Shape in it."""
    import torch

    if isinstance(value, Shape):
        dtype = getattr(torch, value.dtype)
        return torch.empty_strided(value.shape, value.stride, dtype=dtype, device="meta")
    if isinstance(value, (list, tuple)):
        return type(value)(made(item) for item in value)
    return value


def _answer(request: tuple[list[str], list[Call]]) -> Statement:
    import torch
    import torch_npu

    operators, calls = request
    schemas: dict[str, str | None] = {}
    for name in operators:
        operator = _overload(name)
        schemas[name] = None if operator is None else str(operator._schema).removeprefix("npu::")
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    meta = frozenset(name for name, schema in schemas.items() if schema and has_kernel(f"npu::{name}", "Meta"))
    return Statement(torch_npu.__version__, schemas, meta, tuple(_called(call) for call in calls))


def _overload(name: str) -> Any:
    try:
        return overload(name)
    except AttributeError:
        return None


def _called(call: Call) -> Answer:
    operator = _overload(call.operator)
    if operator is None:
        return Answer(refusal="it has no such operator")
    try:
        result = operator(*map(made, call.arguments), **{key: made(value) for key, value in call.keywords.items()})
    except NotImplementedError:
        return Answer(no_meta=True)
    except Exception as error:
        return Answer(refusal=" ".join(str(error).split())[:400] or type(error).__name__)
    # An operator that only writes to its arguments returns nothing.
    return Answer(results=() if result is None else tuple(described(tensor) for tensor in flat(result)))


def flat(result: Any) -> list[Any]:
    """Return the tensors of a result, those in lists and tuples included, in their order."""
    if isinstance(result, (list, tuple)):
        return [tensor for item in result for tensor in flat(item)]
    return [result]


if __name__ == "__main__":
    # Pickle must find the classes by the name under which the other process knows them.
    from ascend_overlay.npu.genuine import meta

    process.answer_with(meta._answer)
