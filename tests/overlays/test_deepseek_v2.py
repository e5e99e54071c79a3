"""The overlay `deepseek_v2`: same parameters as vLLM's class, and no checkpoint loads by halves."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from model_runs import Run, finish, run, start

from ascend_overlay.commands.demo.tiny import make_deepseek_v2
from ascend_overlay.overlays.deepseek_v2 import overlay

pytestmark = pytest.mark.vllm

WHAT_NOW = "Download or convert the checkpoint again; if it was saved in several files, see that all of them are there."
LACKS = "WeightsError: the checkpoint of AscendDeepseekV2ForCausalLM lacks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deepseek")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return make_deepseek_v2(folder / "plain")


@pytest.fixture(scope="module")
def loads(folder: Path, checkpoint: Path) -> Run:
    compressed = make_deepseek_v2(folder / "compressed", q_lora_rank=64)
    return run("load_deepseek.py", str(checkpoint), str(compressed), str(folder / f"meeting-{uuid4()}"), folder=folder)


def test_both_architectures_get_the_subclasses(loads: Run) -> None:
    module = "ascend_overlay.overlays.deepseek_v2.model"
    assert [patch.key for patch in overlay.patches] == [
        "model architecture DeepseekV2ForCausalLM",
        "model architecture DeepseekV3ForCausalLM",
    ]
    assert loads.result["class"][0] == f"{module}.AscendDeepseekV2ForCausalLM"
    assert loads.result["class"][2] == "vllm.model_executor.models.deepseek_v2.DeepseekV2ForCausalLM"
    assert loads.result["v3"] == "AscendDeepseekV3ForCausalLM"


def test_every_parameter_equals_that_of_vllms_own_class(loads: Run) -> None:
    assert loads.result["parameters"] == 36
    assert loads.result["same parameters"]
    assert loads.result["same parameters, compressed"]


def test_the_packed_mapping_describes_the_experts_and_this_model_only(loads: Run) -> None:
    plain = {
        "gate_up_proj": ["gate_proj", "up_proj"],
        "experts": ["experts.0.gate_proj", "experts.0.up_proj", "experts.0.down_proj"],
    }
    assert loads.result["mapping"] == plain
    assert loads.result["mapping, compressed"] == plain | {"fused_qkv_a_proj": ["q_a_proj", "kv_a_proj_with_mqa"]}
    assert loads.result["mapping, next one"] == plain
    assert loads.result["mapping is of the class"]


def test_vllms_own_class_takes_half_an_expert_for_a_whole_one(loads: Run) -> None:
    # The reason of this overlay; once it fails, vLLM has a check of its own.
    assert loads.result["stock, half an expert missing"] == "loaded"


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        ("shard missing", f"{LACKS} 1 tensor, so parameters would be left uninitialised: layers.0.mlp.up_proj.weight."),
        (
            "expert missing",
            (
                f"{LACKS} 3 tensors, so parameters would be left uninitialised: "
                "layers.1.mlp.experts.3.down_proj.weight, layers.1.mlp.experts.3.gate_proj.weight, "
                "layers.2.mlp.experts.3.down_proj.weight."
            ),
        ),
        ("norm missing", f"{LACKS} 1 tensor, so parameters would be left uninitialised: norm.weight."),
        (
            "compressed shard missing",
            f"{LACKS} 1 tensor, so parameters would be left uninitialised: layers.2.self_attn.q_a_proj.weight.",
        ),
    ],
)
def test_a_missing_tensor_is_named(loads: Run, damage: str, error: str) -> None:
    assert loads.result[damage].replace("model.", "") == f"{error} {WHAT_NOW}"


def test_many_missing_tensors_are_counted(loads: Run) -> None:
    assert loads.result["many missing"].startswith(f"{LACKS} 66 tensors, ")
    assert loads.result["many missing"].endswith(f"gate_proj.weight and 58 more. {WHAT_NOW}")


def test_tensors_without_a_place_are_named(loads: Run) -> None:
    assert loads.result["unknown"].startswith(
        "WeightsError: the checkpoint has 2 tensors that AscendDeepseekV2ForCausalLM has no parameter for: "
        "model.layers.0.self_attn.qq.weight, model.layers.1.mlp.experts.8.gate_proj.weight. Did you mean "
    )


def test_what_published_checkpoints_have_on_top_is_left_aside_and_counted(loads: Run) -> None:
    assert loads.result["tolerated"] == "loaded"
    assert (
        "AscendDeepseekV2ForCausalLM: 83 tensors of the checkpoint loaded into 36 parameters; not used: 1 of MTP "
        "layers, which only speculative decoding loads, 1 of biases that the layers do not have, 1 of rotary caches, "
        "which are computed"
    ) in loads.result["notes"]


def test_a_model_with_fewer_layers_loads_from_a_checkpoint_with_more(loads: Run) -> None:
    assert loads.result["cut short"] == "loaded"
    assert loads.result["notes"][-1].endswith("not used: 35 of layers from 2 on, which the model does not have")


def test_later_loads_and_dummy_starts_may_be_partial(loads: Run) -> None:
    assert loads.result["later, one tensor"] == ["model.norm.weight"]
    assert loads.result["dummy start"] == "loaded"


def test_without_strictness_it_is_a_warning(loads: Run) -> None:
    assert loads.result["tolerant"] == "loaded"
    [warning] = loads.result["warnings"]
    assert "model.layers.0.mlp.up_proj.weight" in warning


def test_disable_brings_vllms_own_class_back(loads: Run) -> None:
    assert loads.result["after disable"]


@pytest.fixture(scope="module")
def ranks(folder: Path, checkpoint: Path) -> list[dict[str, Any]]:
    """What became of the checkpoint in each of two ranks, by the kind of parallelism."""
    meeting = str(folder / f"meeting-{uuid4()}")
    arguments = [(str(checkpoint), meeting, str(rank), "tp", "pp", "ep") for rank in range(2)]
    started = [start("load_in_parallel.py", *each, folder=folder) for each in arguments]
    return [finish(rank).result for rank in started]


@pytest.mark.parametrize(
    ("kind", "parameters", "notes", "refuses"),
    [
        ("tp", [36, 36], ["83 tensors of the checkpoint loaded into 36 parameters"] * 2, [True, True]),
        (
            "pp",
            [22, 14],
            ["not used: 37 of other pipeline stages", "not used: 46 of other pipeline stages"],
            [False, True],
        ),
        ("ep", [36, 36], ["not used: 24 of experts on other ranks"] * 2, [False, True]),
    ],
)
def test_each_rank_accounts_for_its_own_part(
    ranks: list[dict[str, Any]], kind: str, parameters: list[int], notes: list[str], refuses: list[bool]
) -> None:
    results = [rank[kind] for rank in ranks]
    assert [len(result["parameters"]) for result in results] == parameters
    for result, note, refused in zip(results, notes, refuses, strict=True):
        first = next(each for each in result["notes"] if "tensors of the checkpoint" in each)
        assert first.endswith(note)
        assert ("model.layers.2.mlp.experts.7.up_proj.weight" in result["damaged"]) == refused
