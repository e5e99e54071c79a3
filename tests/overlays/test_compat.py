"""The overlay `compat`: code written for vLLM 0.6 to 0.9 on the vLLM of today."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from model_runs import Run, run

from ascend_overlay.commands.demo.tiny import make_deepseek_v2, make_llama
from ascend_overlay.ledgers import Ledger, read_folder
from ascend_overlay.overlays.compat import rope
from ascend_overlay.overlays.compat.arguments import without_old
from ascend_overlay.overlays.compat.names import forwarder


class Tensor:
    """Looks like one, as far as arguments are concerned."""

    dtype = "bfloat16"

    def __repr__(self) -> str:
        return "tensor"


CACHES, METADATA, PIPE, EMBEDS = [None, None], object(), object(), Tensor()


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        # as it was
        ((1, 2, CACHES, METADATA, PIPE, EMBEDS), {}, ((1, 2, PIPE, EMBEDS), {})),
        ((1, 2, CACHES, METADATA, PIPE), {}, ((1, 2, PIPE), {})),
        ((1, 2, None, None, None, EMBEDS), {}, ((1, 2, None, EMBEDS), {})),
        ((1, 2, CACHES, METADATA), {}, ((1, 2), {})),
        ((1, 2, CACHES, None), {}, ((1, 2), {})),
        ((1, 2, None, METADATA), {"intermediate_tensors": PIPE}, ((1, 2), {"intermediate_tensors": PIPE})),
        ((1, 2, None, None), {"inputs_embeds": EMBEDS}, ((1, 2), {"inputs_embeds": EMBEDS})),
        ((1, 2, None), {"attn_metadata": None, "inputs_embeds": EMBEDS}, ((1, 2), {"inputs_embeds": EMBEDS})),
        ((1, 2), {"kv_caches": CACHES, "attn_metadata": METADATA}, ((1, 2), {})),
        ((), {"input_ids": 1, "kv_caches": CACHES, "inputs_embeds": 3}, ((), {"input_ids": 1, "inputs_embeds": 3})),
        # as it is
        ((1, 2), {}, ((1, 2), {})),
        ((1, 2, PIPE), {}, ((1, 2, PIPE), {})),
        ((1, 2, PIPE, EMBEDS), {}, ((1, 2, PIPE, EMBEDS), {})),
        ((1, 2, None, EMBEDS), {}, ((1, 2, None, EMBEDS), {})),
        ((1, 2, PIPE, None), {}, ((1, 2, PIPE, None), {})),
        ((1, 2, PIPE), {"inputs_embeds": EMBEDS}, ((1, 2, PIPE), {"inputs_embeds": EMBEDS})),
        ((1, 2, None, None), {}, ((1, 2, None, None), {})),
    ],
)
def test_arguments_of_forward(args: Any, kwargs: Any, expected: Any) -> None:
    assert without_old(args, kwargs) == expected


def _rope(*args: Any, **kwargs: Any) -> Any:
    return rope.get_rope(lambda *args, **kwargs: (args, kwargs), None, args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((64, 2048), {}),
        ((64, 2048, True, {"rope_theta": 10000}), {}),
        ((64,), {"max_position": 2048, "is_neox_style": False, "rope_parameters": None}),
    ],
)
def test_todays_calls_of_get_rope_go_through_as_they_are(args: Any, kwargs: Any) -> None:
    assert _rope(*args, **kwargs) == (args, kwargs)


def test_older_calls_of_get_rope() -> None:
    assert _rope(64, 64, 2048, 5000.0, False) == (
        (),
        {
            "head_size": 64,
            "max_position": 2048,
            "is_neox_style": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
        },
    )
    _, given = _rope(64, rotary_dim=32, max_position=2048, base=1e4, rope_scaling={"type": "yarn", "factor": 4.0})
    assert given["rope_parameters"] == {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "partial_rotary_factor": 0.5,
    }


@pytest.mark.parametrize("head", range(2, 257, 2))
def test_the_partial_factor_gives_the_rotary_dimension_back(head: int) -> None:
    # vLLM rounds down.
    assert all(int(head * rope._factor(rotary, head)) == rotary for rotary in range(2, head + 1, 2))


def test_a_name_that_is_gone_says_so() -> None:
    find = forwarder("vllm.attention", {"Gone": "json.nothing:Gone", "Lost": "json:Lost"})
    with pytest.raises(AttributeError, match=r"vllm.attention.Gone was json.nothing:Gone once, but vLLM .* does not"):
        find("Gone")
    with pytest.raises(AttributeError, match=r"vllm.attention.Lost was json:Lost once"):
        find("Lost")
    with pytest.raises(AttributeError, match=r"has no attribute 'Gon'. Did you mean 'Gone'\?"):
        find("Gon")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("older_names.py", folder=tmp_path_factory.mktemp("names"))


@pytest.mark.vllm
def test_modules_are_served_only_while_enabled(names: Run) -> None:
    assert names.result["before"] == names.result["after"] == names.result["left in sys.modules"] == []
    assert names.result["during"]


@pytest.mark.vllm
def test_older_names_lead_to_todays_objects(names: Run) -> None:
    assert all(names.result["same objects"].values()), names.result["same objects"]
    assert names.result["names that lead nowhere"] == []
    assert names.result["rope"]


@pytest.mark.vllm
def test_a_misspelt_name_is_an_error_with_the_nearest(names: Run) -> None:
    assert names.result["wrong name"] == "ImportError"
    assert names.result["wrong name of utils"] == (
        "module 'vllm.utils' has no attribute 'make_tensor_with_pads'. Did you mean 'make_tensor_with_pad' or "
        "'make_ndarray_with_pad'?"
    )


@pytest.mark.vllm
def test_model_classes_are_adapted_beside_the_authors(names: Run) -> None:
    upstream = "vllm.model_executor.models.deepseek_v2"
    assert names.result["adapted"] == {
        "derives": True,
        "name": "CustomModelForCausalLM",
        "untouched": True,
        "once": True,
        "of vLLM": True,
        "generates": True,
        "did not": True,
        "inspected": True,
        "between": ["older_api", "older_api", upstream, upstream],
    }
    assert all(names.result["oldest"].values()), names.result["oldest"]


@pytest.mark.vllm
def test_classes_of_todays_interface_are_left_alone(names: Run) -> None:
    assert names.result["today's classes are left alone"]


@pytest.mark.vllm
def test_what_vllm_keeps_of_an_inspection_is_kept_apart(names: Run) -> None:
    name = r"ascend_overlay-compat-[0-9a-f]{16}-mine-models-Mine\.json"
    assert re.fullmatch(name, names.result["own cache file"])
    assert re.fullmatch(r"[0-9a-f]{16}-vllm-x-Mine\.json", names.result["cache file of vLLM's"])


@pytest.mark.vllm
@pytest.mark.parametrize(
    "note",
    [
        (
            "older_api uses vllm.attention.Attention; write instead: from vllm.model_executor.layers.attention import "
            "Attention"
        ),
        (
            "older_api uses vllm.attention.AttentionMetadata; write instead: from vllm.v1.attention.backend import "
            "AttentionMetadata"
        ),
        "__main__ uses vllm.utils.cdiv; write instead: from vllm.utils.math_utils import cdiv",
        "older_api:CustomModelForCausalLM defines get_input_embeddings; rename it to embed_input_ids",
        "older_api:CustomModelForCausalLM takes sampling_metadata in compute_logits; leave it out, it is None",
        (
            "older_api:CustomDeepseekV2ForCausalLM takes kv_caches and attn_metadata in forward; leave them out, they "
            "hold nothing: the attention layers have their caches, and "
            "vllm.forward_context.get_forward_context().attn_metadata is the metadata"
        ),
        "__main__:FromTheStart is constructed with config, cache_config, ...; take vllm_config and prefix",
    ],
)
def test_each_use_is_noted_once_with_what_to_write(names: Run, note: str) -> None:
    assert names.result["notes"].count(note) == 1


@pytest.mark.vllm
def test_disable_restores_vllm(names: Run) -> None:
    assert names.result["utils restored"]
    assert names.result["functions restored"] == []
    assert names.result["not inspected any more"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, list[Ledger]]:
    folder = tmp_path_factory.mktemp("generate")
    make_llama(folder / "llama")
    make_llama(folder / "custom", architectures=["CustomModelForCausalLM"])
    make_deepseek_v2(folder / "deepseek")
    make_deepseek_v2(folder / "custom-deepseek", architectures=["CustomDeepseekV2ForCausalLM"])
    distribution = folder / "older_models-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: older-models\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[vllm.general_plugins]\nolder = older_plugin:register_model\n")
    ours = [str(folder / name) for name in ("custom", "custom-deepseek")]
    theirs = [str(folder / name) for name in ("llama", "deepseek")]
    options = ["--only", "registry,compat", "--ledger", str(folder / "ledger")]
    # On a CPU with AMX, vLLM's attention in bfloat16 uses tiles that nothing in so small a model has asked for.
    done = run("generate.py", "float32", *ours, "--", *theirs, folder=folder, options=options, timeout=600)
    return folder, done, read_folder(folder / "ledger")


@pytest.mark.e2e
@pytest.mark.parametrize(("ours", "theirs"), [("custom", "llama"), ("custom-deepseek", "deepseek")])
def test_a_model_in_the_older_api_generates_what_vllms_own_does(
    generated: tuple[Path, Run, list[Ledger]], ours: str, theirs: str
) -> None:
    folder, done, _ = generated
    got, expected = done.result[str(folder / ours)], done.result[str(folder / theirs)]
    assert got["tokens"] == expected["tokens"]
    assert [len(tokens) for tokens in got["tokens"]] == [8, 8]
    for line, reference in zip(got["logprobs"], expected["logprobs"], strict=True):
        # Another order of operations.
        assert line == pytest.approx(reference, abs=1e-4)


@pytest.mark.e2e
def test_it_is_so_in_every_process_and_noted_there(generated: tuple[Path, Run, list[Ledger]]) -> None:
    _, _, ledgers = generated
    assert {ledger.process["role"] for ledger in ledgers} == {"main", "engine_core", "worker", "inspection"}
    for ledger in ledgers:
        states = {entry.state for entry in ledger.of("compat")}
        # get_rope waits for the layers, which only those processes import that build a model.
        assert states <= {"applied", "pending"}, ledger.process
    noted = {ledger.process["role"] for ledger in ledgers if any("older_api" in text for _, text in ledger.notes)}
    assert {"worker", "inspection"} <= noted


@pytest.mark.e2e
def test_the_plugin_that_registers_is_named(generated: tuple[Path, Run, list[Ledger]]) -> None:
    _, done, _ = generated
    assert (
        "older_plugin (older-models 1.0) registered older_api:CustomModelForCausalLM for CustomModelForCausalLM, as a "
        "new architecture"
    ) in done.output
