"""The operators of torch.ops.npu by their names here, of which a few are of an overload: "npu_rms_norm", "NAME.out"."""

from __future__ import annotations

from typing import Any


def overload(name: str) -> Any:
    """Return the one overload of torch.ops.npu that `name` stands for.

    Raises:
        AttributeError: there is none.
    """
    import torch

    operator, _, which = name.partition(".")
    return getattr(getattr(torch.ops.npu, operator), which or "default")
