"""ApplyRotaryEmb, which vision encoders and several rotary embeddings turn their heads with."""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb

from ascend_overlay.overlays.rotary.turning import note_refusal, refusal, turn


class AscendApplyRotaryEmb(ApplyRotaryEmb):  # type: ignore[misc, unused-ignore]
    """ApplyRotaryEmb by npu_rotary_mul, for either pairing of elements.

    Heads that are wider than the angles are turned in part, as by vLLM's CUDA kernel; its PyTorch implementation, which
    is what runs on a CPU without this overlay, fails on them.
    """

    def forward_native(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn the pairs of each head by the angle of its token.

        Args:
            x: ([batch,] num_tokens, num_heads, head_size).
            cos: (num_tokens, rotary_dim / 2).
            sin: likewise.

        Returns:
            A new tensor, shape and dtype of `x`. With `enable_fp32_compute`, it is computed from float32 angles.
        """
        dtype = torch.float32 if self.enable_fp32_compute else x.dtype
        if (reason := refusal(x, cos, dtype)) is not None:
            note_refusal("ApplyRotaryEmb", reason)
            left: Tensor = super().forward_native(x, cos, sin)
            return left
        return turn(x.to(dtype), cos, sin, neox=self.is_neox_style).to(x.dtype)

    def forward_cpu(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x, cos, sin)

    def forward_oot(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x, cos, sin)
