"""DeepSeek-V2 and -V3 for Ascend: a subclass under the original architecture names."""

from __future__ import annotations

from ascend_overlay import Overlay

_MODULE = "ascend_overlay.overlays.deepseek_v2.model"

overlay = Overlay(
    "deepseek_v2",
    vllm=">=0.27.1",
    reason=(
        "vLLM's class neither describes its packed experts, which a ModelSlim description names one by one, nor "
        "notices a checkpoint that lacks some of its weights"
    ),
    upstream=None,
)

overlay.model("DeepseekV2ForCausalLM", f"{_MODULE}:AscendDeepseekV2ForCausalLM")
overlay.model("DeepseekV3ForCausalLM", f"{_MODULE}:AscendDeepseekV3ForCausalLM")
