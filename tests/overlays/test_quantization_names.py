"""Layers whose parts, or whose name, the model class does not say: they are found in the description all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layer_kit import one_rank

import ascend_overlay
from ascend_overlay.commands.demo.tiny import make_llama, make_qwen3_moe
from ascend_overlay.commands.quantize.run import quantize
from ascend_overlay.errors import CheckpointError

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

pytestmark = pytest.mark.vllm


@pytest.fixture(autouse=True, scope="module")
def overlay() -> Iterator[None]:
    pytest.importorskip("vllm.model_executor.model_loader")
    with (
        ascend_overlay.enabled(only=["quantization"], propagate=False),
        one_rank(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(torch.accelerator, "empty_cache", lambda: None)
        yield


def _load(model: Path, **options: Any) -> Any:
    from vllm.config import LoadConfig, ModelConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor.model_loader import get_model

    config = VllmConfig(
        model_config=ModelConfig(str(model), skip_tokenizer_init=True, dtype="bfloat16", **options),
        load_config=LoadConfig(),
    )
    with set_current_vllm_config(config):
        return get_model(vllm_config=config)


def _types(model: Any) -> dict[str, str]:
    """Return the types of the linear layers of a model; those in float have none."""
    found = {}
    for name, layer in model.named_modules():
        method = getattr(layer, "quant_method", None)
        if hasattr(method, "scheme"):
            found[name] = method.scheme.type
    return found


_LAYERS = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
LLAMA = {f"model.layers.{i}.{name}": "W8A8_DYNAMIC" for i in (0, 1) for name in _LAYERS}


@pytest.mark.parametrize("parts", [_LAYERS, ("self_attn.qkv_proj",)])
def test_parts_of_fused_layers_that_the_class_does_not_list(
    parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.models.llama import LlamaForCausalLM

    theirs = LlamaForCausalLM.packed_modules_mapping
    kept = {key: value for key, value in theirs.items() if f"self_attn.{key}" not in parts}
    monkeypatch.setattr(LlamaForCausalLM, "packed_modules_mapping", {} if len(parts) > 1 else kept)
    quantize(make_llama(tmp_path / "float"), tmp_path / "int8", "w8a8_dynamic")
    assert _types(_load(tmp_path / "int8")) == LLAMA


@pytest.mark.parametrize("given", ["", "somewhere.else", "model.layers.0.mlp"])
def test_layers_that_are_built_with_no_name_or_a_wrong_one(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.models import llama

    class Built(llama.LlamaMLP):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, prefix: str = "", **options: Any) -> None:
            super().__init__(*args, prefix=given, **options)

    monkeypatch.setattr(llama, "LlamaMLP", Built)
    quantize(make_llama(tmp_path / "float"), tmp_path / "int8", "w8a8_dynamic", keep=["model.layers.1.mlp.*"])
    kept = {name: type_ for name, type_ in LLAMA.items() if "layers.1.mlp" not in name}
    if given == "model.layers.0.mlp":
        # A name of another layer is taken at its word, until what it says does not fit.
        with pytest.raises(CheckpointError, match=r"layers\.1\.mlp"):
            _load(tmp_path / "int8")
        return
    assert _types(_load(tmp_path / "int8")) == kept


def test_a_layer_without_a_name_that_is_not_described_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.models import llama

    class Built(llama.LlamaMLP):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, prefix: str = "", **options: Any) -> None:
            super().__init__(*args, prefix="", **options)

    monkeypatch.setattr(llama, "LlamaMLP", Built)
    quantize(make_llama(tmp_path / "float"), tmp_path / "int8", "w8a8_dynamic")
    path = tmp_path / "int8" / "quant_model_description.json"
    types = {key: value for key, value in json.loads(path.read_text()).items() if "1.mlp.down_proj" not in key}
    path.write_text(json.dumps(types))
    with pytest.raises(
        CheckpointError, match=r"no entry for model\.layers\.1\.mlp\.down_proj\.weight, which the layer"
    ):
        _load(tmp_path / "int8")


@pytest.mark.parametrize("kept", [True, False])
def test_a_layer_that_the_model_holds_elsewhere_is_in_float_if_all_of_its_name_are(kept: bool, tmp_path: Path) -> None:
    quantize(make_llama(tmp_path / "float"), tmp_path / "int8", "w8a8_dynamic", keep=["*.down_proj"] if kept else [])
    path = tmp_path / "int8" / "quant_model_description.json"
    types = {key: value for key, value in json.loads(path.read_text()).items() if "1.mlp.down_proj" not in key}
    path.write_text(json.dumps(types))
    if kept:
        assert "model.layers.1.mlp.down_proj" not in _types(_load(tmp_path / "int8"))
        notes = [text for _, text in ascend_overlay.ledger().notes]
        assert any(text.startswith("model.layers.1.mlp.down_proj: in float") for text in notes)
    else:
        with pytest.raises(CheckpointError, match=r"no entry for model\.layers\.1\.mlp\.down_proj"):
            _load(tmp_path / "int8")


def _renamed(folder: Path, rename: Any) -> Path:
    tensors = load_file(folder / "model.safetensors")
    save_file({new: tensor for name, tensor in tensors.items() if (new := rename(name))}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("maker", [make_llama, make_qwen3_moe])
def test_names_without_model_are_those_of_an_embedding_model(maker: Any, tmp_path: Path) -> None:
    model = _renamed(
        maker(tmp_path / "float"), lambda name: "" if name.startswith("lm_head") else name.removeprefix("model.")
    )
    quantize(model, tmp_path / "int8", "w8a8_dynamic")
    before = len(ascend_overlay.ledger().notes)
    loaded = _load(tmp_path / "int8", runner="pooling", convert="embed")
    types = _types(loaded)
    assert types and set(types.values()) == {"W8A8_DYNAMIC"}
    notes = [text for _, text in ascend_overlay.ledger().notes[before:]]
    assert any("lack 'model.', and are read with it" in note for note in notes), notes


def test_names_without_model_do_not_hide_what_is_not_described(tmp_path: Path) -> None:
    model = _renamed(
        make_llama(tmp_path / "float"), lambda name: "" if name.startswith("lm_head") else name.removeprefix("model.")
    )
    quantize(model, tmp_path / "int8", "w8a8_dynamic")
    path = tmp_path / "int8" / "quant_model_description.json"
    types = {key: value for key, value in json.loads(path.read_text()).items() if "1.mlp.down_proj" not in key}
    path.write_text(json.dumps(types))
    with pytest.raises(CheckpointError, match=r"no entry for model\.layers\.1\.mlp\.down_proj\.weight"):
        _load(tmp_path / "int8", runner="pooling", convert="embed")


def test_a_router_that_its_experts_hold_too_has_come(tmp_path: Path) -> None:
    """As with Dots1, and with all experts on vLLM's Transformers backend."""
    quantize(make_qwen3_moe(tmp_path / "float"), tmp_path / "int8", "w8a8_dynamic")
    loaded = _load(tmp_path / "int8", model_impl="transformers")
    assert set(_types(loaded).values()) == {"W8A8_DYNAMIC"}
    shared: dict[Any, int] = {}
    for _, parameter in loaded.named_parameters(remove_duplicate=False):
        shared[parameter] = shared.get(parameter, 0) + 1
    assert max(shared.values()) > 1, "no parameter has two names, so this shows nothing"


