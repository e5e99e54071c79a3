"""Parameters that no file of a quantized checkpoint holds are missed, those of vLLM's own layers, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from layer_kit import configured, tensor

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import CheckpointError

torch = pytest.importorskip("torch")

from quantization_kit import Checkpoint, config, rank  # noqa: E402

pytestmark = pytest.mark.vllm


@pytest.fixture(autouse=True, scope="module")
def overlay() -> Iterator[None]:
    pytest.importorskip("vllm.model_executor.layers.linear")
    with ascend_overlay.enabled(only=["quantization"], propagate=False), configured():
        yield


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A quantized layer, one in float and a norm, each with a bias; it says that it loaded what `loaded` holds."""
    from vllm.model_executor.layers.layernorm import RMSNorm
    from vllm.model_executor.layers.linear import ReplicatedLinear

    from ascend_overlay.overlays.quantization import norm_bias
    from ascend_overlay.quantization.description import parse

    checkpoint = Checkpoint(torch.bfloat16)
    for name, type_ in (("quantized", "W8A8"), ("plain", "FLOAT")):
        checkpoint.add(name, type_, tensor(1, 48, 80, dtype=torch.float32), tensor(2, 48, dtype=torch.float32))
    made = torch.nn.Module()
    quant_config = config(checkpoint)
    with rank(monkeypatch, 0, 1):
        for name in ("quantized", "plain"):
            layer = ReplicatedLinear(80, 48, params_dtype=torch.bfloat16, quant_config=quant_config, prefix=name)
            setattr(made, name, layer)
    made.norm = RMSNorm(48, dtype=torch.bfloat16)
    norm_bias.give(made, parse({"plain.weight": "FLOAT", "norm.bias": "FLOAT"}, "quant_model_description.json"))
    made.loaded = {"norm.weight", "norm.bias", "quantized.bias", "plain.bias"}
    made.load_weights = lambda weights: made.loaded
    return made


def _load(model: Any, quantization: str | None = "ascend", **options: Any) -> Any:
    """Load the model with vLLM's loader, which is given no files."""
    from vllm.config import LoadConfig
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    loader = DefaultModelLoader(LoadConfig(model_loader_extra_config=options))
    loader._init_ep_weight_filter = lambda config: None
    loader._init_mm_encoder_only_weight_filter = lambda model, config: None
    loader.get_all_weights = lambda config, model: iter(())
    loader.counter_before_loading_weights = 0.0
    loader.load_weights(model, SimpleNamespace(quantization=quantization, model="a/folder"))
    return loader


def test_what_quantized_layers_look_for_themselves_is_not_missed_twice(model: Any) -> None:
    loader = _load(model)
    assert loader.enable_weights_track is None


@pytest.mark.parametrize("name", ["norm.weight", "norm.bias", "quantized.bias", "plain.bias"])
def test_what_did_not_come_is_named(model: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model.loaded = model.loaded - {name}
    with pytest.raises(CheckpointError, match=rf"not initialized .*{name}.*The safetensors files of a/folder are inc"):
        _load(model)
    _load(model, enable_weights_track=False)
    monkeypatch.setattr(settings, "_current", dataclasses.replace(settings.current(), strict=False))
    with pytest.warns(RuntimeWarning, match=rf"{name}.* is left as it is"):
        _load(model)


def test_models_that_are_not_ours_are_left_alone(model: Any) -> None:
    model.loaded = set()
    _load(model, quantization="fp8")
    model.loaded = None
    _load(model)
