"""dtypes as the schemas of torch_npu carry them: int arguments, to which callers pass ``torch.int8``."""

from __future__ import annotations

import torch

from ascend_overlay.npu.reference.checks import refuse

# PyTorch turns a dtype into the number of its scalar type where a schema says int. A kernel that is called as the
# Python function that it is gets the dtype itself.
_BY_NUMBER = {
    0: torch.uint8,
    1: torch.int8,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    12: torch.qint8,
    13: torch.quint8,
    14: torch.qint32,
    15: torch.bfloat16,
    16: torch.quint4x2,
}


def dtype_argument(
    operator: str, name: str, number: int | torch.dtype | None, allowed: tuple[torch.dtype, ...], default: torch.dtype
) -> torch.dtype:
    """Return the dtype that the argument `name` of `operator` says.

    Raises:
        RuntimeError: it is none of the `allowed` ones.
    """
    if number is None:
        return default
    dtype = number if isinstance(number, torch.dtype) else _BY_NUMBER.get(number)
    if dtype not in allowed:
        listed = ", ".join(map(str, allowed))
        refuse(operator, f"{name} is {dtype or number}; without an NPU it takes {listed}.")
    return dtype
