"""Rotary position embeddings through npu_mrope and npu_rotary_mul: a module a class.

vLLM picks one of three methods when a layer is built: `forward_native` where custom operators are off, as under
Inductor, `forward_cpu` on the CPU platform, `forward_oot` on an NPU's. All return new tensors; vLLM's own CPU kernel
rotates in place, but no caller can rely on that, since `forward_native` does not.

Each module imports the one module of vLLM that it is loaded for: they are loaded while vLLM imports its classes one
after the other.
"""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

_VLLM = "vllm.model_executor.layers.rotary_embedding"
_MODULE = __name__

overlay = Overlay(
    "rotary",
    vllm=">=0.27.1,<0.34",
    # Before, npu_mrope has no cache_mode.
    torch_npu=">=2.10",
    reason="vLLM has no NPU kernel for its rotary embeddings",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

# Vision encoders turn their heads with it, and so do the embeddings of Bailing, Ernie 4.5 and Pangu, which derive from
# MRotaryEmbedding and mix the angles in a way of their own.
overlay.subclass(f"{_VLLM}.common:ApplyRotaryEmb", f"{_MODULE}.applying:AscendApplyRotaryEmb")
# The linear, NTK, dynamic NTK, Llama-3, YaRN and Gemma-4 embeddings are derived from RotaryEmbedding and differ in the
# angles only, so they follow. Classes with a rotation of their own keep it, and the ledger names them.
overlay.subclass(f"{_VLLM}.base:RotaryEmbedding", f"{_MODULE}.plain:AscendRotaryEmbedding")
overlay.subclass(
    f"{_VLLM}.deepseek_scaling_rope:DeepseekScalingRotaryEmbedding",
    f"{_MODULE}.deepseek:AscendDeepseekScalingRotaryEmbedding",
)
overlay.subclass(f"{_VLLM}.mrope:MRotaryEmbedding", f"{_MODULE}.multimodal:AscendMRotaryEmbedding")
overlay.subclass(
    f"{_VLLM}.phi3_long_rope_scaled_rope:Phi3LongRoPEScaledRotaryEmbedding",
    f"{_MODULE}.phi3:AscendPhi3LongRoPEScaledRotaryEmbedding",
)
overlay.subclass(
    f"{_VLLM}.llama4_vision_rope:Llama4VisionRotaryEmbedding",
    f"{_MODULE}.llama4_vision:AscendLlama4VisionRotaryEmbedding",
)
overlay.attribute(
    f"{_VLLM}:_ROPE_DICT",
    {},
    reason="get_rope() hands out layers that it has built before, and vLLM's and this overlay's are not to be mixed",
)
