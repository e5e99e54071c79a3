"""From a model in float to tokens of its quantized form: the command writes it, the overlays load and run it.

`pytest -m e2e` runs the reduced form; `pytest -m grid tests/quantize` every tiny model in every scheme.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grid import asked_for, marks
from safetensors.torch import load_file, save_file

from ascend_overlay.commands.demo import in_process, tiny
from ascend_overlay.commands.quantize import calibration
from ascend_overlay.commands.quantize.rules import SCHEMES
from ascend_overlay.commands.quantize.run import quantize

COMMAND = (sys.executable, "-c", "from ascend_overlay.commands.cli import main; main(prog_name='ascend-overlay')")
PROMPTS = ("The river wanted to see the mountains, so", "In the morning the market sold bread, olives and")
CALIBRATION = """
Once upon a time there was a river that wanted to see the mountains, so it asked the clouds to carry it upwards.
A language model reads a prompt, looks at every token with attention, and writes the next token, then the next one.
In the morning the harbour was full of small white boats, and the market sold bread, olives, oranges and honey.
"""
TIMEOUT = 400

FLOATS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "llama": (tiny.make_llama3, {}),
    "llama_float16": (tiny.make_llama3, {"torch_dtype": "float16"}),
    "qwen3": (tiny.make_qwen3, {}),
    "qwen3_moe": (tiny.make_qwen3_moe, {}),
    "gemma2": (tiny.make_gemma2, {}),
    "gemma3": (tiny.make_gemma3, {}),
    # Compressed queries, so that q_a_proj and kv_a_proj_with_mqa are one layer in vLLM.
    "deepseek_v2": (tiny.make_deepseek_v2, {"q_lora_rank": 64}),
    "deepseek_v3": (tiny.make_deepseek_v3, {}),
}
RUNS = [(name, scheme) for name in FLOATS for scheme in ("w8a8", "w8a8_dynamic", "w8a16")]
RUNS += [("llama", "w8a8_mix"), ("qwen3_moe", "w4a16"), ("qwen3_moe", "w4a8_dynamic"), ("deepseek_v2", "w4a8_dynamic")]
_DENSE = ("llama", "llama_float16", "qwen3", "gemma2", "gemma3")
LAYERS = dict.fromkeys(_DENSE, 8) | {"qwen3_moe": 4, "deepseek_v2": 15, "deepseek_v3": 15}
"""How many linear layers of each are quantized, besides two layers of routed experts in those that have them."""
_REDUCED = {
    *((name, scheme) for name, scheme in RUNS if name in ("llama", "llama_float16", "deepseek_v2")),
    ("qwen3", "w8a8_dynamic"),
    ("qwen3_moe", "w8a8"),
    ("qwen3_moe", "w8a8_dynamic"),
    ("qwen3_moe", "w4a16"),
    ("qwen3_moe", "w4a8_dynamic"),
    ("llama", "w8a8_mix"),
    ("gemma2", "w8a16"),
    ("gemma3", "w8a8_dynamic"),
    ("deepseek_v3", "w8a8_dynamic"),
}
_COMPILED = [("llama", "w8a8"), ("qwen3_moe", "w8a8_dynamic"), ("deepseek_v2", "w8a16")]
_TRACED = [run for run in RUNS if run[0] in ("llama", "deepseek_v2") and run[1].startswith("w8")]
MODES = [
    *((*run, in_process.TRACED) for run in _TRACED if run not in _COMPILED),
    *((*run, in_process.COMPILED) for run in _COMPILED),
]
"""What torch.compile sees of them; once for each scheme and kind of model, it runs Inductor's code, too."""
SPREAD = [("llama", "w8a8"), ("qwen3_moe", "w8a8_dynamic")]
"""Models that run in two processes, too."""
DAMAGES = {
    "no weight": "model.layers.0.self_attn.o_proj.weight",
    "no scale": "model.layers.0.mlp.up_proj.weight_scale",
    "no expert": "model.layers.2.mlp.experts.3.up_proj.weight",
    "no scale of an expert": "model.layers.2.mlp.experts.3.up_proj.weight_scale",
}


STRAY = "model.layers.0.self_attn.kv_b_proj.weight_scale"
"""A scale of a layer that is in float."""


