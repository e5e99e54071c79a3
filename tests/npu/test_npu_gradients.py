"""Operators are called with weights that are parameters, also where nobody switched gradients off."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ascend_overlay import npu  # noqa: E402
from ascend_overlay.npu.case import OperatorCase  # noqa: E402
from ascend_overlay.npu.cases import cases  # noqa: E402
from ascend_overlay.npu.overloads import overload  # noqa: E402
from ascend_overlay.npu.reference import KERNELS  # noqa: E402

KERNEL = {kernel.name: kernel for kernel in KERNELS}


def _wanting_gradients(value: Any) -> Any:
    if isinstance(value, list):
        return [_wanting_gradients(part) for part in value]
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return value


@pytest.mark.parametrize("name", sorted(KERNEL))
def test_parameters_are_taken(name: str) -> None:
    npu.load(name)
    operator = overload(name)
    written = set(KERNEL[name].undeclared_writes)
    written |= {argument.name for argument in operator._schema.arguments if argument.is_write}
    names = [argument.name for argument in operator._schema.arguments]
    calls: list[OperatorCase] = [case for case in cases() if case.operator == name]
    assert calls
    for call in calls:
        args, options = call.arguments()
        given = dict(zip(names, args, strict=False)) | options
        given = {key: value if key in written else _wanting_gradients(value) for key, value in given.items()}
        results = operator(**given)
        first = results[0] if isinstance(results, (list, tuple)) else results
        assert first is None or isinstance(first, torch.Tensor), call.label


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [[3, 61], [64, 0]])
def test_many_rows_that_want_gradients_are_multiplied(dtype: Any, rows: list[int]) -> None:
    npu.load("npu_grouped_matmul")
    x = torch.randn(sum(rows), 256, dtype=dtype, requires_grad=True)
    weight = torch.randn(2, 256, 512, dtype=dtype, requires_grad=True)
    ends = torch.tensor(rows).cumsum(0)
    (out,) = torch.ops.npu.npu_grouped_matmul(
        [x], [weight], group_list=ends, split_item=3, group_type=0, group_list_type=0
    )
    expected = torch.cat([part @ of for part, of in zip(x.float().split(rows), weight.float(), strict=True)])
    torch.testing.assert_close(out.float(), expected, rtol=1e-2, atol=1e-1)
