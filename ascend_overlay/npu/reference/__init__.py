"""The reference kernels that come with ascend_overlay.

Common to all: the arithmetic is float32 whatever the dtype of the tensors, as in the kernels of the NPU, and the result
is rounded once, to the dtype of the output. Arguments that torch_npu documents as unsupported are refused here, too, so
that what runs on a laptop is not refused by the hardware.
"""

from __future__ import annotations

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference import (
    activation,
    attention,
    attention_update,
    batch_matmul,
    gelu,
    latent_cache,
    layout,
    moe_gating,
    moe_matmul,
    moe_routing,
    normalization,
    paged_gather,
    quantization,
    quantized_matmul,
    rotary,
)

KERNELS: tuple[ReferenceKernel, ...] = (
    *normalization.KERNELS,
    *activation.KERNELS,
    *gelu.KERNELS,
    *rotary.KERNELS,
    *layout.KERNELS,
    *moe_gating.KERNELS,
    *moe_routing.KERNELS,
    *moe_matmul.KERNELS,
    *attention.KERNELS,
    *latent_cache.KERNELS,
    *paged_gather.KERNELS,
    *batch_matmul.KERNELS,
    *attention_update.KERNELS,
    *quantization.KERNELS,
    *quantized_matmul.KERNELS,
)
