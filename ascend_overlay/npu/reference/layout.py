"""Memory layouts."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import refuse

ND, FRACTAL_NZ = 2, 29
"""Layouts by the numbers of torch_npu's Format: row by row, and in tiles of 16 rows of 32 bytes."""

_TILED = (torch.int8, torch.float16, torch.bfloat16, torch.float32)


def npu_format_cast(
    input: Tensor, acl_format: int, *, customize_dtype: int | None = None, input_dtype: int | None = None
) -> Tensor:
    """Return `input` in another memory layout. The values, the shape and the strides that PyTorch sees stay.

    Without an NPU there is one layout, so this is a copy.

    Args:
        input: for FRACTAL_NZ at least 2 dimensions; int8, float16, bfloat16 or float32.
        acl_format: 2 for ND, 29 for FRACTAL_NZ.
        customize_dtype: dtype that the tiles are cut for; only None here.
        input_dtype: dtype that `input` carries in another one's guise; only None here.

    Returns:
        Shape and dtype of `input`; contiguous.

    Raises:
        RuntimeError: a layout, shape or dtype that has no tiles, or an argument that is not supported.
    """
    operator = "npu_format_cast"
    if acl_format not in (ND, FRACTAL_NZ):
        refuse(operator, f"acl_format is {acl_format}; it takes {ND} (ND) or {FRACTAL_NZ} (FRACTAL_NZ).")
    if customize_dtype is not None or input_dtype is not None:
        refuse(operator, "customize_dtype and input_dtype are not supported without an NPU; leave them out.")
    if acl_format == FRACTAL_NZ and input.dim() < 2:
        refuse(operator, f"the input has {input.dim()} dimensions; FRACTAL_NZ takes at least 2.")
    if acl_format == FRACTAL_NZ and input.dtype not in _TILED:
        refuse(operator, f"the input is {input.dtype}; FRACTAL_NZ takes int8, float16, bfloat16 or float32.")
    return input.clone(memory_format=torch.contiguous_format)


def _fake(
    input: Tensor, acl_format: int, *, customize_dtype: int | None = None, input_dtype: int | None = None
) -> Tensor:
    return input.new_empty(input.shape)


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_format_cast(Tensor input, int acl_format, *, int? customize_dtype=None, int? input_dtype=None) "
            "-> Tensor"
        ),
        cpu=npu_format_cast,
        fake=_fake,
        source="torch_npu 2.13 (schema, torch_npu.npu.Format), torch_npu's API reference of npu_format_cast",
    ),
)
