"""The example model in vLLM: its numbers against the plain PyTorch reference, in engines of several shapes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from reference import Reference
from scratch import EXAMPLES, Scratch

from ascend_overlay.ledgers import Ledger, read_folder

GENERATE = Path(__file__).with_name("generate.py")
PROMPTS = [
    [5, 17, 200, 33],
    list(range(40, 90)),
    # Longer than a block of the KV cache, and half of it the same as the one above it in the batch.
    [256, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 12,
    [99],
]
COUNT = 12
TOLERANCE = 1e-4
"""Of a log-probability. Both compute in float32 or better; the smallest lead of a greedy token is above 0.02."""


@dataclass
class Run:
    """What one engine gave."""

    checkpoint: Path
    outputs: list[dict[str, Any]]
    ledgers: list[Ledger]
    log: str

    def roles(self) -> list[str]:
        return sorted(str(ledger.process["role"]) for ledger in self.ledgers)


def run_engine(environment: Scratch, folder: Path, *options: str, **arguments: Any) -> Run:
    """Make a checkpoint and generate from it in an overlaid vLLM."""
    checkpoint, job, result, ledgers = (folder / name for name in ("checkpoint", "job.json", "result.json", "ledgers"))
    environment.run(environment.python, "-m", "acme_custom_model.make_checkpoint", checkpoint, *options)
    settings = {"dtype": "float32", "max_model_len": 256, "max_num_seqs": 8, "gpu_memory_utilization": 0.2}
    job.write_text(
        json.dumps(
            {"model": str(checkpoint), "prompts": PROMPTS, "count": COUNT, "arguments": settings | arguments},
        )
    )
    done = environment.run(
        *("ascend-overlay", "run", "--ledger", ledgers, environment.python, GENERATE, job, result),
        # vLLM inspects a model class once and remembers the outcome there; each run is to do so.
        env={"VLLM_CACHE_ROOT": str(folder / "cache")},
        timeout=400,
    )
    return Run(checkpoint, json.loads(result.read_text()), read_folder(ledgers), done.stdout + done.stderr)


def assert_agrees(run: Run) -> None:
    """Hold the run against the reference, prompt by prompt."""
    reference = Reference(run.checkpoint)
    assert len(run.outputs) == len(PROMPTS)
    for prompt, output in zip(PROMPTS, run.outputs, strict=True):
        tokens, logprobs = reference.greedy(prompt, COUNT)
        assert output["tokens"] == tokens
        assert output["logprobs"] == pytest.approx(logprobs, abs=TOLERANCE)


@pytest.fixture(scope="module")
def tensor_parallel(with_examples: Scratch, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two tensor-parallel workers, eager, output weights of its own."""
    folder = tmp_path_factory.mktemp("tensor_parallel")
    return run_engine(with_examples, folder, "--untied", tensor_parallel_size=2, enforce_eager=True)


