"""The demo runs a model that the installed vLLM knows."""

from __future__ import annotations

from typing import Any

import pytest

from ascend_overlay.commands.demo import choice

pytest.importorskip("numpy")
pytest.importorskip("tokenizers")

REGISTRIES: dict[str, tuple[str | None, str | None]] = {
    "all": ('_M = {"DeepseekV2ForCausalLM": 1, "Qwen3ForCausalLM": 2}', "DeepseekV2ForCausalLM"),
    "not the first": ('_M = {"Qwen3ForCausalLM": 2, "LlamaForCausalLM": 3}', "Qwen3ForCausalLM"),
    "the last": ('_M = {"LlamaForCausalLM": 3}', "LlamaForCausalLM"),
    "none": ('_M = {"OtherForCausalLM": 3}', None),
    "no registry there": (None, "DeepseekV2ForCausalLM"),
}


@pytest.mark.parametrize(("text", "architecture"), REGISTRIES.values(), ids=REGISTRIES)
def test_the_first_that_is_known(text: str | None, architecture: str | None, site: Any, python: Any) -> None:
    site.vllm("0.32.0", {"vllm/model_executor/models/registry.py": text} if text is not None else {})
    ask = "from ascend_overlay.commands.demo import choice; print(getattr(choice.known_here(), 'architecture', None))"
    assert python("-c", ask).stdout.strip() == str(architecture)


@pytest.mark.parametrize(
    ("release", "architecture"), [("0.28.0", "Qwen3ForCausalLM"), ("0.29.0", "DeepseekV2ForCausalLM")]
)
def test_the_first_that_is_served(release: str, architecture: str, site: Any, python: Any) -> None:
    site.vllm(release, {"vllm/model_executor/models/registry.py": REGISTRIES["all"][0]})
    ask = "from ascend_overlay.commands.demo import choice; print(choice.known_here().architecture)"
    assert python("-c", ask).stdout.strip() == architecture


def test_where_none_is_known_nothing_is_run(site: Any, python: Any) -> None:
    site.vllm("0.32.0", {"vllm/model_executor/models/registry.py": ""})
    done = python.command("demo", check=False)
    assert done.returncode == 2
    assert "vLLM 0.32.0 knows none of the models that the demo has: DeepseekV2ForCausalLM" in done.stderr


def test_the_real_one_knows_all_of_them(python: Any) -> None:
    ask = (
        "from ascend_overlay.commands.demo.choice import *\nfrom ascend_overlay.commands.demo.choice import _REGISTRY\n"
    )
    ask += "text = LOADABLE.text(_REGISTRY) or ''\nprint([model.architecture in text for model in MODELS])"
    assert python("-c", ask).stdout.strip() == str([True] * len(choice.MODELS))
