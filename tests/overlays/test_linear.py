"""Linear layers: the layout of their weights follows the setting, and what they compute stays."""

from __future__ import annotations

from typing import Any

import pytest

import ascend_overlay

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.vllm


def _run(dtype: Any, name: str = "ReplicatedLinear") -> Any:
    """Build a linear layer, load it as vLLM does, and call it."""
    from layer_kit import configured, one_rank, tensor
    from vllm.model_executor.layers import linear

    with one_rank(), configured():
        layer = getattr(linear, name)(64, 48, bias=True, params_dtype=dtype)
        layer.weight.data.copy_(tensor(1, 48, 64, dtype=dtype))
        layer.bias.data.copy_(tensor(2, 48, dtype=dtype))
        layer.quant_method.process_weights_after_loading(layer)
        return layer(tensor(3, 5, 64, dtype=dtype))[0]


@pytest.mark.parametrize("name", ["ReplicatedLinear", "ColumnParallelLinear", "RowParallelLinear"])
@pytest.mark.parametrize(("policy", "casts"), [("all", 1), ("quantized", 0), ("off", 0)])
def test_the_setting_decides_the_layout_and_nothing_else(name: str, policy: str, casts: int) -> None:
    stock = _run(torch.bfloat16, name)
    with ascend_overlay.enabled(only=["linear"], weight_nz=policy, trace=True, propagate=False):
        overlaid = _run(torch.bfloat16, name)
        assert ascend_overlay.ledger().operators.get("npu_format_cast", 0) == casts
    assert torch.equal(overlaid, stock)


def test_float32_keeps_its_layout() -> None:
    with ascend_overlay.enabled(only=["linear"], weight_nz="all", trace=True, propagate=False):
        _run(torch.float32)
        assert not ascend_overlay.ledger().operators.get("npu_format_cast")
