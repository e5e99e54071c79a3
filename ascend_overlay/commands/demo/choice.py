"""Which model the demo runs: one that the installed vLLM knows, DeepSeek-V2 where it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay.commands.demo import tiny
from ascend_overlay.commands.demo.checks import OPERATORS
from ascend_overlay.source.sources import LOADABLE

_REGISTRY = "vllm.model_executor.models.registry"


@dataclass(frozen=True)
class Model:
    """A tiny model.

    Attributes:
        title: what it is, in words.
        architecture: the name in its config.json.
        make: writes it.
        operators: the NPU operators that it needs.
    """

    title: str
    architecture: str
    make: Callable[..., Path]
    operators: tuple[str, ...]


_DENSE = (
    "npu_add_rms_norm",
    "npu_fused_infer_attention_score_v2",
    "npu_rms_norm",
    "npu_scatter_pa_kv_cache",
    "npu_swiglu",
)

DEEPSEEK = Model(
    "DeepSeek-V2, 3 layers, 1.5 million random parameters",
    "DeepseekV2ForCausalLM",
    tiny.make_deepseek_v2,
    OPERATORS,
)
MODELS = (
    DEEPSEEK,
    Model("Qwen3", "Qwen3ForCausalLM", tiny.make_qwen3, _DENSE),
    Model("Llama", "LlamaForCausalLM", tiny.make_llama3, _DENSE),
)
"""Those that may be run, the first choice first."""


def known_here() -> Model | None:
    """Return the first model whose architecture the installed vLLM has, by its source; None where it has none.

    Where the registry is not where it is expected, vLLM itself is to say: the first one.
    """
    text = LOADABLE.text(_REGISTRY)
    if text is None:
        return DEEPSEEK
    return next((model for model in MODELS if f'"{model.architecture}"' in text), None)
