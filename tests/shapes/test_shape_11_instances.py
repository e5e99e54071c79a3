"""Shape 11: something is done to every instance of one layer type after it was built and its weights were loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from shape_kit import entry, late

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

LINEAR = "vllm.model_executor.layers.linear"
METHOD = f"{LINEAR}:UnquantizedLinearMethod.process_weights_after_loading"

overlay = Overlay("shape_11", reason="outliers would not fit the format of the kernel", vllm=">=0.32", default=False)


@overlay.wrap(f"{LINEAR}:RowParallelLinear.__init__")
def limited(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    wrapped(*args, **kwargs)
    instance.weight_limit = 4.0


@overlay.wrap(METHOD)
def clamped(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    layer = args[0] if args else kwargs["layer"]
    if hasattr(layer, "weight_limit"):
        # Before vLLM packs the weight for the CPU's matrix product and drops it.
        layer.weight.data.clamp_(-layer.weight_limit, layer.weight_limit)
        ascend_overlay.note("shape_11", f"clamped {type(layer).__name__}")
    wrapped(*args, **kwargs)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


def outputs() -> tuple[float, float]:
    """Return what a row-parallel and a column-parallel layer make of ones, after vLLM has processed their weights."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.linear import ColumnParallelLinear, RowParallelLinear
    from vllm.model_executor.model_loader.utils import process_weights_after_loading

    with set_current_vllm_config(VllmConfig()):
        layers = RowParallelLinear(8, 4, bias=False), ColumnParallelLinear(8, 4, bias=False)
    for layer in layers:
        layer.weight.data.fill_(5.0)
    config: Any = SimpleNamespace(dtype=torch.float32, quantization=None, word_embeddings_untied_by_checkpoint=False)
    process_weights_after_loading(torch.nn.ModuleList(layers), config, torch.device("cpu"))
    row, column = (layer(torch.ones(1, 8))[0][0, 0].item() for layer in layers)
    return row, column


def stock() -> None:
    assert outputs() == (40.0, 40.0)


def effect() -> None:
    assert outputs() == (32.0, 40.0)


@pytest.mark.usefixtures("groups")
def test_row_parallel_layers_only() -> None:
    import vllm.model_executor.model_loader.utils  # noqa: F401

    stock()
    with late(__name__, "shape_11"):
        effect()
        assert entry("shape_11", METHOD).state == "applied"
    stock()
