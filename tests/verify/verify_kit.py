"""What the tests of verify share: an operator that writes to its argument, and cases that are right."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from rich.console import Console  # noqa: E402

from ascend_overlay import npu  # noqa: E402
from ascend_overlay.npu.case import LayerCase, OperatorCase  # noqa: E402

npu.load()

_LIBRARY = torch.library.Library("npu", "FRAGMENT")
_LIBRARY.define("test_writer(Tensor x, Tensor(a!) total, *, Tensor[] more) -> Tensor")


def _write(x: Any, total: Any, *, more: Any) -> Any:
    total.add_(x)
    return x * 2


_LIBRARY.impl("test_writer", _write, "CPU")


def swiglu(x: Any, dim: int = -1) -> Any:
    """The formula of npu_swiglu."""
    a, b = x.double().chunk(2, dim)
    return torch.nn.functional.silu(a) * b


def operator(**changes: Any) -> OperatorCase:
    """Return a case of npu_swiglu that passes, with `changes`."""
    case = OperatorCase(
        operator="npu_swiglu",
        label="3 tokens",
        dtype="float32",
        arguments=lambda: ((torch.linspace(-2, 2, 24).reshape(3, 8),), {}),
        baseline=swiglu,
        against="formula",
        rtol=4e-6,
        atol=1e-6,
    )
    return replace(case, **changes)


def writer(**changes: Any) -> OperatorCase:
    """Return a case of an operator that writes to its argument."""
    case = OperatorCase(
        operator="test_writer",
        label="writes",
        dtype="float32",
        arguments=lambda: ((torch.ones(2), torch.full((2,), 5.0)), {"more": [torch.zeros(1)]}),
        baseline=lambda x, total, more: (x * 2, total + x),
        against="formula",
        rtol=0.0,
        atol=0.0,
    )
    return replace(case, **changes)


def layer(**changes: Any) -> LayerCase:
    """Return a case of the layer that `lib.py` of the tests stands for, under the overlay "gate"."""

    def run() -> Any:
        import lib

        # Not by linspace: transformers replaces that while it loads a model, and if torch.device() is entered then for
        # the first time in the process, PyTorch never again makes what the genuine one returns at a default device.
        return lib.gate(torch.arange(-12, 12).reshape(3, 8) / 6)

    case = LayerCase(
        layer="lib:gate",
        label="3 tokens",
        dtype="float32",
        overlay="gate",
        run=run,
        operators=("npu_swiglu",),
        rtol=4e-6,
        atol=1e-6,
    )
    return replace(case, **changes)


def console() -> Console:
    """Return a console that keeps what is printed."""
    return Console(file=io.StringIO(), width=120, color_system=None, highlight=False)


def printed(to: Console) -> str:
    """Return what was printed on a console of `console()`."""
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()
