"""Models of one's own: the user or a plugin says which matrices are linear layers, and how they are packed."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import quantize_kit as kit
import torch

from ascend_overlay import api
from ascend_overlay.commands.quantize import calibration
from ascend_overlay.commands.quantize.linears import HOOK, Linears, known
from ascend_overlay.commands.quantize.run import plan, quantize
from ascend_overlay.errors import ConfigError, PluginError, QuantizeError
from ascend_overlay.hooks import hookimpl

A, B = "model.layers.0.mixer.wqa", "model.layers.0.mixer.wkva"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A Llama with two matrices that no rule knows."""
    more = {f"{name}.weight": torch.randn(8, 16).bfloat16() for name in (A, B)}
    return kit.write(tmp_path / "model", kit.llama() | more)


def _types(model: Path, *linear: str, keep: tuple[str, ...] = ()) -> dict[str, str]:
    choices = plan(model, "w8a8_dynamic", keep, linear).choices
    return {name.removesuffix(".weight"): choice.type for name, choice in choices.items()}


def test_without_a_word_they_are_an_error_that_says_which(model: Path) -> None:
    with pytest.raises(QuantizeError, match=r"--keep '\*\.wkva', or say that they are with --linear '\*\.wkva'"):
        plan(model, "w8a8_dynamic")


@pytest.mark.parametrize(
    "linear", [("*.mixer.wqa+wkva",), ("wqa", "wkva"), ("*.wqa", "model.layers.0.mixer.wk*"), ("wqa+wkva",)]
)
def test_they_are_quantized_as_said(model: Path, linear: tuple[str, ...]) -> None:
    found = _types(model, *linear)
    assert found[A] == found[B] == "W8A8_DYNAMIC"
    assert found["model.embed_tokens"] == "FLOAT" and found["model.layers.0.self_attn.q_proj"] == "W8A8_DYNAMIC"


def test_what_is_loaded_into_one_layer_belongs_together(model: Path) -> None:
    with pytest.raises(QuantizeError, match=r"leaves .*wqa in float but not .*wkva, and vLLM loads both"):
        _types(model, "*.mixer.wqa+wkva", keep=("*.wqa",))
    assert _types(model, "wqa", "wkva", keep=("*.wqa",))[A] == "FLOAT"
    ranges = {f"{A}.weight": (-1.0, 1.0), f"{B}.weight": (0.0, 3.0)}
    assert set(calibration._merged(ranges, known(["wqa+wkva"])).values()) == {(-1.0, 3.0)}
    assert calibration._merged(ranges, known(["wqa", "wkva"])) == ranges


def test_it_is_part_of_what_a_run_was_begun_with(model: Path, tmp_path: Path) -> None:
    quantize(model, tmp_path / "out", "w8a16", linear=["wqa+wkva"])
    quantize(model, tmp_path / "out", "w8a16", linear=["wqa+wkva"])
    with pytest.raises(QuantizeError, match=r"linear was \['wqa\+wkva'\] and is \['wqa', 'wkva'\] now"):
        quantize(model, tmp_path / "out", "w8a16", linear=["wqa", "wkva"])


@pytest.mark.parametrize("linear", ["*.absent", "wqa+absent", "*.mixer.wqa_"])
def test_a_pattern_that_matches_nothing(model: Path, linear: str) -> None:
    with pytest.raises(QuantizeError, match=r"--linear '.*' matches no matrix of the model, or not in all parts"):
        _types(model, linear, "wqa+wkva")


@pytest.mark.parametrize("linear", ["", "+", "a+", "*.a++b", ".a", "a+a"])
def test_what_is_no_pattern(model: Path, linear: str) -> None:
    with pytest.raises(ConfigError, match=r"--linear says that .*It takes patterns of their names"):
        _types(model, linear)


def test_what_is_no_matrix_with_a_weight(tmp_path: Path) -> None:
    cube = {"model.layers.0.mixer.experts": torch.randn(2, 8, 16).bfloat16()}
    model = kit.write(tmp_path / "model", kit.llama() | cube)
    with pytest.raises(QuantizeError, match=r"--linear says with '\*\.experts' .* has the shape \[2, 8, 16\]"):
        _types(model, "*.experts")


def test_a_gate_of_attention_is_no_router(tmp_path: Path) -> None:
    gate = {f"model.layers.0.{name}.gate.weight": torch.randn(16, 16).bfloat16() for name in ("self_attn", "mlp")}
    model = kit.write(tmp_path / "model", kit.llama() | gate)
    with pytest.raises(
        QuantizeError, match=r"do not know as linear layers: model\.layers\.\*\.self_attn\.gate\.weight"
    ):
        plan(model, "w8a8_dynamic")
    found = _types(model, "*.self_attn.gate")
    assert found["model.layers.0.self_attn.gate"] == "W8A8_DYNAMIC"
    assert found["model.layers.0.mlp.gate"] == "FLOAT", "that one is a router"
    assert _types(model, "*.gate")["model.layers.0.mlp.gate"] == "W8A8_DYNAMIC", "unless it is said"


def test_biases_of_any_shape_are_no_matrices(tmp_path: Path) -> None:
    bias = {"model.layers.0.mlp.moe_statics.e_score_correction_bias": torch.randn(1, 4)}
    found = _types(kit.write(tmp_path / "model", kit.llama() | bias))
    assert found[next(iter(bias))] == "FLOAT"


def test_a_plugin_says_it_for_its_models(model: Path) -> None:
    @hookimpl
    def says() -> list[str]:
        return ["*.mixer.wqa+wkva", "*.of.another.model"]

    api.register(plugin := SimpleNamespace(**{HOOK: says}), "own_models")
    try:
        assert _types(model)[A] == "W8A8_DYNAMIC"
    finally:
        _unregister(plugin)
    with pytest.raises(QuantizeError, match="rules do not know"):
        plan(model, "w8a8_dynamic")


@pytest.mark.parametrize("answer", [[1], ["a+"], None])
def test_a_plugin_that_says_nothing_sensible_is_named(model: Path, answer: Any) -> None:
    @hookimpl
    def says() -> Any:
        return answer

    name = f"own_models_{type(answer).__name__}_{len(answer or ())}_{str(answer)[1:3]}"
    api.register(plugin := SimpleNamespace(**{HOOK: says}), name)
    try:
        with pytest.raises((ConfigError, PluginError), match=re.escape(name)):
            plan(model, "w8a8_dynamic")
    finally:
        _unregister(plugin)


def _unregister(plugin: object) -> None:
    api._engine.plugins._manager.unregister(plugin)


def test_groups_of_usual_names_stay() -> None:
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkvo"]
    assert sorted(map(len, Linears().groups(names).values())) == [1, 3]