@dataclass(frozen=True)
class Results:
    """What the processes reported, and the folders of the models.

    Attributes:
        folder: where all that is.
        runs: which models are run in which schemes.
    """

    folder: Path
    runs: list[tuple[str, str]]

    def __call__(self, name: str) -> dict[str, Any]:
        """Return what became of a model; an error of its run fails the test."""
        found = self.raw(name)
        assert "error" not in found, found["error"]
        return found

    def raw(self, name: str) -> dict[str, Any]:
        """Return what became of a model, errors included."""
        path = self.folder / f"{name}.json"
        logs = sorted(self.folder.glob("*/log.txt"))
        assert path.exists(), "\n".join(log.read_text(errors="replace")[-4000:] for log in logs)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def model(self, name: str) -> Path:
        """Return the folder of a model."""
        return self.folder / "models" / name


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The models that the selected tests ask for, and those of the reduced form, quantized and run."""
    asked = {(params.get("name"), params.get("scheme")) for params in asked_for(request)}
    runs = _REDUCED | asked & set(RUNS)
    found = Results(tmp_path_factory.mktemp("quantized"), sorted(runs))
    for name in {name for name, _ in runs}:
        make, config = FLOATS[name]
        make(found.model(name), **config)
    (found.folder / "lines.txt").write_text(CALIBRATION)
    _calibrated(found)
    for name, scheme in found.runs:
        if not found.model(f"{name}-{scheme}").exists():
            quantize(found.model(name), found.model(f"{name}-{scheme}"), scheme)
    for name, tensor in DAMAGES.items():
        _change(found, name, without=tensor)
    _change(found, "stray", adding=STRAY)
    _run(found)
    return found


def _calibrated(found: Results) -> None:
    """Quantize to w8a8 by the command, at the same time, since each starts vLLM."""
    arguments = ("--scheme", "w8a8", "--calibrate", str(found.folder / "lines.txt"))
    calibrated = [name for name, scheme in found.runs if scheme == "w8a8" and name != "llama_float16"]
    started = {
        name: subprocess.Popen(
            [*COMMAND, "quantize", str(found.model(name)), str(found.model(f"{name}-w8a8")), *arguments],
            env=in_process.environment(found.folder / f"cache-{name}", overlaid=False),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in calibrated
    }
    for name, process in started.items():
        output, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, output
        (found.folder / f"{name}-output.txt").write_text(output)
    # The same weights in another dtype see the same inputs.
    state = json.loads((found.model("llama-w8a8") / "ascend_overlay_quantize.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "observe", lambda *_: calibration.Calibration(state["observed"], 3, 60, 0))
        for name, scheme in (("llama_float16", "w8a8"), ("llama", "w8a8_mix")):
            out = found.model(f"{name}-{scheme}")
            quantize(found.model(name), out, scheme, calibrate=found.folder / "lines.txt")


def _change(found: Results, name: str, *, without: str = "", adding: str = "") -> None:
    """Make a damaged copy of a quantized model."""
    model = found.model("deepseek_v2-w8a8_dynamic")
    shutil.copytree(model, found.model(name))
    tensors = load_file(model / "model.safetensors")
    tensors.pop(without, None)
    if adding:
        tensors[adding] = tensors["model.layers.0.self_attn.o_proj.weight_scale"].clone()
    save_file(tensors, found.model(name) / "model.safetensors")


def _run(found: Results) -> None:
    """Run what is eager in one process, what is compiled in another one beside it, and in two more what is spread."""
    alone = {name: {"model": name, "quantized": False} for name in {name for name, _ in found.runs}}
    alone |= {f"{name}-{scheme}": {"model": f"{name}-{scheme}", "quantized": True} for name, scheme in found.runs}
    alone |= {name: {"model": name, "quantized": True} for name in (*DAMAGES, "stray")}
    compiled = {
        f"{name}-{scheme}-{mode}": {"model": f"{name}-{scheme}", "quantized": True, "mode": mode}
        for name, scheme, mode in MODES
    }
    spread = {
        f"{name}-{scheme}-tp2": {"model": f"{name}-{scheme}", "quantized": True, "parallel": 2}
        for name, scheme in SPREAD
    }
    _finish([_started(found, "alone", alone), _started(found, "compiled", compiled)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for rank in ("0", "1")
    ]
    _finish([_started(found, f"rank{env['RANK']}", spread, env) for env in ranks])


def _started(
    found: Results, process: str, runs: dict[str, dict[str, Any]], env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process for some runs; what the second of two ranks reports is not read."""
    folder = found.folder / process
    folder.mkdir()
    for name, run in runs.items():
        run["dtype"] = "float16" if "float16" in name else "bfloat16"
        run["model"] = str(found.model(Path(run["model"]).name))
    results = folder if process == "rank1" else found.folder
    spec = {"folder": str(results), "prompts": PROMPTS, "tokens": 8, "runs": runs}
    (folder / "spec.json").write_text(json.dumps(spec))
    worker = Path(__file__).with_name("quantized_worker.py")
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [*COMMAND, "run", sys.executable, str(worker), str(folder / "spec.json")],
            env=in_process.environment(folder / "cache", overlaid=True) | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _finish(processes: list[subprocess.Popen[bytes]]) -> None:
    try:
        for process in processes:
            process.wait(TIMEOUT)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _params(runs: list[tuple[str, str]]) -> list[Any]:
    """Return the parameters of a test."""
    return [pytest.param(*run, marks=marks(reduced=run in _REDUCED)) for run in runs]


