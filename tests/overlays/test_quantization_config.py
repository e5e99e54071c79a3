"""Which layer gets which scheme, by the description; and every wrong description or tensor is an error that says so."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layer_kit import configured, tensor

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import CheckpointError, OverlayError

torch = pytest.importorskip("torch")

from quantization_kit import SCHEMES, Checkpoint, config, load, rank  # noqa: E402

pytestmark = pytest.mark.vllm

NAME = "model.layers.0.mlp.down_proj"


@pytest.fixture(autouse=True, scope="module")
def overlay() -> Iterator[None]:
    """Have the overlay, and vLLM's configuration."""
    pytest.importorskip("vllm.model_executor.layers.linear")
    with ascend_overlay.enabled(only=["quantization"], propagate=False), configured():
        yield


def _config(types: dict[str, Any], packed: dict[str, list[str]] | None = None) -> Any:
    return config(Checkpoint(torch.bfloat16, types={f"{name}.weight": type_ for name, type_ in types.items()}), packed)


def _linear(made: Any, prefix: str, monkeypatch: pytest.MonkeyPatch, kind: str = "ReplicatedLinear") -> Any:
    from vllm.model_executor.layers import linear

    sizes = ([24, 24],) if kind == "MergedColumnParallelLinear" else (48,)
    with rank(monkeypatch, 0, 1):
        return getattr(linear, kind)(
            80, *sizes, bias=False, params_dtype=torch.bfloat16, quant_config=made, prefix=prefix
        )


def test_each_layer_has_the_scheme_of_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    made = _config({"a": "W8A8", "b": "W8A8_DYNAMIC", "c": "W8A16", "d": "FLOAT"})
    for prefix, type_ in (("a", "W8A8"), ("b", "W8A8_DYNAMIC"), ("c", "W8A16")):
        assert _linear(made, prefix, monkeypatch).quant_method.scheme.type == type_
    assert isinstance(_linear(made, "d", monkeypatch).quant_method, UnquantizedLinearMethod)


