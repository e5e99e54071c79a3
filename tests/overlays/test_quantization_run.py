"""A quantized checkpoint is served without being announced, in all processes, and says what the float model says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from model_runs import run

from ascend_overlay.commands.demo.tiny import make_llama
from ascend_overlay.ledgers import read_folder

torch = pytest.importorskip("torch")

from quantization_kit import Checkpoint  # noqa: E402

pytestmark = pytest.mark.e2e

TYPES = {
    "self_attn.q_proj": "W8A8",
    "self_attn.k_proj": "W8A8",
    "self_attn.v_proj": "W8A8",
    "self_attn.o_proj": "W8A16",
    "mlp.gate_proj": "W8A8_DYNAMIC",
    "mlp.up_proj": "W8A8_DYNAMIC",
    # Its inputs are larger than those that the kit's W8A8 covers.
    "mlp.down_proj": "W8A8_DYNAMIC",
}

SHIFT = torch.linspace(-1, 1, 128).bfloat16().float()
"""What a suppression of outliers would shift the inputs of the first layer by."""


def _quantize(model: Path, folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    checkpoint = Checkpoint(torch.bfloat16)
    for name, tensor in load_file(model / "model.safetensors").items():
        module, _, last = name.rpartition(".")
        type_ = next((type_ for end, type_ in TYPES.items() if module.endswith(end)), "FLOAT")
        # The last layer stays in float, as the norms, the embedding and the output layer do.
        if type_ == "FLOAT" or ".layers.1." in name:
            checkpoint.put(module, "FLOAT", {last: tensor})
        elif type_ == "W8A8":
            # The norm before shifts its outputs, and these layers take away what that does.
            checkpoint.add(module, type_, tensor.float(), -(tensor.float() @ SHIFT))
            del checkpoint.tensors[f"{module}.bias"], checkpoint.types[f"{module}.bias"]
        else:
            checkpoint.add(module, type_, tensor.float())
    checkpoint.put("model.layers.0.input_layernorm", "FLOAT", {"bias": SHIFT.bfloat16()})
    save_file(checkpoint.tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "quant_model_description.json").write_text(json.dumps(checkpoint.types))
    return folder


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    """What the quantized and the float model generate, and the ledgers of all processes."""
    folder = tmp_path_factory.mktemp("quantized")
    plain = make_llama(folder / "plain")
    quantized = _quantize(plain, folder / "quantized")
    options = ["--only", "roles,quantization", "--trace", "--ledger", str(folder / "ledger")]
    found = run("generate.py", "bfloat16", str(quantized), "--", str(plain), folder=folder, options=options)
    return {Path(path).name: answer for path, answer in found.result.items()}, read_folder(folder / "ledger")


def test_the_quantized_model_says_what_the_float_model_says(answers: Any) -> None:
    found, _ = answers
    quantized, plain = found["quantized"], found["plain"]
    assert quantized["tokens"] == plain["tokens"]
    off = [
        abs(ours - theirs)
        for one, other in zip(quantized["logprobs"], plain["logprobs"], strict=True)
        for ours, theirs in zip(one, other, strict=True)
    ]
    # Mistakes move them by 3.1 or more, int8 by this much.
    assert 0 < max(off) < 0.5


def test_the_worker_computed_by_the_operators(answers: Any) -> None:
    _, ledgers = answers
    worker = next(ledger for ledger in ledgers if ledger.process["role"] == "worker")
    counts = {name: count for name, count in worker.operators.items() if count}
    # One layer of two is quantized: qkv_proj by W8A8, gate_up_proj and down_proj dynamically, o_proj by weight.
    calls = counts["npu_quantize"]
    # 8 tokens take 8 steps, and one more if the two prompts did not come in the same one.
    assert calls >= 8
    assert counts == {
        "npu_quantize": calls,
        "npu_dynamic_quant": 2 * calls,
        "npu_quant_matmul": 3 * calls,
        "npu_weight_quant_batchmatmul": calls,
        "npu_format_cast": 3,
    }


def test_the_description_was_found_where_the_configuration_was_made(answers: Any) -> None:
    _, ledgers = answers
    main = next(ledger for ledger in ledgers if ledger.process["role"] == "main")
    assert any("quant_model_description.json is there" in text for _, text in main.notes)