each = pytest.mark.parametrize(("name", "scheme"), _params(RUNS))


@each
def test_the_method_is_found_without_being_named(results: Results, name: str, scheme: str) -> None:
    assert results(name)["quantization"] is None
    found = results(f"{name}-{scheme}")
    assert found["quantization"] == "ascend"
    assert any("quant_model_description.json is there" in note for note in found["notes"])


@each
def test_every_layer_computes_its_formula_in_integers(
    results: Results, name: str, scheme: str, record_property: pytest.RecordProperty
) -> None:
    layers = results(f"{name}-{scheme}")["layers"]
    assert len(layers) == LAYERS[name]
    assert {layer["type"] for layer in layers.values()} == {SCHEMES[scheme]}
    assert [where for where, layer in layers.items() if not layer["calls"]] == []
    worst = max(layer["worst"] for layer in layers.values())
    same = sum(layer["equal"] for layer in layers.values()) / sum(layer["values"] for layer in layers.values())
    record_property("layers", f"{name}-{scheme}: {same:.4%} equal, worst {worst:.4f} units in the last place")
    # Sums of int8 products are exact, so only the last rounding is left.
    assert worst <= 0.501
    assert same >= (0.999 if scheme not in ("w8a16", "w4a16") else 0.99)


@pytest.mark.parametrize(("name", "scheme"), _params([run for run in RUNS if run[0] not in _DENSE]))
def test_experts_compute_their_formula_in_integers(
    results: Results, name: str, scheme: str, record_property: pytest.RecordProperty
) -> None:
    experts = results(f"{name}-{scheme}")["experts"]
    if scheme == "w8a16":
        assert experts == {}  # they stay in float
        return
    assert len(experts) == 2 and all(layer["calls"] for layer in experts.values())
    worst = max(layer["worst"] for layer in experts.values())
    same = sum(layer["equal"] for layer in experts.values()) / sum(layer["values"] for layer in experts.values())
    record_property("experts", f"{name}-{scheme}: {same:.4%} equal, worst {worst:.4f} units in the last place")
    if scheme == "w4a16":
        # Sums in float32, which round to a neighbour now and then, also between the products.
        assert worst <= 8 and same >= 0.98
        return
    if scheme == "w4a8_dynamic":
        # The bias that makes up for what the operator takes from its inputs is float32, which turns a rounding between
        # the products to the other side now and then.
        assert worst <= 8 and same >= 0.999
        return
    # What is not rounded between the products is float32, and moves what lies half way between two neighbours.
    assert worst <= 0.52
    assert same >= 0.999


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "scheme", "mode"), MODES)
def test_compiled_it_says_the_same(results: Results, name: str, scheme: str, mode: str) -> None:
    before, after = results(f"{name}-{scheme}"), results(f"{name}-{scheme}-{mode}")
    assert after["quantization"] == "ascend"
    assert after["tokens"] == before["tokens"]
    largest, mean = _apart(before, after)
    if scheme.startswith("w8a8"):
        # Hooks look at the layers of the eager run, whose norms therefore hand on rounded numbers. In the graph they
        # quantize what is not rounded (the setting fused_quant), which moves what lies half way between two steps.
        assert largest < 0.5 and mean < 0.1
        return
    # On some machines it is 0: the same operators do the same.
    assert largest < 0.1 and mean < 0.02


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "scheme"), SPREAD)
def test_spread_over_two_processes_it_says_the_same(
    results: Results, name: str, scheme: str, record_property: pytest.RecordProperty
) -> None:
    before, after = results(f"{name}-{scheme}"), results(f"{name}-{scheme}-tp2")
    assert after["tokens"] == before["tokens"]
    largest, mean = _apart(before, after)
    record_property("logprobs", f"{name}-{scheme}: root mean square {mean:.4f} nats, largest {largest:.4f}")
    # Each rank rounds its sums, and quantizes tokens by its part of them. A bias that both add makes it 20 times more.
    assert largest < 0.5 and mean < 0.1


