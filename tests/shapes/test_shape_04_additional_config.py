"""Shape 4: a layer's behaviour depends on vLLM's `additional_config`, read when the layer is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from shape_kit import entry, late

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

LAYER = "vllm.model_executor.layers.logits_processor:LogitsProcessor"
OPTION = "shape_04_fp32_logits"

overlay = Overlay("shape_04", reason="logits are wanted in fp32 for training", vllm=">=0.32", default=False)


@overlay.wrap(f"{LAYER}.__init__")
def reads_option(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from vllm.config import get_current_vllm_config

    wrapped(*args, **kwargs)
    instance.shape_04_fp32 = bool(get_current_vllm_config().additional_config.get(OPTION))


@overlay.wrap(f"{LAYER}._get_logits")
def in_fp32(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    logits = wrapped(*args, **kwargs)
    if logits is None or not instance.shape_04_fp32:
        return logits
    ascend_overlay.note("shape_04", "logits in fp32")
    return logits.float()


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


class Head:
    """As much of a ParallelLMHead as the layer asks for, on one rank."""

    tp_size = 1
    quant_method: Any

    def __init__(self, weight: Any) -> None:
        self.weight = weight
        self.quant_method = self

    def apply(self, layer: Any, hidden_states: Any, bias: Any = None) -> Any:
        return hidden_states @ self.weight.T


def logits_of(option: dict[str, Any]) -> Any:
    """Return the logits of a layer that was built under `additional_config=option`."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.logits_processor import LogitsProcessor

    with set_current_vllm_config(VllmConfig(additional_config=option)):
        layer = LogitsProcessor(4)
    return layer(Head(torch.eye(8, dtype=torch.bfloat16)), torch.ones(2, 8, dtype=torch.bfloat16))


def stock() -> None:
    import torch

    assert {logits_of({}).dtype, logits_of({OPTION: True}).dtype} == {torch.bfloat16}


def effect() -> None:
    import torch

    assert logits_of({}).dtype == torch.bfloat16
    assert logits_of({OPTION: True}).dtype == torch.float32
    assert logits_of({OPTION: True}).shape == (2, 4)


def test_layers_built_with_the_option_behave_differently() -> None:
    import vllm.model_executor.layers.logits_processor  # noqa: F401

    stock()
    with late(__name__, "shape_04"):
        effect()
        for method in ("__init__", "_get_logits"):
            assert entry("shape_04", f"{LAYER}.{method}").state == "applied"
    stock()
