"""A norm adds the bias that a checkpoint brings for it, and only such a norm."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from layer_kit import configured, tensor

import ascend_overlay
from ascend_overlay.errors import CheckpointError

torch = pytest.importorskip("torch")

from ascend_overlay.quantization.description import parse  # noqa: E402

pytestmark = pytest.mark.vllm

_BIASES = ("layers.0.input_layernorm.bias", "layers.0.plain_norm.bias", "layers.7.input_layernorm.bias")


@pytest.fixture(autouse=True, params=["all", "none"])
def configuration(request: pytest.FixtureRequest) -> Iterator[None]:
    pytest.importorskip("vllm.model_executor.layers.layernorm")
    with configured(request.param):
        yield


def _model(*biases: str) -> tuple[Any, Any]:
    from vllm.model_executor.layers.layernorm import RMSNorm

    layer = torch.nn.Module()
    layer.input_layernorm = RMSNorm(48, eps=1e-5, dtype=torch.bfloat16)
    layer.post_attention_layernorm = RMSNorm(48, eps=1e-5, dtype=torch.bfloat16)
    layer.kv_a_layernorm = RMSNorm(48, eps=1e-5, dtype=torch.bfloat16)
    layer.plain_norm = torch.nn.LayerNorm(48)
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList([layer])
    types = {"layers.0.mlp.weight": "W8A8"} | dict.fromkeys(biases, "FLOAT")
    return model, parse(types, "quant_model_description.json")


def test_the_norm_that_is_listed_adds_its_bias() -> None:
    from ascend_overlay.overlays.quantization import norm_bias

    model, description = _model(*_BIASES)
    layer = model.layers[0]
    x, residual, bias = (
        tensor(seed, *shape, dtype=torch.bfloat16) for seed, shape in enumerate(((5, 48), (5, 48), (48,)))
    )
    without, (with_residual, total) = (
        layer.input_layernorm(x.clone()),
        layer.input_layernorm(x.clone(), residual.clone()),
    )
    plain, other = layer.plain_norm, type(layer.post_attention_layernorm)
    norm_bias.give(model, description)
    assert set(dict(model.named_parameters())) >= {"layers.0.input_layernorm.bias"}
    assert not layer.input_layernorm.bias.any()
    layer.input_layernorm.bias.data.copy_(bias)
    assert torch.equal(layer.input_layernorm(x.clone()), without + bias)
    got = layer.input_layernorm(x.clone(), residual.clone())
    assert torch.equal(got[0], with_residual + bias)
    assert torch.equal(got[1], total)
    assert layer.plain_norm is plain
    assert type(layer.post_attention_layernorm) is other
    assert getattr(layer.post_attention_layernorm, "bias", None) is None


def test_it_is_one_graph() -> None:
    from ascend_overlay.overlays.quantization import norm_bias

    model, description = _model(*_BIASES)
    norm_bias.give(model, description)
    norm, x = model.layers[0].input_layernorm, tensor(1, 5, 48, dtype=torch.bfloat16)
    norm.bias.data.copy_(tensor(2, 48, dtype=torch.bfloat16))
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(lambda x: norm(x), fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x.clone()), norm(x.clone()))


def test_a_norm_that_cannot_have_a_bias_is_named() -> None:
    from ascend_overlay.overlays.quantization import norm_bias

    model, description = _model("layers.0.kv_a_layernorm.bias")
    with pytest.raises(CheckpointError, match=r"lists layers\.0\.kv_a_layernorm\.bias, and the RMSNorm .* outliers"):
        norm_bias.give(model, description)
    model, description = _model("layers.0.odd_norm.bias")
    model.layers[0].odd_norm = torch.nn.Module()
    with pytest.raises(CheckpointError, match=r"lists layers\.0\.odd_norm\.bias, and the Module"):
        norm_bias.give(model, description)


def test_a_norm_on_another_rank_of_the_pipeline_gets_none() -> None:
    from vllm.model_executor.models.utils import PPMissingLayer

    from ascend_overlay.overlays.quantization import norm_bias

    model, description = _model("norm.bias", "layers.1.input_layernorm.bias")
    model.norm, model.layers = PPMissingLayer(), torch.nn.ModuleList([*model.layers, PPMissingLayer()])
    norm_bias.give(model, description)
    assert not any(name.endswith("norm.bias") for name, _ in model.layers[0].input_layernorm.named_parameters())
    assert type(model.norm) is PPMissingLayer


def test_biases_of_norms_that_are_nowhere_are_in_the_ledger() -> None:
    from vllm.model_executor.models.utils import PPMissingLayer

    from ascend_overlay.overlays.quantization import norm_bias

    model, description = _model("layers.0.input_layernorm.bias", "layers.1.norm.bias", "layers.7.input_layernorm.bias")
    model.layers.append(PPMissingLayer())
    norm_bias.give(model, description)
    notes = [text for _, text in ascend_overlay.ledger().notes if "not in Module" in text]
    assert len(notes) == 1
    assert notes[0].endswith("nothing reads them: layers.7.input_layernorm.bias")


def test_the_whole_model_gets_them_once_and_other_models_do_not() -> None:
    from ascend_overlay.overlays.quantization import building

    for quantized, prefix, expected in ((True, "", True), (True, "language_model", False), (False, "", False)):
        model, description = _model(*_BIASES)
        quant_config = SimpleNamespace(
            description=description, unnamed=None, get_name=lambda quantized=quantized: quantized and "ascend"
        )
        config = SimpleNamespace(
            quant_config=quant_config,
            load_config=SimpleNamespace(load_format="auto"),
            model_config=SimpleNamespace(dtype=torch.float32),
        )
        built = building.initialize_model(
            lambda vllm_config, *, prefix="", model=model: model,
            None,
            (),
            {"vllm_config": config, "prefix": prefix},
        )
        assert built is model
        assert (getattr(model.layers[0].input_layernorm, "bias", None) is not None) == expected


def test_the_overlay_puts_it_where_models_are_built() -> None:
    from vllm.model_executor.model_loader import base_loader, utils

    before = utils.initialize_model
    with ascend_overlay.enabled(only=["quantization"], propagate=False):
        assert utils.initialize_model is not before
        assert base_loader.initialize_model is utils.initialize_model
    assert base_loader.initialize_model is utils.initialize_model is before
