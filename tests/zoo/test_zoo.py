"""Every tiny model, stock and overlaid: the same greedy tokens, the same log probabilities, through the NPU operators.

`pytest -m e2e` runs the reduced form; `pytest -m grid tests/zoo` everything: all models, dtypes and modes. With `-k`,
only the models run that the selected tests are about.
"""

from __future__ import annotations

from typing import Any

import pytest
from zoo_kit import ALL, SPREAD, TOKENS, TOLERANCES, Run, Zoo, params
from zoo_operators import operators

from ascend_overlay.commands.demo.compare import Difference, compare


def assert_same(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    """See that two results agree: tokens, but for near ties, and log probabilities."""
    for kind in ("outputs", "again"):
        for difference in compare(one[kind], other[kind]):
            assert acceptable(difference, tolerance), difference


def acceptable(difference: Difference, tolerance: float) -> bool:
    """Tell whether rounding explains the difference."""
    same = difference.agreeing == difference.tokens or (difference.tie is not None and difference.tie <= tolerance)
    finite = difference.compared > 0 and difference.not_finite == 0
    return same and finite and difference.largest <= tolerance


@pytest.mark.parametrize("run", params(ALL, each_release=True))
def test_overlaid_and_stock_agree(zoo: Zoo, run: Run) -> None:
    stock, overlaid = zoo.result("stock", run), zoo.result("overlaid", run)
    assert (stock["overlaid"], overlaid["overlaid"]) == (False, True)
    assert [len(found["tokens"]) for found in stock["outputs"] + stock["again"]] == [TOKENS] * 6
    assert_same(stock, overlaid, TOLERANCES[run.dtype])


@pytest.mark.parametrize("run", params(ALL, each_release=True))
def test_the_npu_operators_ran(zoo: Zoo, run: Run) -> None:
    assert zoo.result("stock", run)["operators"] == {}
    found = zoo.result("overlaid", run)
    idle = [name for name in operators(run.family, run.dtype) if not found["operators"].get(name)]
    assert not idle, f"{idle} did not run, of {found['operators']}; the overlays noted {found['notes']}"


@pytest.mark.parametrize("run", params(ALL))
def test_what_is_cached_is_used_as_in_stock(zoo: Zoo, run: Run) -> None:
    stock, overlaid = zoo.result("stock", run)["cached"], zoo.result("overlaid", run)["cached"]
    if not run.family.startswith("deepseek"):
        assert all(overlaid)
        assert overlaid == stock
        return
    # vLLM's own backend for MLA on a CPU keeps no prefixes; it serves float32 with the overlays, too.
    assert not any(stock)
    assert all(overlaid) is (run.dtype != "float32")


@pytest.mark.parametrize("run", params(run for run in ALL if run.mode != "eager"))
def test_graphs_say_what_the_layers_say(zoo: Zoo, run: Run) -> None:
    eager = Run("eager", run.family, run.dtype)
    assert_same(zoo.result("overlaid", eager), zoo.result("overlaid", run), TOLERANCES[run.dtype])


@pytest.mark.parametrize("run", params(SPREAD))
def test_spread_over_two_processes(zoo: Zoo, run: Run) -> None:
    alone = zoo.result("overlaid", run.alone)
    for rank in (0, 1):
        found = zoo.result("overlaid", run, rank=rank)
        assert_same(alone, found, TOLERANCES[run.dtype])
        idle = [name for name in operators(run.family, run.dtype) if not found["operators"].get(name)]
        assert not idle, f"{idle} did not run in rank {rank}"


@pytest.mark.parametrize("run", params(ALL[:1], each_release=True))
def test_no_patch_failed(zoo: Zoo, run: Run) -> None:
    zoo.result("overlaid", run)
    for ledger in zoo.ledgers():
        assert [(entry.target, entry.reason) for entry in ledger if entry.state == "failed"] == []
        assert any(entry.state == "applied" for entry in ledger)