def test_a_router_that_did_not_come_is_missed_under_either_name(tmp_path: Path) -> None:
    quantize(make_qwen3_moe(tmp_path / "float"), tmp_path / "int8", "w8a8_dynamic")
    _renamed(tmp_path / "int8", lambda name: "" if "layers.1.mlp.gate." in name else name)
    with pytest.raises(CheckpointError, match=r"gate\.weight"):
        _load(tmp_path / "int8", model_impl="transformers")


def test_the_ledger_says_which_scheme_serves_each_layer(tmp_path: Path) -> None:
    quantize(make_llama(tmp_path / "float"), tmp_path / "int8", "w8a16", keep=["model.layers.0.mlp.*"])
    quantize(make_qwen3_moe(tmp_path / "moe"), tmp_path / "moe8", "w8a8_dynamic", keep=["*.self_attn.*"])
    before = len(ascend_overlay.ledger().notes)
    _load(tmp_path / "int8")
    _load(tmp_path / "moe8")
    notes = [text for _, text in ascend_overlay.ledger().notes[before:]]
    assert (
        "LlamaForCausalLM is served so: W8A16: model.layers.0-1.self_attn.qkv_proj, model.layers.0-1.self_attn.o_proj, "
        "model.layers.1.mlp.gate_up_proj, model.layers.1.mlp.down_proj; FLOAT: model.layers.0.mlp.gate_up_proj, "
        "model.layers.0.mlp.down_proj"
    ) in notes
    [moe] = [text for text in notes if text.startswith("Qwen3MoeForCausalLM is served so")]
    assert "W8A8_DYNAMIC: model.layers.0-1.mlp.experts; FLOAT: model.layers.0-1.self_attn.qkv_proj" in moe
