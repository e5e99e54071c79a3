"""Operators on device "npu", beside the CPU."""

from __future__ import annotations

import json
import sys

import torch
import torch.nn.functional as F
from operators_table import EXPRESSIONS


def evaluated(expression: str, device: str) -> torch.Tensor:
    """Return the value of an expression on a device, computed from the same numbers."""
    torch.manual_seed(0)
    a, b, i = torch.randn(4, 8), torch.randn(8, 16), torch.tensor([0, 2])
    names = {"torch": torch, "F": F, "a": a.to(device), "b": b.to(device), "i": i.to(device), "d": device}
    value = eval(expression, names)
    assert isinstance(value, torch.Tensor)
    return value


def compared(expression: str) -> str | None:
    """Return what is wrong with the value on the NPU."""
    expected, got = evaluated(expression, "cpu"), evaluated(expression, "npu")
    if got.device.type != "npu":
        return f"the result is on {got.device}"
    if (got.dtype, got.shape, got.stride()) != (expected.dtype, expected.shape, expected.stride()):
        return (
            f"{got.dtype} {got.shape} {got.stride()} instead of {expected.dtype} {expected.shape} {expected.stride()}"
        )
    # Attention is another algorithm of PyTorch's on a device that is not the CPU.
    equal = torch.allclose(got.cpu(), expected, rtol=1e-5, atol=1e-6)
    return None if equal else f"{got.cpu()} instead of {expected}"


def main() -> None:
    """Compare all expressions, with gradients on and in inference mode."""
    found: dict[str, str | None] = {}
    for name, expression in EXPRESSIONS.items():
        try:
            found[name] = compared(expression)
            with torch.inference_mode():
                found[name] = found[name] or compared(expression)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:500]}"
    sys.stdout.write("\n" + json.dumps(found) + "\n")


main()
