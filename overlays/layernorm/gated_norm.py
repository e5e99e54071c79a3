"""RMSNormGated on npu_rms_norm and npu_swiglu."""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.model_executor.layers.layernorm import RMSNormGated

from ascend_overlay import npu
from ascend_overlay.npu.reference.checks import FLOATS

npu.load("npu_rms_norm", "npu_swiglu")


class AscendRMSNormGated(RMSNormGated):  # type: ignore[misc, unused-ignore]
    """RMSNorm of groups of a row, multiplied with the activation of a gate before or after.

    vLLM's own computes in float32 throughout. Here each operator does, and rounds its result to the dtype of `x`:
    what is normalized or gated, and for groups also what the weight is multiplied with.
    """

    def forward_native(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Return ``norm(x) * act(z)``, or ``norm(x * act(z))`` unless `norm_before_gate`, or ``norm(x)``.

        Args:
            x: (..., hidden), hidden a multiple of the group's size; float16, bfloat16 or float32.
            z: the gate; shape and dtype of `x`.
        """
        if not _takes(x, z, self.weight):
            left: Tensor = super().forward_native(x, z)
            return left
        if z is None:
            return self._norm(x)
        if self.norm_before_gate:
            return self._gate(self._norm(x), z)
        return self._norm(self._gate(x, z))

    def forward_cpu(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x, z)

    def forward_oot(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x, z)

    def _norm(self, x: Tensor) -> Tensor:
        size = self.group_size
        if size is None or size == x.shape[-1]:
            y: Tensor = torch.ops.npu.npu_rms_norm(x, self.weight, self.eps)[0]
            return y
        # A weight of npu_rms_norm covers a group, not the row, so that of the row is multiplied with afterwards.
        groups = x.reshape(*x.shape[:-1], x.shape[-1] // size, size)
        normalized: Tensor = torch.ops.npu.npu_rms_norm(groups, x.new_ones(size), self.eps)[0]
        weighted: Tensor = normalized.flatten(-2) * self.weight
        return weighted.to(x.dtype)

    def _gate(self, x: Tensor, z: Tensor) -> Tensor:
        if self.activation == "sigmoid":
            return x * torch.sigmoid(z)
        gated: Tensor = torch.ops.npu.npu_swiglu(torch.cat((z, x), dim=-1))
        return gated


def _takes(x: Tensor, z: Tensor | None, weight: Tensor) -> bool:
    # The NPU's tensors have at most 8 dimensions, of which groups need one.
    if x.dtype not in FLOATS or not 1 <= x.dim() <= 7 or weight.dtype not in (x.dtype, torch.float32):
        return False
    return z is None or (z.dtype == x.dtype and z.shape == x.shape)
