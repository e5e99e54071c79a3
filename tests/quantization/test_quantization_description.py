"""quant_model_description.json is read, looked up by whole names, and complained about in sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ascend_overlay.errors import CheckpointError
from ascend_overlay.quantization import description
from ascend_overlay.quantization.description import parse

_TYPES = {
    "model_quant_type": "W8A8",
    "version": "1.0.0",
    "group_size": 0,
    "optional": {"quarot": {"rotation_map": {"global_rotation": "optional/quarot.safetensors"}}},
    "optional.quarot.rotation_map.global_rotation": "optional/quarot.safetensors",
    "model.layers.1.mlp.up_proj.weight": "W8A8",
    "model.layers.1.mlp.up_proj.weight_scale": "W8A8",
    "model.layers.1.mlp.up_proj_extra.weight": "FLOAT",
    "model.layers.10.mlp.up_proj.weight": "FLOAT",
    "model.layers.1.mlp.experts.0.gate_proj.weight": "W8A8_DYNAMIC",
    "model.layers.1.mlp.experts.10.gate_proj.weight_packed": "W4A8_DYNAMIC",
    "model.layers.1.mlp.experts_bias.weight": "FLOAT",
    "model.layers.1.input_layernorm.weight": "FLOAT",
    "model.layers.1.input_layernorm.bias": "FLOAT",
    "model.layers.1.mlp.up_proj.bias": "W8A8",
    "model.layers.1.A_log": "FLOAT",
    "model.layers.1.mlp.experts.0.gate_proj.weight_scale_second": "W8A8_DYNAMIC",
}


def test_each_weight_has_its_type_and_the_rest_is_apart() -> None:
    found = parse(_TYPES, "here.json")
    assert found.source == "here.json"
    assert found.weights["model.layers.1.mlp.up_proj"] == "W8A8"
    assert found.weights["model.layers.1.mlp.experts.10.gate_proj"] == "W4A8_DYNAMIC"
    assert set(found.settings) == {"model_quant_type", "version", "group_size", "optional"}
    assert found.norm_biases == ("model.layers.1.input_layernorm.bias",)
    assert found.unread == {"optional.quarot.rotation_map.global_rotation": "optional/quarot.safetensors"}
    assert found.second_scales == ("model.layers.1.mlp.experts.0.gate_proj.weight_scale_second",)
    assert len(found.weights) == 7


def test_what_is_inside_a_module_ends_at_the_dot() -> None:
    found = parse(_TYPES, "here.json")
    assert dict(found.below("model.layers.1.mlp.experts")) == {
        "model.layers.1.mlp.experts.0.gate_proj": "W8A8_DYNAMIC",
        "model.layers.1.mlp.experts.10.gate_proj": "W4A8_DYNAMIC",
    }
    assert "model.layers.10.mlp.up_proj" not in dict(found.below("model.layers.1"))
    assert not dict(found.below("model.layers.1.mlp.up"))


def test_tensors_can_be_renamed_and_dropped() -> None:
    found = parse(_TYPES, "here.json")

    def rename(name: str) -> str | None:
        return None if ".10." in name else f"language_model.{name}"

    renamed = found.renamed(rename)
    assert renamed.weights["language_model.model.layers.1.mlp.up_proj"] == "W8A8"
    assert len(renamed.weights) == 5
    assert dict(renamed.below("language_model.model.layers.1.mlp.experts"))
    assert renamed.norm_biases == ("language_model.model.layers.1.input_layernorm.bias",)
    assert renamed.second_scales == ("language_model.model.layers.1.mlp.experts.0.gate_proj.weight_scale_second",)
    assert renamed.digest == found.digest


def test_the_digest_is_that_of_the_content() -> None:
    changed = _TYPES | {"model.layers.10.mlp.up_proj.weight": "W8A8"}
    reordered = dict(reversed(_TYPES.items()))
    assert parse(_TYPES, "a").digest == parse(reordered, "b").digest != parse(changed, "a").digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "does not hold a JSON object"),
        ("{", "cannot be read as JSON.*quantize the model again"),
        ('{"group_size": 0}', "gives no type for any weight"),
        ('{"a.weight": {"type": "W8A8"}}', "gives a.weight the type .* which is not a string"),
    ],
)
def test_what_is_no_description_is_said_to_be_none(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / description.FILE
    path.write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        description.read(path)
    assert str(path) in str(caught.value)


def test_the_name_may_hold_the_type(tmp_path: Path) -> None:
    assert description.locate(tmp_path) is None
    variant = tmp_path / "quant_model_description_w8a8_dynamic.json"
    variant.write_text(json.dumps({"a.weight": "FLOAT"}))
    assert description.locate(tmp_path) == variant
    (tmp_path / "quant_model_description_w8a8.json").touch()
    with pytest.raises(CheckpointError, match=r"several descriptions: .*w8a8\.json, .*dynamic\.json\. Rename"):
        description.locate(tmp_path)
    (tmp_path / description.FILE).touch()
    assert description.locate(tmp_path) == tmp_path / description.FILE
