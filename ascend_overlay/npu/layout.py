"""The memory layout of weights: which are put into FRACTAL_NZ after loading.

The NPU's cube unit multiplies tiles. A weight in FRACTAL_NZ is read tile by tile as it is; one in ND is cut up at every
call. The values are the same. What the setting `weight_nz` (ASCEND_OVERLAY_WEIGHT_NZ) says:

- "quantized", the default: int8 weights are cast.
- "all": float16 and bfloat16 weights of linear layers and experts are, too. A trainer that writes new weights into a
  running engine cannot write into such a weight in place.
- "off": none is.

float32 has no tiles that pay, and a weight without data is only planned, not stored: both are left as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay import npu, settings
from ascend_overlay.npu.reference.layout import FRACTAL_NZ

npu.load("npu_format_cast")


def wants_nz(weight: Tensor) -> bool:
    """Tell whether the setting in force wants `weight` in FRACTAL_NZ."""
    if weight.is_meta or weight.dim() < 2:
        return False
    policy = settings.current().weight_nz
    if weight.dtype == torch.int8:
        return policy != "off"
    return policy == "all" and weight.dtype in (torch.float16, torch.bfloat16)


def cast_weight(weight: Tensor) -> Tensor:
    """Return `weight` in the layout that the setting in force wants: itself, or a copy in FRACTAL_NZ.

    Args:
        weight: (..., k, n) as the matrix product takes it, with its last processing done: a later transposition or
            slice would undo the layout.

    Returns:
        Shape, dtype and values of `weight`.
    """
    if not wants_nz(weight):
        return weight
    _allow_tiles()
    cast: Tensor = torch.ops.npu.npu_format_cast(weight, FRACTAL_NZ)
    return cast


def _allow_tiles() -> None:
    """Let torch_npu store tensors in tiles; unless it is told so, recent versions warn once and leave them in ND."""
    device = getattr(torch, "npu", None)
    if device is not None and device.is_available():
        device.config.allow_internal_format = True