def test_names_are_matched_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantized layer model.layers.1.x beside model.layers.10.x and model.layers.1.x_extra, both in float."""
    made = _config({"layers.1.x": "W8A8", "layers.10.x": "FLOAT", "layers.1.x_extra": "FLOAT"})
    assert _linear(made, "layers.1.x", monkeypatch).quant_method.scheme.type == "W8A8"


def test_a_fused_layer_has_the_type_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = {"gate_up_proj": ["gate_proj", "up_proj"]}
    made = _config({"mlp.gate_proj": "W8A16", "mlp.up_proj": "W8A16"}, packed)
    layer = _linear(made, "mlp.gate_up_proj", monkeypatch, "MergedColumnParallelLinear")
    assert layer.quant_method.scheme.type == "W8A16"
    # Some models fuse what others have fused on disk.
    made = _config({"mlp.gate_up_proj": "W8A8"}, packed)
    layer = _linear(made, "mlp.gate_up_proj", monkeypatch, "MergedColumnParallelLinear")
    assert layer.quant_method.scheme.type == "W8A8"


def test_a_layer_that_is_fused_on_disk_too_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 6, 80, dtype=torch.bfloat16)
    for scheme in SCHEMES:
        checkpoint.add("mlp.gate_up_proj", scheme, tensor(1, 48, 80, dtype=torch.float32))
        made = config(checkpoint, {"gate_up_proj": ["gate_proj", "up_proj"]})
        layer = _linear(made, "mlp.gate_up_proj", monkeypatch, "MergedColumnParallelLinear")
        load(layer, checkpoint, ["mlp.gate_up_proj"])
        exact, _ = checkpoint.expected("mlp.gate_up_proj", x)
        torch.testing.assert_close(layer(x)[0].double(), exact, rtol=2**-8, atol=1e-3)


def test_parts_of_different_types_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _config({"mlp.gate_proj": "W8A8", "mlp.up_proj": "FLOAT"}, {"gate_up_proj": ["gate_proj", "up_proj"]})
    with pytest.raises(CheckpointError, match=r"'W8A8': mlp\.gate_proj\.weight; 'FLOAT': mlp\.up_proj\.weight"):
        _linear(made, "mlp.gate_up_proj", monkeypatch, "MergedColumnParallelLinear")


def test_a_layer_that_is_not_described_is_an_error_or_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    made = _config({"model.layers.0.mlp.down_proj": "W8A8"})
    with pytest.raises(CheckpointError) as caught:
        _linear(made, "model.layers.0.mlp.donw_proj", monkeypatch)
    text = str(caught.value)
    assert "has no entry for model.layers.0.mlp.donw_proj.weight" in text
    assert "Did you mean 'model.layers.0.mlp.down_proj.weight'" in text
    with monkeypatch.context() as patch:
        patch.setattr(settings, "_current", dataclasses.replace(settings.current(), strict=False))
        with pytest.warns(RuntimeWarning, match="It is taken as 'FLOAT'"):
            layer = _linear(made, "model.layers.0.mlp.donw_proj", monkeypatch)
    assert isinstance(layer.quant_method, UnquantizedLinearMethod)
    made = _config({"mlp.gate_proj": "W8A8"}, {"gate_up_proj": ["gate_proj", "up_proj"]})
    with pytest.raises(CheckpointError, match=r"no entry for mlp\.up_proj\.weight"):
        _linear(made, "mlp.gate_up_proj", monkeypatch, "MergedColumnParallelLinear")


def test_an_unknown_type_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CheckpointError, match=r"down_proj.weight is 'W8A9'.*There are: W8A16, W8A8, W8A8_DYNAMIC, W8A8_MIX"
    ):
        _linear(_config({NAME: "W8A9"}), NAME, monkeypatch)


@pytest.mark.parametrize("use_mla", [False, True])
def test_what_latent_attention_takes_apart_is_not_quantized_statically(
    use_mla: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.config import get_current_vllm_config

    monkeypatch.setattr(get_current_vllm_config().model_config, "use_mla", use_mla, raising=False)
    made = _config({"self_attn.kv_b_proj": "W8A8", "self_attn.o_proj": "W8A8"})
    _linear(made, "self_attn.o_proj", monkeypatch)
    if not use_mla:
        _linear(made, "self_attn.kv_b_proj", monkeypatch)
        return
    with pytest.raises(
        CheckpointError, match=r"self_attn\.kv_b_proj is quantized with a static scale.*Leave it in float"
    ):
        _linear(made, "self_attn.kv_b_proj", monkeypatch)


def test_names_are_mapped_to_those_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.models.utils import WeightsMapper

    made = _config({"model.visual.a": "FLOAT", "model.text.b": "W8A16"})
    made.apply_vllm_mapper(WeightsMapper(orig_to_new_prefix={"model.text.": "language_model.", "model.": ""}))
    assert _linear(made, "language_model.b", monkeypatch).quant_method.scheme.type == "W8A16"
    assert "visual.a" in made.description.weights


def test_embeddings_stay_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers import vocab_parallel_embedding as module

    monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
    made = _config({"model.embed_tokens": "FLOAT", "other": "W8A8"})
    for cls, prefix in ((module.VocabParallelEmbedding, "model.embed_tokens"), (module.ParallelLMHead, "lm_head")):
        layer = cls(128, 32, quant_config=made, prefix=prefix)
        assert isinstance(layer.quant_method, module.UnquantizedEmbeddingMethod)
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight is 'W8A8'.*leave the embedding in float"):
        module.VocabParallelEmbedding(
            128, 32, quant_config=_config({"model.embed_tokens": "W8A8"}), prefix="model.embed_tokens"
        )


def test_the_experts_of_a_layer_have_one_type() -> None:
    from vllm.model_executor.layers.fused_moe import RoutedExperts

    experts = object.__new__(RoutedExperts)
    types = {f"mlp.experts.{number}.{part}_proj": "FLOAT" for number in (0, 1, 10) for part in ("gate", "up", "down")}
    made = _config(types | {"mlp.experts_of_others.0": "W8A8"})
    for prefix in ("mlp.experts", "mlp.experts.routed_experts"):
        assert made.get_quant_method(experts, prefix) is None
    with pytest.raises(CheckpointError, match=r"'FLOAT': .* and 5 more; 'W8A8': mlp\.experts\.10\.down_proj\.weight"):
        _config(types | {"mlp.experts.10.down_proj": "W8A8"}).get_quant_method(experts, "mlp.experts")
    with pytest.raises(CheckpointError, match=r"no entry for any weight of mlp\.experts"):
        _config({"a": "FLOAT"}).get_quant_method(experts, "mlp.experts")
    with pytest.raises(CheckpointError, match=r"experts\.0\.down_proj\.weight is 'W8A9'.*for routed experts"):
        _config(dict.fromkeys(types, "W8A9")).get_quant_method(experts, "mlp.experts")


@pytest.mark.parametrize(
    ("entries", "in_float"),
    [
        ({"mlp.router.weight": "FLOAT", "mlp.experts.gate_up_proj": "FLOAT"}, True),
        ({"moe.x.weight": "W8A8", "mlp.experts.gate_up_proj": "FLOAT"}, True),
        ({"mlp.input_linear.weight": "FLOAT", "mlp.output_linear.weight": "FLOAT"}, True),
        ({"mlp.input_linear.weight": "FLOAT", "mlp.shared_expert.up_proj.weight": "W8A8"}, True),
        ({"mlp.router.weight": "FLOAT", "mlp.input_linear.weight": "W8A8_DYNAMIC"}, False),
        ({"other.router.weight": "FLOAT", "mlp2.experts.gate_up_proj": "FLOAT"}, False),
    ],
)
def test_experts_under_other_names_are_in_float_if_all_of_their_module_is(
    entries: dict[str, str], in_float: bool
) -> None:
    from vllm.model_executor.layers.fused_moe import RoutedExperts

    made, experts = config(Checkpoint(torch.bfloat16, types=entries)), RoutedExperts.__new__(RoutedExperts)
    if in_float:
        assert made.get_quant_method(experts, "mlp.experts.routed_experts") is None
    else:
        with pytest.raises(CheckpointError, match=r"no entry for any weight of mlp\.experts"):
            made.get_quant_method(experts, "mlp.experts.routed_experts")


def test_it_reaches_other_processes_whole() -> None:
    made = pickle.loads(pickle.dumps(_config({NAME: "W8A8"}, {"a": ["b"]})))
    assert made.description.weights == {NAME: "W8A8"}
    assert made.packed_modules_mapping == {"a": ["b"]}
    assert dict(made.description.below("model")) == {NAME: "W8A8"}


# What is wrong with a tensor -> the sentence about it.
_WRONG: dict[str, tuple[str, str, Any, str]] = {
    "float weight": (
        "W8A8",
        "weight",
        lambda t: t.to(torch.bfloat16),
        r"down_proj\.weight is torch\.bfloat16 .* torch\.int8",
    ),
    "bias of another dtype": (
        "W8A8",
        "quant_bias",
        lambda t: t.float(),
        r"quant_bias is torch\.float32 .* torch\.int32",
    ),
    "too many outputs": (
        "W8A16",
        "weight",
        lambda t: torch.cat([t, t]),
        r"weight has the shape \(96, 80\) .* \(48, 80\)",
    ),
    "too few inputs": ("W8A8_DYNAMIC", "weight", lambda t: t[:, :40], r"weight has the shape \(48, 40\) .* \(48, 80\)"),
    "scales by tensor": ("W8A16", "weight_scale", lambda t: t[:1], r"weight_scale has the shape \(1, 1\)"),
    "no weight": (
        "W8A8",
        "weight",
        None,
        r"has no model\.layers\.0\.mlp\.down_proj\.weight, which the layer",
    ),
    "no weight of a layer in float": ("FLOAT", "weight", None, r"has no .*down_proj\.weight, which the layer"),
    "too wide a weight in float": ("FLOAT", "weight", lambda t: t.repeat(2, 1), r"weight has the shape \(96, 80\)"),
    "a layer in float that is quantized": (
        "FLOAT",
        "weight",
        lambda t: t.to(torch.int8),
        r"down_proj\.weight is torch\.int8 in the checkpoint; a layer of its type has torch\.bfloat16",
    ),
    "no scale": ("W8A8_DYNAMIC", "weight_scale", None, r"has no .*down_proj\.weight_scale"),
    "no input scale": ("W8A8", "input_scale", None, r"has no .*down_proj\.input_scale"),
    "no offset": ("W8A8", "input_offset", None, r"has no .*down_proj\.input_offset"),
    "scale of NaN": ("W8A8_DYNAMIC", "weight_scale", lambda t: t * float("nan"), "down_proj.weight_scale holds nan"),
    "input scale of zero": ("W8A8", "input_scale", lambda t: t * 0, "down_proj.input_scale holds 0"),
    "offset that is no number of int8": (
        "W8A8",
        "input_offset",
        lambda t: t.float() + 0.5,
        "input_offset is .* no whole number",
    ),
    "asymmetric weights": ("W8A8", "weight_offset", lambda t: t + 1, "weight_offset is not zero everywhere"),
    "asymmetric weights, dynamic": ("W8A8_DYNAMIC", "weight_offset", lambda t: t + 1, "weight_offset is not zero"),
}


@pytest.mark.parametrize("case", _WRONG)
@pytest.mark.parametrize("kind", ["ReplicatedLinear", "ColumnParallelLinear", "RowParallelLinear"])
def test_a_wrong_tensor_is_named(case: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme, last, change, message = _WRONG[case]
    checkpoint = Checkpoint(torch.bfloat16)
    checkpoint.add(NAME, scheme, tensor(1, 48, 80, dtype=torch.float32))
    made = config(checkpoint)
    if change is None:
        del checkpoint.tensors[f"{NAME}.{last}"]
    else:
        checkpoint.tensors[f"{NAME}.{last}"] = change(checkpoint.tensors[f"{NAME}.{last}"])
    layer = _linear(made, NAME, monkeypatch, kind)
    made.weights_were_loaded = True  # into other layers
    with pytest.raises(CheckpointError, match=message):
        load(layer, checkpoint, [NAME])


def test_a_layer_in_float_is_vllms_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    for kind in ("ReplicatedLinear", "ColumnParallelLinear", "RowParallelLinear", "MergedColumnParallelLinear"):
        checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 6, 80, dtype=torch.bfloat16)
        merged = kind == "MergedColumnParallelLinear"
        modules = ["mlp.gate_proj", "mlp.up_proj"] if merged else [NAME]
        for number, module in enumerate(modules):
            checkpoint.add(module, "FLOAT", tensor(number, 24 if merged else 48, 80, dtype=torch.float32))
        made = config(checkpoint, {"gate_up_proj": ["gate_proj", "up_proj"]})
        layer = _linear(made, "mlp.gate_up_proj" if merged else NAME, monkeypatch, kind)
        assert isinstance(layer.quant_method, UnquantizedLinearMethod)
        load(layer, checkpoint, modules, [0, 1] if merged else [None])
        weight = torch.cat([checkpoint.tensors[f"{module}.weight"] for module in modules])
        torch.testing.assert_close(layer(x)[0], torch.nn.functional.linear(x, weight))


def test_a_weight_in_float_that_is_missing_can_be_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _config({NAME: "FLOAT"})
    layer = _linear(made, NAME, monkeypatch)
    layer.weight.data.zero_()
    made.weights_were_loaded = True
    monkeypatch.setattr(settings, "_current", dataclasses.replace(settings.current(), strict=False))
    with pytest.warns(RuntimeWarning, match=r"has no .*down_proj\.weight, .* It is left as it is"):
        layer.quant_method.process_weights_after_loading(layer)


def test_neither_scale_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(torch.bfloat16)
    checkpoint.add(NAME, "W8A8", tensor(1, 48, 80, dtype=torch.float32))
    for last in ("deq_scale", "weight_scale"):
        del checkpoint.tensors[f"{NAME}.{last}"]
    with pytest.raises(CheckpointError, match=r"neither .*down_proj\.deq_scale nor .*down_proj\.weight_scale"):
        load(_linear(config(checkpoint), NAME, monkeypatch), checkpoint, [NAME])


def _gate_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Checkpoint, list[str]]:
    checkpoint, modules = Checkpoint(torch.bfloat16), ["mlp.gate_proj", "mlp.up_proj"]
    for number, module in enumerate(modules):
        checkpoint.add(module, scheme, tensor(number, 24, 80, dtype=torch.float32))
    made = config(checkpoint, {"gate_up_proj": ["gate_proj", "up_proj"]})
    return _linear(made, "mlp.gate_up_proj", monkeypatch, "MergedColumnParallelLinear"), checkpoint, modules


@pytest.mark.parametrize(("last", "change"), [("input_scale", lambda t: t * 2), ("input_offset", lambda t: t + 1)])
def test_parts_that_were_calibrated_apart_are_named(last: str, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, checkpoint, modules = _gate_up("W8A8", monkeypatch)
    checkpoint.tensors[f"{modules[1]}.{last}"] = change(checkpoint.tensors[f"{modules[1]}.{last}"])
    wanted = rf"mlp\.gate_proj\.{last} = .*, mlp\.up_proj\.{last} = .*\. Calibrate them together"
    with pytest.raises(CheckpointError, match=wanted):
        load(layer, checkpoint, modules, [0, 1])


def test_a_part_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for last in ("weight", "quant_bias", "input_scale"):
        layer, checkpoint, modules = _gate_up("W8A8", monkeypatch)
        del checkpoint.tensors[f"mlp.up_proj.{last}"]
        with pytest.raises(CheckpointError, match=rf"has no mlp\.up_proj\.{last}, which the layer mlp\.gate"):
            load(layer, checkpoint, modules, [0, 1])


def test_a_part_of_another_size_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, checkpoint, modules = _gate_up("W8A16", monkeypatch)
    checkpoint.tensors["mlp.up_proj.weight"] = checkpoint.tensors["mlp.up_proj.weight"].repeat(2, 1)
    with pytest.raises(CheckpointError, match=r"mlp\.up_proj\.weight has the shape \(48, 80\) .* \(24, 80\)"):
        load(layer, checkpoint, modules, [0, 1])


@pytest.mark.parametrize(
    ("last", "change"),
    [
        ("weight_scale", lambda t: t.flatten()),
        ("weight_scale", lambda t: t.float()),
        ("deq_scale", lambda t: t[:, None]),
        ("deq_scale", lambda t: t.view(torch.int32).long()),
        ("quant_bias", lambda t: t[None]),
        ("input_scale", lambda t: t[0]),
        ("input_scale", lambda t: t.float()),
        ("input_offset", lambda t: t.bfloat16()),
        ("input_offset", lambda t: t.int()),
        ("weight_offset", lambda t: t.to(torch.int8)),
    ],
)
def test_other_forms_of_the_same_numbers_are_taken(last: str, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 6, 80, dtype=torch.bfloat16)
    checkpoint.add(NAME, "W8A8", tensor(1, 48, 80, dtype=torch.float32))
    wanted = load(_linear(config(checkpoint), NAME, monkeypatch), checkpoint, [NAME])(x)[0]
    checkpoint.tensors[f"{NAME}.{last}"] = change(checkpoint.tensors[f"{NAME}.{last}"])
    got = load(_linear(config(checkpoint), NAME, monkeypatch), checkpoint, [NAME])(x)[0]
    assert torch.equal(got, wanted)


def test_an_input_scale_without_a_reciprocal_in_float16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    checkpoint = Checkpoint(torch.float16)
    checkpoint.add(NAME, "W8A8", tensor(1, 48, 80, dtype=torch.float32))
    for scale, holds in ((2e-5, True), (1e-5, False)):
        checkpoint.tensors[f"{NAME}.input_scale"] = torch.tensor([scale])
        with rank(monkeypatch, 0, 1):
            layer = ReplicatedLinear(
                80, 48, bias=False, params_dtype=torch.float16, quant_config=config(checkpoint), prefix=NAME
            )
        if holds:
            load(layer, checkpoint, [NAME])
        else:
            with pytest.raises(CheckpointError, match=r"down_proj is 1e-05, .* reciprocal, which torch\.float16 does"):
                load(layer, checkpoint, [NAME])


def test_the_scale_of_a_model_in_float16_may_be_a_plain_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    checkpoint, x = Checkpoint(torch.float16), tensor(5, 6, 80, dtype=torch.float16)
    checkpoint.add(NAME, "W8A8", tensor(1, 48, 80, dtype=torch.float32))
    carried = checkpoint.tensors[f"{NAME}.deq_scale"]
    assert carried.dtype == torch.int64
    results = []
    for form in (carried, carried.int().view(torch.float32)):
        checkpoint.tensors[f"{NAME}.deq_scale"] = form
        with rank(monkeypatch, 0, 1):
            layer = ReplicatedLinear(
                80, 48, bias=False, params_dtype=torch.float16, quant_config=config(checkpoint), prefix=NAME
            )
        results.append(load(layer, checkpoint, [NAME])(x)[0])
    assert torch.equal(*results)


def _model(folder: Path, types: dict[str, Any] | None, **entries: Any) -> str:
    folder.mkdir(exist_ok=True)
    content = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(content | entries))
    if types is not None:
        (folder / "quant_model_description.json").write_text(json.dumps(types))
    return str(folder)


_TYPES = {"model.layers.0.mlp.down_proj.weight": "W8A8"}


def _configuration(model: str, **arguments: Any) -> Any:
    from vllm.config import ModelConfig, VllmConfig

    return VllmConfig(model_config=ModelConfig(model, skip_tokenizer_init=True, **arguments))


def test_a_description_beside_the_model_is_found_without_being_asked_for(tmp_path: Path) -> None:
    made = _configuration(_model(tmp_path, _TYPES))
    assert made.model_config.quantization == "ascend"
    assert made.quant_config.description.weights == {"model.layers.0.mlp.down_proj": "W8A8"}
    assert made.quant_config.get_name() == "ascend"
    asked = _configuration(_model(tmp_path, _TYPES), quantization="ascend")
    assert asked.quant_config.description == made.quant_config.description
    notes = [text for _, text in ascend_overlay.ledger().notes]
    assert any("so the quantization method is 'ascend'" in text and str(tmp_path) in text for text in notes)


def test_other_models_are_left_alone(tmp_path: Path) -> None:
    assert _configuration(_model(tmp_path, None)).quant_config is None


def test_a_quantization_config_without_a_method_gives_way(tmp_path: Path) -> None:
    model = _model(tmp_path, _TYPES, quantization_config={"bits": 8})
    assert _configuration(model).model_config.quantization == "ascend"
    assert _configuration(model, quantization="ascend").model_config.quantization == "ascend"


@pytest.mark.parametrize(
    "stale",
    [
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
        {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}},
        {"compression_config": {"quant_method": "compressed-tensors", "config_groups": {}}},
    ],
)
def test_what_config_json_says_of_the_original_gives_way(tmp_path: Path, stale: dict[str, Any]) -> None:
    model = _model(tmp_path, _TYPES, **stale)
    made = _configuration(model)
    assert made.model_config.quantization == "ascend"
    assert made.quant_config.description.weights == {"model.layers.0.mlp.down_proj": "W8A8"}
    [entry] = stale.values()
    notes = [text for _, text in ascend_overlay.ledger().notes if str(tmp_path) in text]
    assert any(f"whatever config.json says of {entry['quant_method']!r}" in text for text in notes), notes
    assert _configuration(model, quantization="ascend").model_config.quantization == "ascend"


def test_another_method_that_is_asked_for_is_not_overruled(tmp_path: Path) -> None:
    from vllm.config import ModelConfig

    entry = {"quant_method": "awq", "bits": 4, "group_size": 128}
    model = _model(tmp_path, _TYPES, quantization_config=entry)
    assert ModelConfig(model, skip_tokenizer_init=True, quantization="awq").quantization == "awq"
    (tmp_path / "quant_model_description.json").unlink()
    assert ModelConfig(model, skip_tokenizer_init=True).quantization != "ascend"


@pytest.mark.parametrize("name", ["quant_model_description.json", "quant_model_description_w8a8_dynamic.json"])
@pytest.mark.parametrize("network", [True, False])
def test_a_model_of_a_hub_has_its_description_under_either_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, network: bool
) -> None:
    import huggingface_hub
    from vllm.transformers_utils import repo_utils

    from ascend_overlay.overlays.quantization import detection

    (tmp_path / name).write_text(json.dumps(_TYPES))
    (tmp_path / "config.json").write_text("{}")
    asked = []

    def cached(model: str, file: str, revision: str | None = "main") -> Path | None:
        assert (model, revision) == ("some/model", "v2")
        return None if network or not (tmp_path / file).exists() else tmp_path / file

    def listed(model: str, *, revision: str | None = None) -> list[str]:
        return ["config.json", name, "original/quant_model_description_w8a8.json"] if network else []

    def download(model: str, file: str, *, revision: str | None = None) -> str:
        asked.append((model, file, revision))
        return str(tmp_path / file)

    monkeypatch.setattr(repo_utils, "try_get_local_file", cached)
    monkeypatch.setattr(repo_utils, "list_repo_files", listed)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert detection.load("some/model", "v2").weights == {"model.layers.0.mlp.down_proj": "W8A8"}
    assert asked == ([("some/model", name, "v2")] if network else [])


def test_a_model_of_a_hub_with_several_descriptions_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.transformers_utils import repo_utils

    from ascend_overlay.overlays.quantization import detection

    names = ["quant_model_description_w8a8.json", "quant_model_description_w4a8.json"]
    monkeypatch.setattr(repo_utils, "try_get_local_file", lambda *_: None)
    monkeypatch.setattr(repo_utils, "list_repo_files", lambda *_, **__: names)
    with pytest.raises(
        CheckpointError, match=r"some/model has several descriptions: .*w4a8\.json, .*w8a8\.json\. Rename"
    ):
        detection.find("some/model", None)


def test_a_model_without_a_description_is_an_error_if_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"which is not in .*leave out --quantization"):
        _configuration(_model(tmp_path, None), quantization="ascend")


def test_float32_is_refused_by_vllm(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float32 is not supported for quantization method ascend"):
        _configuration(_model(tmp_path, _TYPES), dtype="float32")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kv_cache_type": "C8"}, "kv_cache_type = 'C8': the checkpoint is made for a quantized KV cache"),
        ({"kv_quant_type": "C8"}, "quantized KV cache"),
        ({"fa_quant_type": "FAKQuant"}, "attention with quantized operands"),
        ({"model.layers.0.self_attn.indexer.quant_type": "INT8_DYNAMIC"}, "quantized indexer"),
    ],
)
def test_what_the_method_does_not_do_is_refused(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        _configuration(_model(tmp_path, _TYPES | entry))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"optional.quarot.rotation_map.global_rotation": "optional/q.safetensors"},
            "names a rotation, optional/q.saf",
        ),
        ({"optional": {"quarot": {"rotation_map": {"global_rotation": "q.safetensors"}}}}, "names a rotation, q.safet"),
        ({"optional": {"novel": {"thing": 3}}}, "has entries that nothing reads: optional.novel.thing"),
        ({"novel": True}, "has entries that nothing reads: novel"),
        ({"model.layers.0.mlp.other.novel_scale": "W8A8"}, "nothing reads: model.layers.0.mlp.other.novel_scale"),
    ],
)
def test_what_nothing_reads_is_in_the_ledger(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    ascend_overlay.api._engine._state.notes.clear()
    usual = {"version": "1.0.0", "model_quant_type": "W8A8", "group_size": 0, "kv_cache_type": None}
    usual |= {"model.layers.0.mlp.down_proj.weight_scale": "W8A8", "model.layers.0.A_log": "FLOAT"}
    _configuration(_model(tmp_path, _TYPES | usual))
    assert not [text for _, text in ascend_overlay.ledger().notes if "is there, so" not in text]
    _configuration(_model(tmp_path, _TYPES | usual | entry))
    assert [text for _, text in ascend_overlay.ledger().notes if message in text]


def test_what_is_switched_off_is_not_refused(tmp_path: Path) -> None:
    off = {"kv_cache_type": None, "kv_quant_type": "", "fa_quant_type": "FLOAT", "group_size": 0}
    assert _configuration(_model(tmp_path, _TYPES | off)).quant_config is not None


def test_the_key_of_compiled_graphs_follows_the_types(tmp_path: Path) -> None:
    """vLLM itself counts the name of the method only: one folder, quantized anew, would get the graphs of before."""
    plain = _configuration(_model(tmp_path, _TYPES)).compute_hash()
    assert _configuration(_model(tmp_path, _TYPES)).compute_hash() == plain
    changed = _TYPES | {"model.layers.0.mlp.down_proj.weight": "W8A8_DYNAMIC"}
    assert _configuration(_model(tmp_path, changed)).compute_hash() != plain


def test_afterwards_vllm_knows_no_such_method(tmp_path: Path) -> None:
    from vllm.model_executor.layers import quantization

    ascend_overlay.disable(only=["quantization"])
    try:
        assert "ascend" not in quantization.QUANTIZATION_METHODS
        assert _configuration(_model(tmp_path, _TYPES)).quant_config is None
        with pytest.raises(ValueError, match="Unknown quantization method"):
            _configuration(_model(tmp_path, _TYPES), quantization="ascend")
    finally:
        ascend_overlay.enable(only=["quantization"], propagate=False)


def test_errors_are_those_of_the_package() -> None:
    assert issubclass(CheckpointError, OverlayError)
