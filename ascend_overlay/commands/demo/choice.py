"""Which model the demo runs: one that the installed vLLM knows, DeepSeek-V2 where it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay import versions
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
        vllm: PEP 440 range of the releases that serve it on a CPU; None: all that know it.
    """

    title: str
    architecture: str
    make: Callable[..., Path]
    operators: tuple[str, ...]
    vllm: str | None = None


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
    # Before, multi-head latent attention is for GPUs.
    vllm=">=0.29",
)
MODELS = (
    DEEPSEEK,
    Model("Qwen3", "Qwen3ForCausalLM", tiny.make_qwen3, _DENSE),
    Model("Llama", "LlamaForCausalLM", tiny.make_llama3, _DENSE),
)
"""Those that may be run, the first choice first."""


def known_here() -> Model | None:
    """Return the first model that the installed vLLM has, by its source, and serves; None where it has none.

    Where the registry is not where it is expected, vLLM itself is to say: the first one.
    """
    text = LOADABLE.text(_REGISTRY)
    if text is None:
        return DEEPSEEK
    release = versions.installed("vllm")
    return next((model for model in MODELS if f'"{model.architecture}"' in text and _serves(release, model)), None)


def _serves(release: str | None, model: Model) -> bool:
    return release is None or versions.in_range(model.vllm, release, whose="the demo")
