"""Shape 1: a function that other modules copied by from-import gets one argument unwrapped before the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from shape_kit import entry, late

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

TARGET = "vllm.model_executor.layers.quantization.online.fp8:per_block_cast_to_fp8"

overlay = Overlay(
    "shape_01",
    reason="sharded weights are gathered before they are quantized",
    vllm=">=0.32",
    default=False,
)


@overlay.wrap(TARGET)
def gathered(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    weight, *others = args
    return wrapped(weight.full_tensor() if hasattr(weight, "full_tensor") else weight, *others, **kwargs)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


class Sharded:
    """Like torch's DTensor: not a tensor that kernels take, but able to become one."""

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def full_tensor(self) -> Any:
        return self.whole


def quantize(weight: Any) -> Any:
    """Let the online fp8 method of linear layers quantize `weight`, and return what the layer then has."""
    import torch
    from vllm.model_executor.layers.quantization.online import fp8

    method = SimpleNamespace(
        weight_block_size=[128, 128],
        get_weight_for_quantization=lambda layer: weight,
        requantization_source=None,
        fp8_linear=SimpleNamespace(process_weights_after_loading=lambda layer: None),
    )
    layer = torch.nn.Module()
    layer.register_parameter("weight", torch.nn.Parameter(torch.zeros(1), requires_grad=False))
    layer.register_parameter("weight_scale_inv", torch.nn.Parameter(torch.zeros(1), requires_grad=False))
    fp8.Fp8PerBlockOnlineLinearMethod.process_weights_after_loading(method, layer)
    return layer.weight.data, layer.weight_scale_inv.data


def stock() -> None:
    import torch

    with pytest.raises(AttributeError, match="dim"):
        quantize(Sharded(torch.ones(128, 256)))


def effect() -> None:
    import torch
    from vllm.model_executor.layers.quantization.online import fp8
    from vllm.utils import deep_gemm

    weight = torch.arange(128 * 256, dtype=torch.bfloat16).reshape(128, 256)
    expected, scale = quantize(weight)
    found, found_scale = quantize(Sharded(weight))
    assert torch.equal(found.float(), expected.float())
    assert torch.equal(found_scale, scale)
    assert deep_gemm.per_block_cast_to_fp8 is fp8.per_block_cast_to_fp8


def test_weights_are_unwrapped_through_every_copy() -> None:
    import vllm.model_executor.layers.quantization.online.fp8  # noqa: F401

    stock()
    with late(__name__, "shape_01"):
        effect()
        found = entry("shape_01", TARGET)
        assert (found.kind, found.state) == ("wrap", "applied")
        assert "vllm.utils.deep_gemm.per_block_cast_to_fp8" in found.copies
    stock()
