"""Activations through npu_swiglu, npu_clipped_swiglu, npu_geglu, npu_gelu and npu_fast_gelu."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

_VLLM = "vllm.model_executor.layers.activation"

overlay = Overlay(
    "activation",
    vllm=">=0.27.1,<0.34",
    reason="vLLM has no NPU kernels for its activations; those without an operator of torch_npu stay vLLM's",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

for _name in ("SiluAndMul", "SiluAndMulWithClamp", "SwigluOAIAndMul", "GeluAndMul"):
    overlay.subclass(f"{_VLLM}:{_name}", f"{__name__}.gating:Ascend{_name}")
for _name in ("GELU", "GELUTanh", "NewGELU", "FastGELU", "QuickGELU"):
    overlay.subclass(f"{_VLLM}:{_name}", f"{__name__}.gelu:Ascend{_name}")
for _registry in ("_ACTIVATION_REGISTRY", "_ACTIVATION_AND_MUL_REGISTRY"):
    overlay.attribute(
        f"{_VLLM}:{_registry}._dict",
        {},
        reason="get_act_fn() and get_act_and_mul_fn() hand out layers that they have built before",
    )
