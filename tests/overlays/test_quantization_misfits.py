"""Checkpoints that do not fit their model, loaded as vLLM does: the tensor, its file and both shapes are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
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

LAYER = "model.layers.0"
FILE = "model-00002-of-00002.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three quantized models, each in two files: one with experts in int8, one with experts in float."""
    folder = tmp_path_factory.mktemp("misfits")
    make_llama(folder / "llama-float", attention_bias=True)
    tensors = load_file(folder / "llama-float" / "model.safetensors")
    tensors |= {
        name.removesuffix("weight") + "bias": weight[:, 0].clone()
        for name, weight in tensors.items()
        if ".self_attn." in name
    }
    save_file(tensors, folder / "llama-float" / "model.safetensors")
    make_qwen3_moe(folder / "moe-float")
    quantize(folder / "llama-float", folder / "llama", "w8a8_dynamic", keep=["*.o_proj"])
    quantize(folder / "moe-float", folder / "moe", "w8a8_dynamic")
    quantize(folder / "moe-float", folder / "experts", "w8a8_dynamic", keep=["*.experts.*"])
    for name in ("llama", "moe", "experts"):
        _split(folder / name, load_file(folder / name / "model.safetensors"))
    return folder


@pytest.fixture(autouse=True, scope="module")
def overlay() -> Iterator[None]:
    pytest.importorskip("vllm.model_executor.model_loader")
    with (
        ascend_overlay.enabled(only=["quantization"], propagate=False),
        one_rank(),
        pytest.MonkeyPatch.context() as patch,
    ):
        # As vLLM's worker for CPUs does.
        patch.setattr(torch.accelerator, "empty_cache", lambda: None)
        yield