@pytest.fixture(scope="module")
def pipeline_parallel(with_examples: Scratch, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two pipeline stages, compiled, tied output weights."""
    return run_engine(with_examples, tmp_path_factory.mktemp("pipeline_parallel"), pipeline_parallel_size=2)


@pytest.mark.e2e
class TestTensorParallel:
    def test_it_agrees_with_plain_pytorch(self, tensor_parallel: Run) -> None:
        assert_agrees(tensor_parallel)

    def test_every_process_names_the_distribution(self, tensor_parallel: Run) -> None:
        # The inspection of the model class is a process, too.
        assert tensor_parallel.roles() == ["engine_core", "inspection", "main", "worker", "worker"]
        for ledger in tensor_parallel.ledgers:
            entries = ledger.of("acme_custom_model")
            assert {(entry.distribution, entry.version) for entry in entries} == {("acme-custom-model", "1.0.0")}
            model, config = entries
            assert (model.kind, model.state, model.seam) == ("model", "applied", "ModelRegistry")
            assert config.state == "applied" or ledger.process["role"] == "inspection"

    def test_the_other_plugin_applies_where_it_should(self, tensor_parallel: Run) -> None:
        states = {
            str(ledger.process["role"]): entry.state
            for ledger in tensor_parallel.ledgers
            for entry in ledger.of("acme_serving")
            if entry.kind == "wrap"
        }
        assert states == {"main": "skipped", "engine_core": "skipped", "inspection": "skipped", "worker": "applied"}
        assert len(re.findall(r"loaded \d+\.\d MiB in \d+\.\d s", tensor_parallel.log)) == 2


@pytest.mark.e2e
class TestPipelineParallel:
    def test_it_agrees_with_plain_pytorch(self, pipeline_parallel: Run) -> None:
        assert_agrees(pipeline_parallel)

    def test_both_stages_were_compiled(self, pipeline_parallel: Run) -> None:
        compiled = {path.name for path in (pipeline_parallel.checkpoint.parent / "cache").rglob("rank_*")}
        assert compiled >= {"rank_0_0", "rank_1_0"}


RESOLVE = """
import sys

if __name__ == "__main__":
    from vllm.engine.arg_utils import EngineArgs

    config = EngineArgs(model=sys.argv[1]).create_model_config()
    print("architecture:", config.architecture)
"""


@pytest.fixture(scope="module")
def checkpoint(with_examples: Scratch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the new architecture."""
    folder = tmp_path_factory.mktemp("checkpoint") / "custom"
    with_examples.run(with_examples.python, "-m", "acme_custom_model.make_checkpoint", folder)
    return folder


@pytest.mark.vllm
def test_without_activation_the_plugin_is_inert(with_examples: Scratch, checkpoint: Path) -> None:
    done = with_examples.run(with_examples.python, "-c", RESOLVE, checkpoint, check=False)

    assert done.returncode != 0
    assert "model type `acme_custom`" in done.stderr
    assert "ascend_overlay" not in done.stderr


@pytest.mark.vllm
def test_activated_the_architecture_is_known(with_examples: Scratch, checkpoint: Path) -> None:
    done = with_examples.run("ascend-overlay", "run", with_examples.python, "-c", RESOLVE, checkpoint)

    assert "architecture: CustomModelForCausalLM" in done.stdout


@pytest.mark.vllm
def test_uninstalled_the_architecture_is_missed_by_name(scratch: Scratch, checkpoint: Path) -> None:
    scratch.install(EXAMPLES / "custom_model")
    scratch.uninstall("acme-custom-model")

    done = scratch.run("ascend-overlay", "run", scratch.python, "-c", RESOLVE, checkpoint, check=False)

    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "RegistrationError: config.json has the model_type 'acme_custom'" in said
    assert "for the architecture 'CustomModelForCausalLM'" in said
    assert "see that the plugin is installed" in said


@pytest.mark.vllm
def test_without_its_overlay_but_not_strict_there_is_a_warning(with_examples: Scratch, checkpoint: Path) -> None:
    left_out = {"ASCEND_OVERLAY_PLUGINS": "-acme-custom-model", "ASCEND_OVERLAY_STRICT": "0"}

    done = with_examples.run(
        "ascend-overlay", "run", with_examples.python, "-c", RESOLVE, checkpoint, env=left_out, check=False
    )

    assert done.returncode != 0
    assert "RuntimeWarning: config.json has the model_type 'acme_custom'" in done.stderr
    assert "Transformers does not recognize this architecture" in done.stderr


LOAD = """
import sys

import torch
from acme_custom_model.make_checkpoint import random_weights
from vllm.config import set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.torch_utils import set_default_torch_dtype

if __name__ == "__main__":
    checkpoint, rendezvous = sys.argv[1:]
    config = EngineArgs(model=checkpoint, dtype="float32", enforce_eager=True).create_engine_config()
    with set_current_vllm_config(config), set_default_torch_dtype(torch.float32):
        init_distributed_environment(1, 0, f"file://{rendezvous}", 0, "gloo")
        initialize_model_parallel(1, 1)
        from acme_custom_model.model import CustomModelForCausalLM

        model = CustomModelForCausalLM(vllm_config=config)
        weights = random_weights(config.model_config.hf_config, seed=7)
        loaded = model.load_weights({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}.items())
        print("not loaded:", sorted(set(dict(model.named_parameters())) - loaded))
        fused = model.model.layers[1].self_attn.qkv_proj.weight
        parts = [weights[f"model.layers.1.self_attn.{name}_proj.weight"] for name in "qkv"]
        print("fused in order:", torch.equal(fused, torch.cat(parts)))
        print("tied:", model.lm_head.weight is model.model.embed_tokens.weight)
        try:
            model.load_weights([("model.layers.0.self_attn.qk_proj.weight", torch.zeros(2, 2))])
        except ValueError as error:
            print("refused:", error)
"""


@pytest.mark.vllm
def test_loading_accounts_for_every_tensor(with_examples: Scratch, checkpoint: Path, tmp_path: Path) -> None:
    done = with_examples.run(
        "ascend-overlay", "run", with_examples.python, "-c", LOAD, checkpoint, tmp_path / "rendezvous"
    )

    lines = done.stdout.splitlines()
    assert "not loaded: []" in lines
    assert "fused in order: True" in lines
    assert "tied: True" in lines
    (refused,) = [line for line in lines if line.startswith("refused: ")]
    assert "'layers.0.self_attn.qk_proj.weight' belongs to no parameter of CustomModel" in refused