def _apart(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Return the largest difference of the log probabilities, and the root mean square."""
    differences = [
        abs(p - q)
        for ours, theirs in zip(one["logprobs"], other["logprobs"], strict=True)
        for a, b in zip(ours, theirs, strict=True)
        for p, q in zip(a, b, strict=True)
    ]
    return max(differences), math.sqrt(sum(difference**2 for difference in differences) / len(differences))


@each
def test_the_model_says_nearly_the_same(
    results: Results, name: str, scheme: str, record_property: pytest.RecordProperty
) -> None:
    before, after = results(name), results(f"{name}-{scheme}")
    places = [
        (one, other)
        for ours, theirs in zip(before["logprobs"], after["logprobs"], strict=True)
        for one, other in zip(ours, theirs, strict=True)
    ]
    lost = [sum(math.exp(p) * (p - q) for p, q in zip(one, other, strict=True)) for one, other in places]
    largest, mean = _apart(before, after)
    assert math.isfinite(largest) and math.isfinite(mean)
    record_property(
        "logprobs",
        f"{name}-{scheme}: root mean square {mean:.4f} nats, largest {largest:.4f}, "
        f"divergence {sum(lost) / len(lost):.5f} nats a token, largest {max(lost):.5f}",
    )
    # Steps of 4 bits, as wide as the largest weight of an output asks for.
    assert mean < (0.3 if scheme == "w4a8_dynamic" else 0.2) and max(lost) < 0.05


@each
def test_weights_take_half_the_memory(results: Results, name: str, scheme: str) -> None:
    if scheme in ("w4a8_dynamic", "w4a16"):
        pytest.skip("its experts take a quarter: they are not int8")
    sizes = results(f"{name}-{scheme}")["sizes"]
    checkpoint = load_file(results.model(f"{name}-{scheme}") / "model.safetensors")
    weights = sum(tensor.numel() for tensor in checkpoint.values() if tensor.dtype.itemsize == 1 and tensor.ndim == 2)
    assert sizes["weights"] == weights
    # Of two bytes each; the layers are so narrow here that their scales count.
    assert 0.5 < sizes["bytes"] / (2 * weights) < 0.56


@pytest.mark.e2e
@pytest.mark.parametrize("scheme", ["w8a8", "w8a8_dynamic", "w8a16"])
def test_the_deepseek_class_accounts_for_every_tensor(results: Results, scheme: str) -> None:
    notes = results(f"deepseek_v2-{scheme}")["notes"]
    count = len(load_file(results.model(f"deepseek_v2-{scheme}") / "model.safetensors"))
    [note] = [note for note in notes if note.startswith("AscendDeepseekV2ForCausalLM:")]
    assert note.startswith(f"AscendDeepseekV2ForCausalLM: {count} tensors of the checkpoint loaded into")
    assert "not used" not in note


@pytest.mark.e2e
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_missing_tensor_of_a_quantized_layer_is_named(results: Results, damage: str) -> None:
    error = results.raw(damage).get("error", "")
    name = DAMAGES[damage].removeprefix("model.")
    assert name in error, error


@pytest.mark.e2e
def test_a_scale_that_belongs_to_no_layer_is_named(results: Results) -> None:
    error = results.raw("stray").get("error", "")
    assert STRAY in error, results.raw("stray").get("notes", error)


@pytest.mark.e2e
def test_ranges_were_observed_by_the_command(results: Results) -> None:
    for name in ("llama", "qwen3_moe", "deepseek_v2"):
        output = (results.folder / f"{name}-output.txt").read_text()
        assert "calibrated  3 prompts," in output
        state = json.loads((results.model(f"{name}-w8a8") / "ascend_overlay_quantize.json").read_text())
        assert state["observed"] and all(low < high for low, high in state["observed"].values())
    shared = [value for key, value in state["observed"].items() if "layers.0" in key and "_a_proj" in key]
    assert len(shared) == 2 and shared[0] == shared[1], "q_a_proj and kv_a_proj_with_mqa see one input"
