"""What a norm or an activation hands to a quantized linear layer in place of a tensor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class QuantizedRows(NamedTuple):
    """Rows that are quantized already.

    It is no tensor, on purpose: whoever takes it for one gets an error, and computes nothing with the integers.

    Attributes:
        numbers: (..., inputs), int8.
        scales: (...,), float32: that of each row; None where it is the one of the layer that takes them.
        dtype: of the activations, float16 or bfloat16.
    """

    numbers: Tensor
    scales: Tensor | None
    dtype: torch.dtype
