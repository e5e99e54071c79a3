"""Run with the genuine torch_npu and vLLM: python genuine_layers.py RESULT. Layers of vLLM under the overlays."""

from __future__ import annotations

import sys
from typing import Any

from ascend_overlay.npu.genuine.stand_in import import_torch_npu

import_torch_npu()

import torch  # noqa: E402
import torch_npu  # noqa: E402

import ascend_overlay  # noqa: E402


def main() -> None:
    """Run the layers, and save what came out."""
    ascend_overlay.enable(only=["layernorm", "activation", "rotary"], trace=True)
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.activation import SiluAndMul
    from vllm.model_executor.layers.layernorm import RMSNorm
    from vllm.model_executor.layers.rotary_embedding import get_rope
    from vllm.platforms import current_platform

    found: dict[str, Any] = {"platform": current_platform.device_type, "torch_npu": torch_npu.__version__}
    x = torch.randn(6, 64, dtype=torch.bfloat16)
    config = VllmConfig()
    with set_current_vllm_config(config), config.kernel_config.ir_op_priority.set_priority():
        norm = RMSNorm(64, dtype=torch.bfloat16)
        rope = get_rope(64, 64, is_neox_style=False, dtype=torch.bfloat16)
        gate = SiluAndMul(compile_native=False)
        found["norm"] = norm(x), *norm(x.clone(), x.clone())
        found["gate"] = gate(x)
        found["rope"] = rope(torch.arange(6), x, x)
    found["x"], found["cache"] = x, rope.cos_sin_cache
    found["counts"] = ascend_overlay.ledger().operators
    found["states"] = sorted({entry.state for entry in ascend_overlay.ledger() if not entry.machinery})
    torch.save(found, sys.argv[1])


if __name__ == "__main__":
    main()
