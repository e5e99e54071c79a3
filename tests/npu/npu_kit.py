"""What the tests of the operators share: random tensors, and the exact comparison with a result in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

torch = pytest.importorskip("torch")

from ascend_overlay import npu  # noqa: E402

npu.load()

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
OPERATORS = torch.ops.npu

# The first call of an operator takes longer than hypothesis allows.
settings.register_profile("operators", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("operators")


def tensor(seed: int, *shape: int, dtype: Any = torch.float32, scale: float = 1.0) -> Any:
    """Return random numbers of about the size `scale`."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale).to(dtype)


def assert_rounded_once(got: Any, exact: Any, size: Any = None) -> None:
    """See that `got` is `exact`, computed in float64, rounded to the dtype of `got` and no worse.

    Beside half a unit in the last place, float32 arithmetic on terms of the magnitude `size` (default: of the result)
    may be off by a few of its own units. NaN is right where `exact` is NaN, and nowhere else.
    """
    assert exact.dtype == torch.float64
    assert got.shape == exact.shape
    half_unit = torch.finfo(got.dtype).eps / 2 if got.dtype != torch.float32 else 0.0
    magnitude = exact.abs() if size is None else size
    allowed = half_unit * exact.abs() + 4e-6 * magnitude + torch.finfo(got.dtype).smallest_normal
    same = (got == exact) | (got.isnan() & exact.isnan())
    off = ~((got.double() - exact).abs() <= allowed) & ~same
    assert not off.any(), f"{int(off.sum())} of {off.numel()} elements off, such as {got[off][0]} for {exact[off][0]}"


def assert_checked_by_torch(operator: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Run PyTorch's own checks of an operator: schema, fake kernel, autograd registration, tracing by AOTAutograd."""
    results = torch.library.opcheck(operator.default, arguments, keywords)  # type: ignore[attr-defined]
    assert set(results.values()) == {"SUCCESS"}


def assert_compiles(function: Callable[..., Any], *arguments: Any) -> None:
    """See that torch.compile takes `function` as one graph, and that the graph computes the same numbers."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(_listed(compiled(*arguments)), _listed(function(*arguments)), strict=True):
        assert torch.equal(got, wanted)
        assert got.stride() == wanted.stride()


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]
