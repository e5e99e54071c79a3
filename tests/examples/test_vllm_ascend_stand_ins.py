"""The stand-ins for vllm-ascend's compiled parts, where there is no vllm-ascend. Serving is in tests/vllm_ascend."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from scratch import EXAMPLES, Scratch

torch = pytest.importorskip("torch")

from ascend_overlay import npu  # noqa: E402


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import a module of the distribution, which is not installed here."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "vllm_ascend_on_a_laptop"))

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"vllm_ascend_stand_ins.{name}")

    yield module
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm_ascend_stand_ins"]:
        # Torch keeps its operators, so the module that makes them stays.
        if not name.endswith("compiled"):
            del sys.modules[name]


@pytest.mark.parametrize("tokens", [[3, 1, 5], [1, 1, 1], [9]])
def test_slots_are_those_of_the_blocks(stand_ins: Any, tokens: list[int]) -> None:
    block, room = 4, 20
    table = torch.randperm(60, generator=torch.Generator().manual_seed(1)).view(6, 10).int()
    begins = [7, 0, 30]
    positions = torch.cat([torch.arange(first, first + n) for first, n in zip(begins, tokens, strict=False)])
    starts = torch.tensor([0, *tokens]).cumsum(0).int()
    slots = torch.full((room + 2,), 99, dtype=torch.int32)
    rest = {"PAD_ID": -1, "TOTAL_CP_WORLD_SIZE": 1, "IS_CIRCULAR": False, "KV_CACHE_BLOCK_SIZE": block}
    kernel = stand_ins("slots").kernel
    kernel[(len(tokens) + 1,)](len(positions), room, starts, positions, table, 10, block, slots, **rest)
    wanted = [
        int(table[i, p // block]) * block + p % block
        for i, n in enumerate(tokens)
        for p in range(begins[i], begins[i] + n)
    ]
    assert slots.tolist() == [*wanted, *[-1] * (room - len(wanted)), 99, 99]


@pytest.mark.parametrize("what", [{"TOTAL_CP_WORLD_SIZE": 2}, {"IS_CIRCULAR": True}])
def test_slots_that_are_found_otherwise_are_refused(stand_ins: Any, what: dict[str, Any]) -> None:
    nothing = torch.zeros(1, dtype=torch.int32)
    with pytest.raises(NotImplementedError, match="one rank of context parallelism"):
        stand_ins("slots").kernel[(1,)](0, 0, nothing, nothing, nothing.view(1, 1), 1, 4, nothing, PAD_ID=-1, **what)


def test_a_norm_with_a_bias(stand_ins: Any) -> None:
    npu.load("npu_add_rms_norm")
    x, residual = torch.randn(2, 3, 16).unbind()
    gamma, beta = torch.randn(2, 16).unbind()
    y, rstd, total = stand_ins("compiled").add_rms_norm_bias(x, residual, gamma, beta, 1e-5)
    exact = (x + residual).double()
    exact = exact / (exact.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gamma + beta
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(total, x + residual)
    assert rstd.shape == (3, 1)


@pytest.mark.parametrize(("renorm", "factor"), [(0, 1.0), (1, 1.0), (1, 2.5)])
def test_gating_with_weights_that_add_up_to_one(stand_ins: Any, renorm: int, factor: float) -> None:
    npu.load("npu_moe_gating_top_k")
    scores = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    weights, experts, _ = stand_ins("compiled").moe_gating_top_k(scores, 2, 1, 1, 0, renorm, 0, False, factor, 1e-20)
    exact, wanted = scores.double().softmax(-1).topk(2)
    exact = factor * (exact / exact.sum(-1, keepdim=True) if renorm else exact)
    assert experts.tolist() == wanted.tolist()
    torch.testing.assert_close(weights.double(), exact, rtol=1e-5, atol=1e-6)


def test_a_package_that_is_absent_has_names_that_raise_where_they_are_called(stand_ins: Any) -> None:
    absent = stand_ins("absent").Absent("acme_absent")
    try:
        functional = importlib.import_module("acme_absent.transforms.v2").functional
        sentence = r"acme_absent\.transforms\.v2\.functional\.resize was called"
        with pytest.raises(NotImplementedError, match=sentence):
            functional.resize(1)
        with pytest.raises(AttributeError, match="has no __version__"):
            importlib.import_module("acme_absent").__version__  # noqa: B018
    finally:
        absent.remove()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("acme_absent")


def test_without_vllm_ascend_the_overlay_is_skipped(with_examples: Scratch) -> None:
    shown = with_examples.run("ascend-overlay", "list", "--json")
    listed = json.loads(shown.stdout)["entries"]
    entries = [entry for entry in listed if entry["overlay"] == "vllm_ascend_stand_ins"]
    assert entries
    assert {entry["state"] for entry in entries} == {"skipped"}
    assert all("vllm-ascend" in entry["reason"] for entry in entries)
