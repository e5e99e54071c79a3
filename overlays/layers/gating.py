"""SiluAndMul on npu_swiglu."""

from __future__ import annotations

import torch
from vllm.model_executor.layers.activation import SiluAndMul

from ascend_overlay import npu

npu.load("npu_swiglu")


class AscendSiluAndMul(SiluAndMul):  # type: ignore[misc, unused-ignore]
    """``silu(x[..., :d]) * x[..., d:]`` with ``d = x.shape[-1] // 2``, by npu_swiglu.

    vLLM picks one of three methods when the layer is built: `forward_native` where custom operators are off, as under
    Inductor, `forward_cpu` on the CPU platform, `forward_oot` on an NPU's.
    """

    # Static as in vLLM, where it is called on the class, too.
    @staticmethod
    def forward_native(x: torch.Tensor) -> torch.Tensor:
        """Return the gated half of `x`: (..., 2 d) -> (..., d), float16, bfloat16 or float32."""
        return torch.ops.npu.npu_swiglu(x)  # type: ignore[no-any-return]

    def forward_cpu(self, x: torch.Tensor) -> torch.Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x)

    def forward_oot(self, x: torch.Tensor) -> torch.Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x)
