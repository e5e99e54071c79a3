"""Whole runs of the quantizer: what is in the folder afterwards, and how a run goes on that was interrupted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import quantize_kit as kit
import torch

from ascend_overlay.commands.quantize import arithmetic, calibration, state, writer
from ascend_overlay.commands.quantize.run import quantize
from ascend_overlay.commands.quantize.writer import Job
from ascend_overlay.errors import QuantizeError
from ascend_overlay.quantization.description import FILE

Q = "model.layers.0.self_attn.q_proj"
RANGE = (-2.5, 4.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A Llama in three files."""
    return kit.write(tmp_path / "model", kit.llama(), shards=3)


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A calibration file, with a stand-in for the run of vLLM, which counts its calls in `observe.calls`."""
    file = tmp_path / "prompts.txt"
    file.write_text("once\nupon a time\n")

    def observe(checkpoint: Any, weights: Sequence[str], texts: Sequence[Any], *_: Any) -> calibration.Calibration:
        observe.calls += 1  # type: ignore[attr-defined]
        return calibration.Calibration(dict.fromkeys(weights, RANGE), len(texts), 4, 0)

    observe.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(calibration, "observe", observe)
    return file


@pytest.mark.parametrize(("scheme", "kind"), [("w8a8_dynamic", "W8A8_DYNAMIC"), ("w8a16", "W8A16")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_alone(tmp_path: Path, scheme: str, kind: str, dtype: torch.dtype) -> None:
    before = kit.llama(dtype, bias=True)
    model = kit.write(tmp_path / "model", before, dtype=str(dtype).removeprefix("torch."))
    quantize(model, tmp_path / "out", scheme)
    after = kit.load(tmp_path / "out")
    description = json.loads((tmp_path / "out" / FILE).read_text())
    linears = [name for name in before if name.endswith("proj.weight")]
    assert len(linears) == 14
    assert {name for name, found in description.items() if found == kind and name.endswith(".weight")} == {*linears}
    assert {name: description.pop(name) for name in ("version", "model_quant_type", "group_size")} == {
        "version": "1.0.0",
        "model_quant_type": kind,
        "group_size": 0,
    }
    assert description.keys() == after.keys()
    for name in linears:
        stem = name.removesuffix("weight")
        expected = arithmetic.quantize_rows([before[name]], dtype)
        assert torch.equal(after.pop(name), expected.weight)
        assert torch.equal(after.pop(f"{stem}weight_scale"), expected.scale.unsqueeze(1))
        assert torch.equal(after.pop(f"{stem}weight_offset"), torch.zeros(len(expected.scale), 1, dtype=dtype))
        if f"{stem}bias" in after:
            assert description[f"{stem}bias"] == kind
    assert after.keys() == before.keys() - {*linears}
    for name, tensor in after.items():
        assert tensor.dtype == dtype and torch.equal(tensor, before[name])
        assert description[name] == (kind if name.endswith(".bias") else "FLOAT")


def test_a_model_in_float32_gets_the_scales_of_bfloat16(tmp_path: Path, prompts: Path) -> None:
    before = kit.llama(torch.float32)
    model = kit.write(tmp_path / "model", before, torch_dtype="float32")
    quantize(model, tmp_path / "out", "w8a8", calibrate=prompts)
    after = kit.load(tmp_path / "out")
    assert after["model.norm.weight"].dtype == torch.float32
    assert after[f"{Q}.weight_scale"].dtype == after[f"{Q}.input_scale"].dtype == torch.bfloat16
    expected = arithmetic.quantize_rows([before[f"{Q}.weight"]], torch.bfloat16)
    assert torch.equal(after[f"{Q}.weight"], expected.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_static_inputs(tmp_path: Path, prompts: Path, dtype: torch.dtype) -> None:
    before = kit.llama(dtype, bias=True)
    # Where files are cut, a bias may be in another one than its weight.
    model = kit.write(tmp_path / "model", before, shards=4, dtype=str(dtype).removeprefix("torch."))
    quantize(model, tmp_path / "out", "w8a8", calibrate=prompts)
    after = kit.load(tmp_path / "out")
    description = json.loads((tmp_path / "out" / FILE).read_text())
    for name in (name for name in before if name.endswith("proj.weight")):
        stem = name.removesuffix("weight")
        found = {key.removeprefix(stem): tensor for key, tensor in after.items() if key.startswith(stem)}
        out, bias = len(before[name]), found.pop("bias", None)
        assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in found.items()} == {
            "weight": (torch.int8, tuple(before[name].shape)),
            "weight_scale": (dtype, (out, 1)),
            "weight_offset": (dtype, (out, 1)),
            "input_scale": (dtype, (1,)),
            "input_offset": (torch.int8, (1,)),
            "quant_bias": (torch.int32, (out,)),
            "deq_scale": (torch.int64 if dtype == torch.float16 else torch.float32, (out,)),
        }
        deq_scale = found["deq_scale"]
        if dtype == torch.float16:
            deq_scale = deq_scale.to(torch.int32).view(torch.float32)
        assert torch.equal(deq_scale, found["input_scale"].float() * found["weight_scale"].float().flatten())
        units = 0 if bias is None else (before[f"{stem}bias"].double() / deq_scale.double()).round().long()
        sums = found["weight"].long().sum(dim=1)
        assert torch.equal(found["quant_bias"].long(), units - found["input_offset"].long() * sums)
        assert {description[f"{stem}{key}"] for key in found} == {"W8A8"}
    shared = [after[f"model.layers.1.self_attn.{part}.input_scale"] for part in ("q_proj", "k_proj", "v_proj")]
    assert shared[0] == shared[1] == shared[2]


@pytest.mark.parametrize(
    ("scheme", "experts", "note"),
    [
        ("w8a8", "W8A8_DYNAMIC", "Routed experts become W8A8_DYNAMIC: the NPU has no static scheme for them."),
        ("w8a16", "FLOAT", "Routed experts stay in float: the NPU has no scheme for them with int8 weights alone."),
    ],
)
def test_experts_get_a_scheme_that_there_is(
    tmp_path: Path, prompts: Path, scheme: str, experts: str, note: str
) -> None:
    model = kit.write(tmp_path / "model", kit.moe(), num_hidden_layers=1, dtype="bfloat16")
    report = quantize(model, tmp_path / "out", scheme, calibrate=prompts if scheme == "w8a8" else None)
    assert report.plan.turned() == [note]
    found = json.loads((tmp_path / "out" / FILE).read_text())
    layer = "model.layers.0"
    own = scheme.upper()
    for name in ("gate_proj", "up_proj", "down_proj"):
        assert {found[f"{layer}.mlp.experts.{number}.{name}.weight"] for number in range(3)} == {experts}
        assert found[f"{layer}.mlp.shared_experts.{name}.weight"] == own
    assert found[f"{layer}.mlp.gate.weight"] == found[f"{layer}.self_attn.kv_b_proj.weight"] == "FLOAT"
    for name in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj"):
        assert found[f"{layer}.self_attn.{name}.weight"] == own
    assert {kind for name, kind in found.items() if name.startswith("model.layers.1.")} == {"FLOAT"}


def test_what_belongs_to_the_weights(model: Path, tmp_path: Path) -> None:
    (model / "modeling_own.py").write_text("remote = 1\n")
    (model / "pytorch_model.bin").write_text("the same weights once more")
    (model / "original").mkdir()
    blob = tmp_path / "blob"
    blob.write_text("a template")
    (model / "chat_template.jinja").symlink_to(blob)
    report = quantize(model, tmp_path / "out", "w8a8_dynamic")
    out = tmp_path / "out"
    assert report.not_copied == ("original/", "pytorch_model.bin")
    copied = ("config.json", "tokenizer.json", "modeling_own.py", "chat_template.jinja")
    assert all((out / name).read_bytes() == (model / name).read_bytes() for name in copied)
    assert not (out / "chat_template.jinja").is_symlink()
    assert {path.name for path in out.iterdir()} == {
        *copied,
        *(path.name for path in model.glob("model-*")),
        "model.safetensors.index.json",
        FILE,
        state.NAME,
    }
    index = json.loads((out / "model.safetensors.index.json").read_text())
    tensors = kit.load(out)
    assert index["weight_map"].keys() == tensors.keys()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert report.plan.after == sum(path.stat().st_size for path in out.glob("*.safetensors"))


def test_every_tensor_begins_where_its_dtype_wants_it(model: Path, tmp_path: Path, prompts: Path) -> None:
    from ascend_overlay.commands.quantize import checkpoint

    quantize(model, tmp_path / "out", "w8a8", calibrate=prompts)
    found = checkpoint.read(tmp_path / "out")
    assert [entry.name for entry in found.tensors.values() if entry.start % checkpoint.SIZES[entry.dtype]] == []


def test_two_runs_write_the_same_bytes(model: Path, tmp_path: Path) -> None:
    quantize(model, tmp_path / "one", "w8a8_dynamic")
    quantize(model, tmp_path / "two", "w8a8_dynamic")
    assert kit.contents(tmp_path / "one") == kit.contents(tmp_path / "two")


def test_an_interruption_anywhere_costs_one_file_at_most(model: Path, tmp_path: Path, prompts: Path) -> None:
    quantize(model, tmp_path / "whole", "w8a8", calibrate=prompts)
    whole = kit.contents(tmp_path / "whole")
    tensors = len(kit.llama())
    for after in range(tensors):
        out = tmp_path / f"out-{after}"
        calls = calibration.observe.calls  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            quantize(model, out, "w8a8", calibrate=prompts, watcher=kit.Interrupted(after))
        assert not (out / "config.json").exists(), "half a model must not be taken for one"
        complete = {path.name for path in out.glob("*.safetensors")}
        watcher = kit.Counting()
        quantize(model, out, "w8a8", calibrate=prompts, watcher=watcher)
        # The files hold 7, 6 and 6 tensors.
        assert set(watcher.ready) == complete and len(complete) == (after >= 7) + (after >= 13)
        assert calibration.observe.calls == calls + 1, "the calibration is not done again"  # type: ignore[attr-defined]
        assert kit.contents(out) == whole
        shutil.rmtree(out)


def test_a_killed_process_leaves_a_run_that_goes_on(model: Path, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from ascend_overlay.commands.quantize.run import Silent, quantize
class Watcher(Silent):
    done = 0
    def tensor(self, name, size):
        self.done += 1
        if self.done == 10:
            os.kill(os.getpid(), signal.SIGKILL)
quantize(Path(sys.argv[1]), Path(sys.argv[2]), "w8a16", watcher=Watcher())
"""
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", script, str(model), str(out)], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(out.glob("*.safetensors"))) == 1 and len(list(out.glob("*.partial"))) == 1
    watcher = kit.Counting()
    quantize(model, out, "w8a16", watcher=watcher)
    assert len(watcher.ready) == 1 and len(watcher.written) == 2
    quantize(model, tmp_path / "whole", "w8a16")
    assert kit.contents(out) == kit.contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_file_that_was_damaged_since_is_written_again(model: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    quantize(model, out, "w8a8_dynamic")
    whole = kit.contents(out)
    path = sorted(out.glob("*.safetensors"))[1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "changed" else data[:-10])
    (out / f"{path.name}.partial").write_bytes(b"of a run that was killed")
    with pytest.raises(KeyboardInterrupt):
        quantize(model, out, "w8a8_dynamic", watcher=kit.Interrupted(1))
    assert not (out / "config.json").exists(), "it is no model until all its files are whole"
    (out / "left.partial").touch()
    watcher = kit.Counting()
    quantize(model, out, "w8a8_dynamic", watcher=watcher)
    assert watcher.written == [path.name]
    assert kit.contents(out) == whole


def test_a_complete_run_writes_no_weights(model: Path, tmp_path: Path) -> None:
    first = quantize(model, tmp_path / "out", "w8a8_dynamic")
    again = quantize(model, tmp_path / "out", "w8a8_dynamic")
    assert again.earlier == 3 and (again.error, again.worst) == (first.error, first.worst)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scheme": "w8a16"}, "scheme was 'w8a8_dynamic' and is 'w8a16' now"),
        ({"keep": ["*.down_proj"]}, r"keep was \[\] and is \['\*\.down_proj'\] now"),
        ({"touch": "model-00002-of-00003.safetensors"}, "the model is another one now"),
        ({"touch": "config.json"}, "the config.json is another one now"),
    ],
)
def test_a_run_goes_on_only_as_it_was_begun(model: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        quantize(model, tmp_path / "out", "w8a8_dynamic", watcher=kit.Interrupted(9))
    before = kit.contents(tmp_path / "out")
    if touched := change.pop("touch", None):
        path = model / touched
        path.write_bytes(path.read_bytes() + (b" " if touched == "config.json" else b""))
    with pytest.raises(QuantizeError, match=f"was begun differently: {says}"):
        quantize(model, tmp_path / "out", **{"scheme": "w8a8_dynamic", **change})
    assert kit.contents(tmp_path / "out") == before


def test_another_calibration_file_is_another_run(model: Path, tmp_path: Path, prompts: Path) -> None:
    quantize(model, tmp_path / "out", "w8a8", calibrate=prompts)
    prompts.write_text("something else\n")
    with pytest.raises(QuantizeError, match="the calibration file is another one now"):
        quantize(model, tmp_path / "out", "w8a8", calibrate=prompts)


def test_two_runs_do_not_write_one_folder(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    checked = []

    class Second(kit.Silent):
        def tensor(self, name: str, size: int) -> None:
            if not checked:
                with pytest.raises(QuantizeError, match="is being written by another run"):
                    quantize(model, out, "w8a8_dynamic")
                checked.append(True)

    quantize(model, out, "w8a8_dynamic", watcher=Second())
    assert checked


def test_a_disk_that_fails_in_the_middle_is_told_and_the_run_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_copy", full)
        with pytest.raises(QuantizeError, match=r"/out could not be read or written: No space left .* same command"):
            quantize(model, tmp_path / "out", "w8a16")
    assert not (tmp_path / "out" / "config.json").exists()
    quantize(model, tmp_path / "out", "w8a16")
    assert (tmp_path / "out" / "config.json").exists()


def test_a_full_disk_is_noticed_before_anything_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(QuantizeError, match=r"needs 0\.1 GB, and its disk has 0\.0 GB left"):
        quantize(model, tmp_path / "out", "w8a8_dynamic")
    assert not (tmp_path / "out").exists()


def test_memory_is_that_of_one_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are read one by one: no read is larger than asked for at once."""
    from ascend_overlay.commands.quantize import schemes
    from ascend_overlay.commands.quantize.checkpoint import Entry

    monkeypatch.setattr(schemes, "_ELEMENTS_AT_ONCE", 40)
    model = kit.write(tmp_path / "model", kit.llama())
    sizes = []
    read = Entry.read

    def watched(entry: Entry, *rows: int) -> Any:
        sizes.append(read(entry, *rows).numel())
        return read(entry, *rows)

    monkeypatch.setattr(Entry, "read", watched)
    quantize(model, tmp_path / "out", "w8a8_dynamic")
    assert max(sizes) <= 40
    monkeypatch.undo()
    quantize(model, tmp_path / "whole", "w8a8_dynamic")
    assert kit.contents(tmp_path / "out") == kit.contents(tmp_path / "whole")


def test_what_was_announced_is_what_is_written(model: Path, tmp_path: Path) -> None:
    from ascend_overlay.commands.quantize.run import plan

    made = plan(model, "w8a16")
    assert isinstance(made.job, Job) and not (tmp_path / "out").exists()
    report = quantize(model, tmp_path / "out", "w8a16")
    assert report.plan.after == made.after and report.plan.quantized() == made.quantized() == {"W8A16": 14}
    assert made.kept() == {
        "vectors: norms, biases and the like": 3,
        "outside the decoder layers of the language model": 2,
    }


def test_the_mixed_scheme_holds_what_the_static_one_holds(model: Path, tmp_path: Path, prompts: Path) -> None:
    quantize(model, tmp_path / "static", "w8a8", calibrate=prompts)
    quantize(model, tmp_path / "mix", "w8a8_mix", calibrate=prompts)
    static, mix = kit.load(tmp_path / "static"), kit.load(tmp_path / "mix")
    assert static.keys() == mix.keys() and all(torch.equal(static[name], mix[name]) for name in static)
    types = json.loads((tmp_path / "mix" / "quant_model_description.json").read_text())
    assert types["model_quant_type"] == "W8A8_MIX"
    assert types["model.layers.0.self_attn.q_proj.weight"] == "W8A8_MIX"
    with pytest.raises(QuantizeError, match="--calibrate FILE"):
        quantize(model, tmp_path / "other", "w8a8_mix")


def test_experts_of_4_bits_and_the_rest_of_8(tmp_path: Path) -> None:
    before = {name: torch.randn(64, 96) for name in kit.moe() if ".experts." in name or "o_proj" in name}
    before["model.layers.0.mlp.experts.0.up_proj.weight"][3, :32] = 0
    before = {name: tensor.bfloat16() for name, tensor in before.items()}
    model = kit.write(tmp_path / "model", before)
    report = quantize(model, tmp_path / "out", "w4a16")
    assert report.plan.turned() == ["Layers besides routed experts become W8A16: 4 bits are for experts."]
    after, types = kit.load(tmp_path / "out"), json.loads((tmp_path / "out" / FILE).read_text())
    assert (types["model_quant_type"], types["group_size"]) == ("W4A16", 32)
    assert types["model.layers.0.self_attn.o_proj.weight"] == "W8A16"
    for name, weight in before.items():
        if ".experts." not in name:
            continue
        module = name.removesuffix(".weight")
        packed, scale = after[f"{module}.weight_packed"], after[f"{module}.weight_scale"]
        assert (packed.dtype, packed.shape, scale.dtype, scale.shape) == (
            torch.int32,
            (64, 12),
            torch.bfloat16,
            (64, 3),
        )
        assert types[f"{module}.weight_packed"] == types[f"{module}.weight_scale"] == "W4A16"
        numbers = torch.stack([((packed.long() >> (4 * place)) & 15) - 8 for place in range(8)], -1).flatten(1)
        whole = scale.double().repeat_interleave(32, 1)
        # Half a step, or what the largest of a group loses by the rounding of its scale.
        assert ((numbers * whole - weight.double()).abs() <= 0.53 * whole).all()


def test_experts_of_4_bits_with_inputs_of_8_and_the_rest_of_8(tmp_path: Path) -> None:
    """What ModelSlim writes: two outputs in a byte, float32, and sums for 16 parts of what ranks share."""
    before = {name: torch.randn(128, 64) for name in kit.moe() if ".experts." in name or "o_proj" in name}
    before = {name: t.T.contiguous() if "down_proj" in name else t for name, t in before.items()}
    before["model.layers.0.mlp.experts.0.up_proj.weight"][3] = 0
    before = {name: tensor.bfloat16() for name, tensor in before.items()}
    model = kit.write(tmp_path / "model", before)
    report = quantize(model, tmp_path / "out", "w4a8_dynamic")
    assert report.plan.turned() == ["Layers besides routed experts become W8A8_DYNAMIC: 4 bits are for experts."]
    after, types = kit.load(tmp_path / "out"), json.loads((tmp_path / "out" / FILE).read_text())
    assert {name: types[name] for name in ("version", "model_quant_type", "group_size")} == {
        "version": "1.0.0",
        "model_quant_type": "W4A8_DYNAMIC",
        "group_size": 0,
    }
    assert types["model.layers.0.self_attn.o_proj.weight"] == "W8A8_DYNAMIC"
    experts = [name.removesuffix(".weight") for name in before if ".experts." in name]
    assert len(experts) == 18
    for module in experts:
        weight = before[f"{module}.weight"]
        out, inputs = weight.shape
        found = {key.removeprefix(f"{module}."): t for key, t in after.items() if key.startswith(f"{module}.")}
        assert {types[f"{module}.{key}"] for key in found} == {"W4A8_DYNAMIC"}
        parts = 16 if module.endswith("down_proj") else 1
        assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in found.items()} == {
            "weight": (torch.int8, (out // 2, inputs)),
            "weight_scale": (torch.float32, (out, 1)),
            "weight_offset": (torch.float32, (out, 1)),
            "scale_bias": (torch.float32, (out, parts)),
        }
        bytes_ = found["weight"].int() & 255
        numbers = torch.stack((bytes_ & 15, bytes_ >> 4), 1).flatten(0, 1)
        numbers = numbers - 16 * (numbers > 7)
        scale = found["weight_scale"].double()
        assert not found["weight_offset"].any()
        assert ((numbers * scale - weight.double()).abs() <= 0.5001 * scale).all()
        sums = 8 * (numbers * scale).reshape(out, parts, -1).sum(-1)
        torch.testing.assert_close(found["scale_bias"].double(), sums, rtol=1e-5, atol=1e-6)
    assert report.plan.after == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize(("scheme", "rest"), [("w4a16", "w8a16"), ("w4a8_dynamic", "w8a8_dynamic")])
def test_experts_of_4_bits_need_experts(model: Path, tmp_path: Path, scheme: str, rest: str) -> None:
    wanted = f"has no routed experts that {scheme} would quantize"
    with pytest.raises(QuantizeError, match=f"{wanted}; {rest} takes the rest"):
        quantize(model, tmp_path / "out", scheme)
    narrow = kit.write(tmp_path / "narrow", kit.moe())
    with pytest.raises(QuantizeError, match=wanted):
        quantize(narrow, tmp_path / "out", scheme)


@pytest.mark.parametrize(("scheme", "inner", "unit"), [("w4a16", 40, 32), ("w4a8_dynamic", 96, 64)])
def test_experts_of_which_one_projection_cannot_have_4_bits_stay_in_float(
    tmp_path: Path, scheme: str, inner: int, unit: int
) -> None:
    """Those of a layer have one type; the others of the model are none the worse for it."""
    tensors = {name: torch.randn(128, 128) for name in kit.moe() if ".experts." in name}
    for name in [name for name in tensors if ".layers.1." in name]:
        tensors[name] = torch.randn((128, inner) if "down_proj" in name else (inner, 128))
    model = kit.write(tmp_path / "model", {name: tensor.bfloat16() for name, tensor in tensors.items()})
    report = quantize(model, tmp_path / "out", scheme)
    assert report.plan.kept() == {f"routed experts whose sizes are no multiples of {unit}": 9}
    types = json.loads((tmp_path / "out" / FILE).read_text())
    assert {kind for name, kind in types.items() if ".layers.1." in name} == {"FLOAT"}


def test_a_weight_that_is_no_number_is_named_whatever_it_becomes(tmp_path: Path) -> None:
    tensors = {name: torch.randn(64, 64).bfloat16() for name in kit.moe() if ".experts." in name}
    tensors["model.layers.0.mlp.experts.2.down_proj.weight"][5, 5] = float("nan")
    model = kit.write(tmp_path / "model", tensors)
    for scheme in ("w4a8_dynamic", "w4a16", "w8a8_dynamic"):
        with pytest.raises(QuantizeError, match=r"experts\.2\.down_proj\.weight' .* holds NaN"):
            quantize(model, tmp_path / scheme, scheme)