def _split(folder: Path, tensors: dict[str, Any]) -> None:
    """Write everything outside the layers to one file, and the layers to another."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    places = {}
    for number in (1, 2):
        name = f"model-{number:05}-of-00002.safetensors"
        part = {key: value for key, value in tensors.items() if (".layers." in key) == (number == 2)}
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def _load(model: Path, load_format: str = "auto") -> Any:
    from vllm.config import LoadConfig, ModelConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor.model_loader import get_model

    config = VllmConfig(
        model_config=ModelConfig(str(model), skip_tokenizer_init=True, dtype="bfloat16"),
        load_config=LoadConfig(load_format=load_format),
    )
    with set_current_vllm_config(config):
        return get_model(vllm_config=config)


Change = Callable[[Any], Any]


def _changed(folder: Path, to: Path, model: str, name: str, change: Change | None) -> Path:
    """Return a copy of a model with one tensor changed, or without it."""
    shutil.copytree(folder / model, to / model)
    tensors = {key: value for path in (folder / model).glob("*.safetensors") for key, value in load_file(path).items()}
    assert name in tensors
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name]).contiguous()
    _split(to / model, tensors)
    return to / model


def _longer(x: Any) -> Any:
    return torch.cat((x, x))


def _wider(x: Any) -> Any:
    return torch.cat((x, x), -1)


def _shorter(x: Any) -> Any:
    return x[: len(x) // 2]


@pytest.mark.parametrize("model", ["llama", "moe", "experts"])
def test_what_fits_is_loaded(folder: Path, model: str) -> None:
    assert {parameter.dtype for parameter in _load(folder / model).parameters()} >= {torch.int8, torch.bfloat16}


@pytest.mark.parametrize(
    ("model", "name", "change", "shapes"),
    [
        ("llama", f"{LAYER}.input_layernorm.weight", _longer, ((256,), (128,))),
        ("llama", f"{LAYER}.self_attn.q_proj.bias", _longer, ((256,), (128,))),
        ("llama", f"{LAYER}.self_attn.k_proj.bias", _shorter, ((32,), (64,))),
        ("llama", f"{LAYER}.self_attn.o_proj.weight", _longer, ((256, 128), (128, 128))),
        ("llama", f"{LAYER}.self_attn.o_proj.bias", _longer, ((256,), (128,))),
        ("llama", f"{LAYER}.self_attn.v_proj.weight", _longer, ((128, 128), (64, 128))),
        ("llama", f"{LAYER}.mlp.up_proj.weight_scale", _shorter, None),
        ("moe", f"{LAYER}.mlp.gate.weight", _longer, ((16, 128), (8, 128))),
        ("moe", f"{LAYER}.mlp.experts.3.up_proj.weight", _shorter, None),
        ("experts", f"{LAYER}.mlp.experts.3.up_proj.weight", _longer, None),
        ("experts", f"{LAYER}.mlp.experts.3.gate_proj.weight", _shorter, None),
        ("experts", f"{LAYER}.mlp.experts.3.down_proj.weight", _wider, None),
    ],
)
def test_another_shape_is_named_with_its_file(
    folder: Path, tmp_path: Path, model: str, name: str, change: Change, shapes: Any
) -> None:
    found = _changed(folder, tmp_path, model, name, change)
    with pytest.raises(CheckpointError) as raised:
        _load(found)
    text = str(raised.value)
    if shapes is None:
        tensors = [load_file(each / FILE)[name] for each in (found, folder / model)]
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
    assert f"has the shape {shapes[0]}" in text and f"for this model it is {shapes[1]}" in text
    assert f"{name} of {found / FILE}" in text


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
@pytest.mark.parametrize("change", [_longer, _shorter, _wider])
def test_an_embedding_of_another_size_is_named(folder: Path, tmp_path: Path, name: str, change: Change) -> None:
    found = _changed(folder, tmp_path, "llama", name, change)
    with pytest.raises(CheckpointError, match=rf"{name} has the shape .*; for this model it is .*00001-of-00002"):
        _load(found)


def test_an_embedding_that_is_also_the_output_layer_is_named_once(folder: Path, tmp_path: Path) -> None:
    found = _changed(folder, tmp_path, "llama", "lm_head.weight", None)
    config = json.loads((found / "config.json").read_text())
    (found / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert _load(found)
    tensors = load_file(found / "model-00001-of-00002.safetensors")
    tensors["model.embed_tokens.weight"] = _shorter(tensors["model.embed_tokens.weight"]).contiguous()
    save_file(tensors, found / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"^model\.embed_tokens\.weight has the shape"):
        _load(found)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (f"{LAYER}.self_attn.o_proj.weight", lambda x: x.to(torch.int8)),
        (f"{LAYER}.self_attn.q_proj.weight", lambda x: x.to(torch.bfloat16)),
        (f"{LAYER}.self_attn.q_proj.bias", lambda x: x.to(torch.int32)),
        (f"{LAYER}.input_layernorm.weight", lambda x: x.to(torch.int8)),
    ],
)
def test_another_dtype_is_named_with_its_file(folder: Path, tmp_path: Path, name: str, change: Change) -> None:
    found = _changed(folder, tmp_path, "llama", name, change)
    with pytest.raises(CheckpointError, match=rf"{name} is torch\.\w+ in the checkpoint.* is {name} of .*{FILE}"):
        _load(found)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_integers_are_not_taken_for_an_embedding(folder: Path, tmp_path: Path, name: str) -> None:
    found = _changed(folder, tmp_path, "llama", name, lambda x: x.to(torch.int8))
    with pytest.raises(CheckpointError, match=rf"{name} is torch\.int8 in the .* is {name} of .*00001-of-00002"):
        _load(found)


def test_integers_are_not_taken_for_what_the_model_loads_in_its_own_way() -> None:
    """As the router of DeepSeek, which has no quantization method, or the states of a Mamba layer."""
    from ascend_overlay.overlays.quantization import weights

    model = torch.nn.Linear(4, 8)
    model.weight.weight_loader = print
    with pytest.raises(CheckpointError, match=r"weight is torch\.int8 .* computes with torch\.float32 there"):
        next(iter(weights._Passing([("weight", torch.ones(8, 4, dtype=torch.int8))], model)))


@pytest.mark.parametrize("model", ["moe", "experts"])
def test_an_expert_that_is_missing_is_named(folder: Path, tmp_path: Path, model: str) -> None:
    """One in float, too: vLLM takes a weight of all experts for loaded when that of one was."""
    name = f"{LAYER}.mlp.experts.3.up_proj.weight"
    with pytest.raises(CheckpointError, match=f"has no {name}, which the experts"):
        _load(_changed(folder, tmp_path, model, name, None))


def test_what_the_model_does_not_know_is_named_with_its_file(folder: Path, tmp_path: Path) -> None:
    found = _changed(folder, tmp_path, "llama", f"{LAYER}.input_layernorm.weight", lambda x: x)
    tensors = load_file(found / FILE) | {"model.layers.0.other.weight": torch.ones(3)}
    save_file(tensors, found / FILE)
    with pytest.raises(CheckpointError, match=rf"layers\.0\.other\.weight of .*{FILE}, torch\.float32 of the shape"):
        _load(found)


def test_the_shape_on_one_rank_is_not_taken_for_that_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import distributed

    from ascend_overlay.overlays.quantization import weights

    model = torch.nn.Linear(4, 8)
    model.weight.weight_loader = print
    passing = weights._Passing([("weight", torch.ones(12, 4))], model)
    next(iter(passing))
    monkeypatch.setattr(distributed, "get_tensor_model_parallel_world_size", lambda: 2)
    text = weights._sentence("weight of here", passing, "Model", AssertionError())
    assert text.startswith(
        "weight of here, torch.float32 of the shape (12, 4), cannot be loaded into Model, where one rank has the shape "
        "(8, 4): AssertionError."
    )
    monkeypatch.setattr(distributed, "get_tensor_model_parallel_world_size", lambda: 1)
    text = weights._sentence("weight of here", passing, "Model", AssertionError())
    assert text.startswith("weight of here has the shape (12, 4); for this model it is (8, 4).")


def test_a_damaged_file_is_named_and_no_tensor_of_it(folder: Path, tmp_path: Path) -> None:
    found = shutil.copytree(folder / "llama", tmp_path / "damaged")
    (found / FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"is not a safetensors file, or is cut short: .*header") as raised:
        _load(found)
    assert str(raised.value).startswith(str(found / FILE))


@pytest.mark.parametrize("load_format", ["sharded_state", "tensorizer", "runai_streamer_sharded"])
def test_a_format_that_goes_past_the_layers_is_refused(folder: Path, load_format: str) -> None:
    from types import SimpleNamespace

    from vllm.model_executor.model_loader.utils import initialize_model

    config = SimpleNamespace(
        load_config=SimpleNamespace(load_format=load_format), quant_config=SimpleNamespace(get_name=lambda: "ascend")
    )
    with pytest.raises(CheckpointError, match=f"load_format='{load_format}' writes weights past the layers"):
        initialize_model(config)


def test_weights_that_are_not_loaded_are_noted(folder: Path) -> None:
    _load(folder / "llama", "dummy")
    [note] = {text for _, text in ascend_overlay.ledger().notes if "load_format='dummy'" in text}
    assert note.startswith("no weights were loaded into quantized layers")


def test_the_streamers_tensors_are_looked_after_as_well(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from vllm.model_executor.model_loader.runai_streamer_loader import RunaiModelStreamerLoader

    def stream(loader: Any, config: Any, model: Any) -> Iterator[tuple[str, Any]]:
        for path in sorted(Path(config.model).glob("*.safetensors")):
            yield from load_file(path).items()

    monkeypatch.setattr(RunaiModelStreamerLoader, "get_all_weights", stream)
    assert _load(folder / "llama", "runai_streamer")
    name = f"{LAYER}.post_attention_layernorm.weight"
    with pytest.raises(CheckpointError, match=rf"{name} of .*{FILE} has the shape \(64,\)"):
        _load(_changed(folder, tmp_path / "a", "llama", name, _shorter), "runai_streamer")
    with pytest.raises(CheckpointError, match=rf"not initialized from checkpoint: .*{name}"):
        _load(_changed(folder, tmp_path / "b", "llama", name, None), "runai_streamer")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("self_attn.k_proj.kv_cache_scale", "self_attn.qkv_proj (QKVParallelLinear)"),
        ("self_attn.q_proj.smooth_scale", "self_attn.qkv_proj (QKVParallelLinear)"),
        ("mlp.up_proj.smooth_scale", "mlp.gate_up_proj (MergedColumnParallelLinear)"),
        ("mlp.down_proj.smooth_scale", "mlp.down_proj (RowParallelLinear)"),
        # Left in float.
        ("self_attn.o_proj.smooth_scale", "self_attn.o_proj (RowParallelLinear)"),
    ],
)
def test_a_tensor_that_its_layer_does_not_have_is_named_with_it(
    folder: Path, tmp_path: Path, name: str, layer: str
) -> None:
    model = tmp_path / "llama"
    shutil.copytree(folder / "llama", model)
    tensors = {key: value for path in model.glob("*.safetensors") for key, value in load_file(path).items()}
    _split(model, tensors | {f"{LAYER}.{name}": torch.ones(64, dtype=torch.bfloat16)})
    with pytest.raises(CheckpointError) as caught:
        _load(model)
    text = str(caught.value)
    assert f"{LAYER}.{name} of {model / FILE}, torch.bfloat16 of the shape (64,), is none of the tensors of" in text
    assert f"{LAYER}.{layer}, which by its type in the description has bias, weight" in text or "mlp" in name
    assert f"{LAYER}.{layer}" in text
