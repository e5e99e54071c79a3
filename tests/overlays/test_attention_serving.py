"""An engine that serves through the attention backend ASCEND says what stock vLLM says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from model_runs import finish, start

from ascend_overlay.commands.demo.tiny import make_llama3

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["eager", "traced"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Parts of prompts beside decoding requests, cached prefixes, and more requests than the cache holds."""
    folder: Path = tmp_path_factory.mktemp("attention")
    model = make_llama3(folder / "model")
    return finish(start("serve_attention.py", str(model), request.param, str(folder), folder=folder)).result


def test_greedy_tokens_and_their_probabilities_are_stock_vllms(served: Any) -> None:
    assert served["ours"]["tokens"] == served["stock"]["tokens"]
    assert [len(tokens) for tokens in served["ours"]["tokens"]] == [48] * 14
    for ours, theirs in zip(served["ours"]["logprobs"], served["stock"]["logprobs"], strict=True):
        for here, there in zip(ours, theirs, strict=True):
            common = here.keys() & there.keys()
            assert len(common) >= 15
            # In bfloat16; see ascend_overlay.commands.demo.compare.
            assert all(abs(here[token] - there[token]) < 0.2 for token in common)


def test_every_attention_was_computed_by_the_operators(served: Any) -> None:
    counts = served["operators"]
    # 14 requests, of which 8 run at a time, take at least 2 times 48 steps, in 2 layers.
    assert counts["npu_fused_infer_attention_score_v2.out"] == counts["npu_scatter_pa_kv_cache"] >= 2 * 48 * 2
    # But for which class serves the model, nothing is to be said.
    assert [note for note in served["notes"] if ": served by vllm." not in note] == []


def test_prefixes_were_found_in_the_cache(served: Any) -> None:
    assert served["ours"]["cached"] == served["stock"]["cached"] == [128, 128]
