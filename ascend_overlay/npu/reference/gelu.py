"""GELU, its approximations, and GeGLU."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, float_tensor, once_for_alike, refuse

_APPROXIMATIONS = ("none", "tanh")


def npu_gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """Return ``x * P(x)``, with P the distribution function of the normal distribution.

    Args:
        input: 0 to 8 dimensions; float16, bfloat16 or float32.
        approximate: "none": ``P(x) = (1 + erf(x / sqrt(2))) / 2``; "tanh":
            ``P(x) = (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``.

    Returns:
        Shape and dtype of `input`.

    Raises:
        RuntimeError: a shape, dtype or approximation that the NPU does not take.
    """
    _check("npu_gelu", input)
    if approximate not in _APPROXIMATIONS:
        refuse("npu_gelu", f"approximate is {approximate!r}; it takes 'none' or 'tanh'.")
    return torch.nn.functional.gelu(input.float(), approximate=approximate).to(input.dtype, copy=True)


def npu_fast_gelu(input: Tensor) -> Tensor:
    """Return ``x * sigmoid(1.702 * x)``, which others call the quick GELU.

    Args:
        input: 0 to 8 dimensions; float16, bfloat16 or float32.

    Returns:
        Shape and dtype of `input`.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check("npu_fast_gelu", input)
    x = input.float()
    return (x * torch.sigmoid(1.702 * x)).to(input.dtype)


def npu_geglu(input: Tensor, dim: int = -1, approximate: int = 1, activate_left: bool = False) -> tuple[Tensor, Tensor]:
    """Return (a * gelu(b), gelu(b)), with a and b the first and the second half of `input` along `dim`.

    Args:
        input: 1 to 8 dimensions, an even number of elements along `dim`; float16, bfloat16 or float32.
        dim: the dimension that is halved.
        approximate: 0: by the error function; 1: by the hyperbolic tangent. See `npu_gelu`.
        activate_left: take the GELU of the first half instead: (gelu(a) * b, gelu(a)).

    Returns:
        The product and the GELU; dtype of `input`, its shape with half of `dim`.

    Raises:
        RuntimeError: a shape, dtype or approximation that the NPU does not take.
    """
    _check_geglu(input, dim, approximate)
    a, b = input.float().chunk(2, dim)
    activated, other = (a, b) if activate_left else (b, a)
    gelu = torch.nn.functional.gelu(activated, approximate=_APPROXIMATIONS[approximate]).contiguous()
    return (gelu * other).to(dtype=input.dtype).contiguous(), gelu.to(dtype=input.dtype)


@once_for_alike
def _check_geglu(input: Tensor, dim: int, approximate: int) -> None:
    dimensions("npu_geglu", "input", input, range(1, 9))
    float_tensor("npu_geglu", "input", input)
    if approximate not in (0, 1):
        refuse("npu_geglu", f"approximate is {approximate}; it takes 0 (error function) or 1 (hyperbolic tangent).")
    if not -input.dim() <= dim < input.dim():
        refuse("npu_geglu", f"dim is {dim}, but input has {input.dim()} dimensions.")
    if input.shape[dim] % 2:
        refuse("npu_geglu", f"dimension {dim} of input has {input.shape[dim]} elements; it takes an even number.")


@once_for_alike
def _check(operator: str, input: Tensor) -> None:
    dimensions(operator, "input", input, range(9))
    float_tensor(operator, "input", input)


def _fake_gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    return torch.empty_like(input)


def _fake_fast_gelu(input: Tensor) -> Tensor:
    return torch.empty_like(input)


def _fake_geglu(
    input: Tensor, dim: int = -1, approximate: int = 1, activate_left: bool = False
) -> tuple[Tensor, Tensor]:
    shape = list(input.shape)
    shape[dim] = shape[dim] // 2
    return input.new_empty(shape), input.new_empty(shape)


KERNELS = (
    ReferenceKernel(
        schema='npu_gelu(Tensor input, *, str approximate="none") -> Tensor',
        cpu=npu_gelu,
        fake=_fake_gelu,
        source="torch_npu 2.13 (schema, meta kernel), CANN aclnnGeluV2 (formulas)",
    ),
    ReferenceKernel(
        schema="npu_fast_gelu(Tensor input) -> Tensor",
        cpu=npu_fast_gelu,
        fake=_fake_fast_gelu,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel: formula 2, of Atlas A2 and A3)",
    ),
    ReferenceKernel(
        schema=("npu_geglu(Tensor input, int dim=-1, int approximate=1, bool activate_left=False) -> (Tensor, Tensor)"),
        cpu=npu_geglu,
        fake=_fake_geglu,
        source="torch_npu 2.13 (schema, meta kernel), CANN aclnnGeGluV3 (which half is activated)",
    ),
)
