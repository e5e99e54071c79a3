"""What the quantizer refuses, and what it says then."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import quantize_kit as kit
import torch
from safetensors.torch import save_file

from ascend_overlay.commands.quantize import calibration, observe, prompts, rules
from ascend_overlay.commands.quantize.checkpoint import Checkpoint, read
from ascend_overlay.commands.quantize.linears import Linears
from ascend_overlay.commands.quantize.run import plan, quantize
from ascend_overlay.errors import ConfigError, QuantizeError

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return kit.write(tmp_path / "model", kit.llama(), shards=2)


def choices(model: Path, scheme: str = "w8a8_dynamic", *keep: str) -> dict[str, rules.Choice]:
    return plan(model, scheme, keep).choices


def changed(folder: Path, **tensors: torch.Tensor) -> Path:
    return kit.write(folder, {**kit.llama(), **tensors})


# The model


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"'.*/absent' is not a folder.*hf download"):
        plan(tmp_path / "absent", "w8a16")


def test_no_config(model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(QuantizeError, match=r"config\.json does not exist"):
        plan(model, "w8a16")


@pytest.mark.parametrize(("text", "says"), [("{", "cannot be read as JSON"), ("[]", "does not hold a JSON object")])
def test_a_broken_config(model: Path, text: str, says: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(QuantizeError, match=says):
        plan(model, "w8a16")


def test_no_safetensors(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with pytest.raises(QuantizeError, match="has no safetensors file"):
        plan(model, "w8a16")
    (model / "pytorch_model.bin").touch()
    with pytest.raises(QuantizeError, match=r"no safetensors file, but pytorch_model\.bin: convert it"):
        plan(model, "w8a16")


def test_files_that_are_missing_or_not_named(model: Path) -> None:
    index = model / "model.safetensors.index.json"
    (model / "model-00002-of-00002.safetensors").rename(model / "elsewhere")
    with pytest.raises(QuantizeError, match=r"model-00002-of-00002\.safetensors does not exist, but .* names it"):
        plan(model, "w8a16")
    (model / "elsewhere").rename(model / "model-00002-of-00002.safetensors")
    text = index.read_text()
    index.write_text('{"weight_map": {}}')
    with pytest.raises(QuantizeError, match="has no weight_map"):
        plan(model, "w8a16")
    index.write_text(text.replace("model-00002-of-00002", "../model-00002-of-00002"))
    with pytest.raises(QuantizeError, match="which is not in its own folder"):
        plan(model, "w8a16")
    places = json.loads(text)["weight_map"]
    index.write_text(json.dumps({"weight_map": {**places, "ghost": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(QuantizeError, match="says that 'ghost' is in model-00001"):
        plan(model, "w8a16")
    index.write_text(json.dumps({"weight_map": {name: places[name] for name in list(places)[1:]}}))
    with pytest.raises(QuantizeError, match=r"which model\.safetensors\.index\.json does not name"):
        plan(model, "w8a16")
    index.unlink()
    with pytest.raises(QuantizeError, match=r"has 2 safetensors files and no model\.safetensors\.index\.json"):
        plan(model, "w8a16")


def test_damaged_files(tmp_path: Path) -> None:
    model = kit.write(tmp_path / "model", kit.llama())
    path = model / "model.safetensors"
    data = path.read_bytes()
    for damaged, says in [
        (data[:-1], "ends before the tensor"),
        (data[:5], "is cut short"),
        (data[:100], "is cut short|is not one of safetensors"),
        (b"", "is cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "is a pointer of git-lfs"),
        (b"PK\x03\x04 a zip file, for example of torch.save", "is not a safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "has a header that is not one of safetensors"),
        (data.replace(b'"shape":[16,16]', b'"shape":[16,61]', 1), "is not that of its shape and dtype"),
    ]:
        path.write_bytes(damaged)
        with pytest.raises(QuantizeError, match=says):
            plan(model, "w8a16")


def test_a_tensor_in_two_files(model: Path) -> None:
    path = model / "model-00002-of-00002.safetensors"
    save_file({**kit.load(model), Q: torch.ones(16, 16)}, path)
    with pytest.raises(QuantizeError, match=r"is both in .*model-00001-of-00002\.safetensors and in model-00002"):
        plan(model, "w8a16")


def test_a_dtype_that_nobody_serves(tmp_path: Path) -> None:
    model = kit.write(tmp_path / "model", kit.llama(), torch_dtype="float64")
    with pytest.raises(QuantizeError, match="a dtype other than bfloat16, float16 and float32"):
        plan(model, "w8a16")


@pytest.mark.parametrize(
    ("config", "dtype", "expected"),
    [
        ({}, torch.float16, "BF16"),  # of config.json
        ({"torch_dtype": "float16"}, torch.bfloat16, "F16"),
        ({"torch_dtype": "float32"}, torch.float32, "BF16"),
        ({"torch_dtype": None, "text_config": {"dtype": "float16"}}, torch.bfloat16, "F16"),
        ({"torch_dtype": None}, torch.float16, "F16"),
        ({"dtype": "torch.float16"}, torch.bfloat16, "F16"),
    ],
)
def test_the_dtype_is_that_of_serving(
    tmp_path: Path, config: dict[str, Any], dtype: torch.dtype, expected: str
) -> None:
    assert read(kit.write(tmp_path / "model", kit.llama(dtype), **config)).dtype == expected


@pytest.mark.parametrize(
    ("config", "tensors", "says"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, {}, "config.json has a quantization_config"),
        ({"compression_config": {"a": 1}}, {}, "config.json has a compression_config"),
        ({}, {Q: torch.ones(16, 16, dtype=torch.int8)}, f"it has the tensor '{Q}' of dtype I8"),
        ({}, {Q: torch.ones(16, 16, dtype=torch.float8_e4m3fn)}, f"it has the tensor '{Q}' of dtype F8_E4M3"),
        ({}, {f"{Q}_scale": torch.ones(16, 1)}, f"it has the tensor '{Q}_scale'"),
        ({}, {f"{Q}_scale_inv": torch.ones(1, 1)}, f"it has the tensor '{Q}_scale_inv'"),
    ],
)
def test_a_model_that_is_quantized_already(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], says: str
) -> None:
    model = kit.write(tmp_path / "model", {**kit.llama(), **tensors}, **config)
    with pytest.raises(QuantizeError, match=f"is quantized already: {says}.*Pass the model in float"):
        plan(model, "w8a16")


def test_our_own_output_is_quantized_already(model: Path, tmp_path: Path) -> None:
    quantize(model, tmp_path / "out", "w8a8_dynamic")
    with pytest.raises(QuantizeError, match=r"is quantized already: it has a quant_model_description\.json"):
        plan(tmp_path / "out", "w8a8_dynamic")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [Q, "model.layers.1.self_attn.k_proj.bias"])
def test_weights_that_are_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    tensors = kit.llama(bias=True)
    tensors[name].view(-1)[5] = value
    model = kit.write(tmp_path / "model", tensors)
    lines = tmp_path / "lines.txt"
    lines.write_text("a\n")
    monkeypatch.setattr(
        calibration,
        "observe",
        lambda _, names, *__: calibration.Calibration(dict.fromkeys(names, (-1, 1)), 1, 1, 0),
    )
    with pytest.raises(QuantizeError, match=rf"the tensor '{name}' in .*model\.safetensors holds NaN or infinite"):
        quantize(model, tmp_path / "out", "w8a8", calibrate=lines)
    assert not list((tmp_path / "out").glob("*.safetensors"))


# The rules


def test_matrices_that_the_rules_do_not_know(tmp_path: Path) -> None:
    model = changed(
        tmp_path / "model",
        **{
            "model.layers.0.mixer.in_proj.weight": torch.ones(4, 4),
            "model.layers.1.mixer.in_proj.weight": torch.ones(4, 4),
            "model.layers.0.mlp.experts.gate_up_proj": torch.ones(2, 4, 4),
        },
    )
    with pytest.raises(QuantizeError) as error:
        plan(model, "w8a16")
    text = str(error.value)
    assert "has 3 tensors in decoder layers that the rules do not know as linear layers: " in text
    assert "model.layers.*.mixer.in_proj.weight [4, 4]" in text
    assert "model.layers.*.mlp.experts.gate_up_proj [2, 4, 4]" in text
    found = choices(model, "w8a16", "*.in_proj", "*.experts.gate_up_proj")
    assert found["model.layers.1.mixer.in_proj.weight"] == rules.Choice("FLOAT", "--keep *.in_proj")
    assert found[Q].type == "W8A16"


@pytest.mark.parametrize(
    "name",
    [
        "visual.blocks.0.attn.qkv.weight",
        "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight",
        "model.audio_encoder.layers.0.fc1.weight",
        "multi_modal_projector.layers.0.fc1.weight",
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.0.mlp.gate.weight",
        "model.layers.0.block_sparse_moe.gate.weight",
        "model.layers.0.mlp.router.weight",
        "model.layers.0.mlp.shared_expert_gate.weight",
        "model.layers.0.self_attn.kv_b_proj.weight",
        "model.layers.0.self_attn.indexer.wq_b.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.linear_attn.conv1d.weight",
    ],
)
def test_matrices_that_stay_in_float(tmp_path: Path, name: str) -> None:
    found = choices(changed(tmp_path / "model", **{name: torch.ones(4, 4)}))
    assert found[name].type == "FLOAT" and found[name].reason


@pytest.mark.parametrize(
    "name",
    [
        "model.language_model.layers.0.mlp.up_proj.weight",
        "transformer.h.1.mlp.dense_4h_to_h.weight",
        "model.layers.0.block_sparse_moe.experts.3.w2.weight",
        "model.layers.0.mlp.shared_expert.down_proj.weight",
        "model.layers.0.self_attn.qkv_proj.weight",
    ],
)
def test_matrices_that_are_quantized(tmp_path: Path, name: str) -> None:
    assert choices(changed(tmp_path / "model", **{name: torch.ones(4, 4)}))[name] == rules.Choice("W8A8_DYNAMIC")


def test_keep(model: Path) -> None:
    found = choices(model, "w8a8_dynamic", "model.layers.0.*", "*.down_proj")
    kept = {name for name, choice in found.items() if choice.reason.startswith("--keep")}
    assert len(kept) == 8 and "model.layers.1.mlp.down_proj.weight" in kept
    assert found["model.layers.1.mlp.up_proj.weight"].type == "W8A8_DYNAMIC"


def test_keep_of_nothing(model: Path) -> None:
    with pytest.raises(QuantizeError, match=r"--keep 'model\.layers\.0\.mlp\.down_prj' matches no layer.*Did you mean"):
        choices(model, "w8a8_dynamic", "model.layers.0.mlp.down_prj")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*.q_proj", r"q_proj in float but not .*[kv]_proj.*Keep all 3 layers.*--keep '\*\.[kv]_proj' as well"),
        ("*.0.mlp.up_proj", r"up_proj in float but not model\.layers\.0\.mlp\.gate_proj.*Keep all 2 layers"),
    ],
)
def test_keep_of_a_part_of_a_fused_layer(model: Path, pattern: str, says: str) -> None:
    with pytest.raises(QuantizeError, match=says):
        choices(model, "w8a8_dynamic", pattern)


def test_keep_of_one_expert(tmp_path: Path) -> None:
    model = kit.write(tmp_path / "model", kit.moe(), num_hidden_layers=1)
    with pytest.raises(QuantizeError, match="Keep all 9 layers that belong together"):
        choices(model, "w8a8_dynamic", "*.experts.1.*")
    assert choices(model, "w8a8_dynamic", "*.experts.[0-9].*")["model.layers.0.mlp.experts.1.up_proj.weight"].reason


def test_nothing_to_quantize(model: Path) -> None:
    with pytest.raises(QuantizeError, match="has no linear layer that w8a16 would quantize"):
        choices(model, "w8a16", "model.layers.*")


def test_no_such_scheme(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"no scheme 'w8a8_dynamc'; there are w8a8,.*Did you mean 'w8a8_dyn"):
        plan(model, "w8a8_dynamc")


# Where it is written


def test_nothing_is_overwritten(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    with pytest.raises(QuantizeError, match="is not empty and was not written by ascend-overlay quantize"):
        quantize(model, out, "w8a16")
    assert [path.name for path in out.iterdir()] == ["precious"]
    with pytest.raises(QuantizeError, match="is a file, and nothing is overwritten"):
        quantize(model, out / "precious", "w8a16")
    with pytest.raises(QuantizeError, match=r"cannot be made|is a file|Not a directory"):
        quantize(model, out / "precious" / "below", "w8a16")
    assert (out / "precious").read_text() == "mine"


def test_an_empty_folder_is_taken(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    quantize(model, tmp_path / "out", "w8a16")


@pytest.mark.parametrize("below", [".", "below"])
def test_not_into_the_model(model: Path, below: str) -> None:
    before = kit.contents(model)
    with pytest.raises(QuantizeError, match="is within the model itself"):
        quantize(model, model / below, "w8a16")
    assert kit.contents(model) == before


def test_a_damaged_state(model: Path, tmp_path: Path) -> None:
    quantize(model, tmp_path / "out", "w8a16")
    (tmp_path / "out" / "ascend_overlay_quantize.json").write_text('{"options": ')
    with pytest.raises(QuantizeError, match=r"ascend_overlay_quantize\.json is damaged"):
        quantize(model, tmp_path / "out", "w8a16")


# The calibration


def test_w8a8_needs_prompts_and_says_why(model: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"fix the range of every.*--calibrate FILE.*one prompt a line"):
        quantize(model, tmp_path / "out", "w8a8")
    assert not (tmp_path / "out").exists()


def test_other_schemes_take_no_prompts(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--calibrate is for w8a8 and w8a8_mix; w8a16 does not fix the ranges"):
        quantize(model, tmp_path / "out", "w8a16", calibrate=tmp_path / "file")


def test_prompts_a_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text('One prompt.\n\n  {"text": "is text here"}\n')
    assert prompts.read(file) == ["One prompt.", '  {"text": "is text here"}']


def test_prompts_in_json(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"text": "One\\nprompt."}\n\n{"tokens": [1, 2, 0], "source": "x"}\n')
    assert prompts.read(file) == ["One\nprompt.", [1, 2, 0]]


def test_only_a_line_feed_ends_a_prompt(tmp_path: Path) -> None:
    odd = "next line \x85 form feed \x0c separator \u2028 end"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": odd}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert prompts.read(tmp_path / "a.jsonl") == [odd]
    (tmp_path / "a.txt").write_bytes(f"{odd}\r\nanother\r\n".encode())
    assert prompts.read(tmp_path / "a.txt") == [odd, "another"]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", None, r"the calibration file '.*a\.txt' cannot be read: No such file"),
        ("a.txt", b"\n \n", "has no prompt in it"),
        ("a.txt", b"\xff\xfe\x00", "is not text in UTF-8"),
        ("a.jsonl", b'{"text": "a"}\nnot JSON\n', r"a\.jsonl:2 cannot be read as JSON"),
        ("a.jsonl", b'"text"\n', r'a\.jsonl:1 is neither \{"text"'),
        ("a.jsonl", b'{"text": ""}\n', "is neither"),
        ("a.jsonl", b'{"text": "a", "tokens": [1]}\n', "is neither"),
        ("a.jsonl", b'{"tokens": []}\n', "is neither"),
        ("a.jsonl", b'{"tokens": [1, -1]}\n', "is neither"),
        ("a.jsonl", b'{"tokens": [true]}\n', "is neither"),
        ("a.jsonl", b'{"prompt": "a"}\n', "is neither"),
    ],
)
def test_prompts_that_are_none(tmp_path: Path, name: str, data: bytes | None, says: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(QuantizeError, match=says):
        prompts.read(tmp_path / name)


def test_a_failing_engine_shows_the_end_of_its_log(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("a\n")
    monkeypatch.setattr(calibration, "_MODULE", "json.nothing_of_this_name")
    with pytest.raises(QuantizeError, match=r"could not run the model .*\(status 1\)(.|\n)*nothing_of_this"):
        quantize(model, tmp_path / "out", "w8a8", calibrate=lines)


def test_fused_parts_get_one_range() -> None:
    layer = "model.layers.0.self_attn"
    ranges = {f"{layer}.{part}_proj.weight": (-float(n), float(n)) for n, part in enumerate("qkvo")}
    assert calibration._merged(ranges, Linears()) == {
        **{f"{layer}.{part}_proj.weight": (-2.0, 2.0) for part in "qkv"},
        f"{layer}.o_proj.weight": (-3.0, 3.0),
    }


def test_ranges_hold_all_calls_and_do_not_lose_nan() -> None:
    found = observe._Range()
    found(None, (torch.tensor([-1.0, 3.0]),), {})
    found(None, (), {"input_": torch.tensor([[-2.0], [1.0]])})
    found(None, (torch.empty(0, 4),), {})
    assert (found.low, found.high) == (-2.0, 3.0)
    found(None, (torch.tensor([0.0, float("nan")]),), {})
    found(None, (torch.tensor([0.0, 9.0]),), {})
    with pytest.raises(observe._ObservationError, match=r"NaN or infinite values for the input of layer\."):
        observe._check({"layer": (found.low, found.high)})


def test_a_layer_that_no_prompt_reaches_is_named() -> None:
    unused = observe._Range()
    with pytest.raises(observe._ObservationError, match=r"no prompt reached a, b, c and 2 more\."):
        observe._check(dict.fromkeys("abcde", (unused.low, unused.high)))


def test_prompts_are_cut_at_what_the_model_takes() -> None:
    config = SimpleNamespace(vocab_size=10, max_position_embeddings=5)
    found, cut = observe._tokens("unused", [[1, 2], [], list(range(9))], config)
    assert found == [[1, 2], [0, 1, 2, 3]] and cut == 1, "one place is left for the token that is generated"
    config.max_position_embeddings = 10**6
    assert [len(tokens) for tokens in observe._tokens("unused", [[0] * 5000], config)[0]] == [2048]
    with pytest.raises(observe._ObservationError, match=r"prompt 2 .* has the token 10, and the model knows 10"):
        observe._tokens("unused", [[9], [3, 10]], config)


def test_the_cache_is_that_of_one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    llama = SimpleNamespace(num_attention_heads=32, num_key_value_heads=8, num_hidden_layers=32, hidden_size=4096)
    needed = 2 * 32 * 2 * 8 * 128 * 2049
    assert needed < (observe._cache_size(llama, 2049) or 0) < 3 * needed
    assert observe._cache_size(SimpleNamespace(), 2049) is None
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "3")
    assert observe._cache_size(llama, 2049) is None, "the user's own choice"


def test_a_checkpoint_is_plain_data(model: Path) -> None:
    found = read(model)
    assert isinstance(found, Checkpoint) and found.indexed and len(found.tensors) == len(kit.llama())
    assert found.size == sum(tensor.nbytes for tensor in kit.llama().values())
    assert torch.equal(found.tensors[Q].read(3, 5), kit.llama()[Q][3:5])


def test_prompts_without_a_token_are_refused() -> None:
    with pytest.raises(observe._ObservationError, match="has no prompt with a token in it"):
        observe._tokens("unused", [[], []], SimpleNamespace(vocab_size=10, max_position_embeddings=5))
