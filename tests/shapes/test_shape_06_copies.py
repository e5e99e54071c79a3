"""Shape 6: functions with many copies in other modules, some of them imported before the overlay and some after."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from shape_kit import entry, late

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

SAMPLE = "vllm.v1.worker.gpu.sample.gumbel:gumbel_sample"
FACTORY = "vllm.model_executor.layers.fused_moe.layer:FusedMoEFactory"

# Who copies them, and can be imported on a machine without a GPU and without torchvision.
SAMPLERS = (
    "vllm.v1.worker.gpu.sample.sampler",
    "vllm.v1.worker.gpu.spec_decode.speculator",
    "vllm.v1.worker.gpu.spec_decode.dspark.speculator",
    "vllm.v1.watermarking.watermarker",
)
MODELS = (
    "AXK1 afmoe aria bailing_moe bailing_moe_linear bailing_moe_v3 cohere2_moe dbrx deepseek_v2 ernie45_moe "
    "ernie45_vl_moe exaone_moe gemma4 glm4_moe gpt_oss granitemoe hy_v3 jamba k2_horizon laguna lfm2_moe llama4 "
    "longcat_flash mimo_v2 minimax_m2 mixtral nemotron_h olmoe openpangu param2moe phimoe qwen2_moe qwen3_moe "
    "qwen3_next sarvam step3_text step3p5 transformers.moe"
)
MODEL_MODULES = tuple(f"vllm.model_executor.models.{name}" for name in MODELS.split())

overlay = Overlay("shape_06", reason="sampling and experts that suit the device", vllm=">=0.32", default=False)
moe = Overlay("shape_06_moe", reason="experts are announced to the device", vllm=">=0.32", default=False)


@overlay.replace(SAMPLE)
def greedy_sample(
    logits: Any,
    expanded_idx_mapping: Any,
    temperature: Any,
    seed: Any,
    pos: Any,
    apply_temperature: bool,
    is_drafting: bool,
    logits_cache: Any = None,
    logits_cache_col: Any = None,
    use_fp64: bool = False,
    logits_cache_source: Any = None,
) -> Any:
    """Return the most likely token of each row."""
    return logits.argmax(dim=-1)


@moe.wrap(FACTORY)
def announced(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs.get("prefix") == "shape_06":
        return f"experts of {kwargs['prefix']}"
    return wrapped(*args, **kwargs)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay, moe]


def load(names: Iterable[str]) -> None:
    for name in names:
        importlib.import_module(name)


def holders(name: str) -> dict[str, Any]:
    """Return what each loaded module of vLLM has under `name`."""
    modules = [(key, module) for key, module in list(sys.modules.items()) if key.startswith("vllm.")]
    return {key: vars(module)[name] for key, module in modules if name in getattr(module, "__dict__", ())}


def sampled() -> Any:
    """Sample through the copy that the watermarker has."""
    import torch
    from vllm.v1.watermarking import watermarker

    nothing = torch.zeros(2)
    sample = watermarker.RandomSampler(nothing, nothing, nothing, nothing)
    return sample(torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])).tolist()


def stock() -> None:
    from vllm.model_executor.layers.fused_moe import layer
    from vllm.v1.worker.gpu.sample import gumbel

    for name, original in (("gumbel_sample", gumbel.gumbel_sample), ("FusedMoEFactory", layer.FusedMoEFactory)):
        assert original.__code__.co_filename.startswith(os.path.dirname(sys.modules["vllm"].__file__ or "?"))
        assert {key for key, value in holders(name).items() if value is not original} == set()


def effect() -> None:
    load([*SAMPLERS, *MODEL_MODULES])
    samples, factories = holders("gumbel_sample"), holders("FusedMoEFactory")
    assert set(SAMPLERS) < set(samples)
    assert set(MODEL_MODULES) < set(factories)
    assert len({id(value) for value in samples.values()}) == 1
    assert len({id(value) for value in factories.values()}) == 1
    assert sampled() == [1, 0]
    assert {factory(prefix="shape_06") for factory in factories.values()} == {"experts of shape_06"}


def test_copies_made_before_and_after_are_all_the_new_function() -> None:
    load(["vllm.model_executor.layers.fused_moe.layer", *SAMPLERS[:2], *MODEL_MODULES[::2]])
    stock()
    # Models register their own layers when they are imported.
    with late(__name__, "shape_06", "shape_06_moe", ignore=("vllm.model_executor.custom_op.op_registry[",)):
        effect()
        assert {f"{name}.gumbel_sample" for name in SAMPLERS[:2]} <= set(entry("shape_06", SAMPLE).copies)
        assert {f"{name}.FusedMoEFactory" for name in MODEL_MODULES[::2]} <= set(entry("shape_06_moe", FACTORY).copies)
        assert entry("shape_06", SAMPLE).stale == entry("shape_06_moe", FACTORY).stale == []
    stock()
