"""Layer cases: a module of the tests stands for vLLM, and an overlay replaces its function."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from verify_kit import layer, torch

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay.commands.verify import layers, operators
from ascend_overlay.commands.verify.operators import Device
from ascend_overlay.conditions import predicate
from ascend_overlay.settings import Settings

LIB = """
import torch
def gate(x):
    a, b = x.chunk(2, -1)
    return torch.nn.functional.silu(a) * b
def after(x):
    return x
"""


@pytest.fixture(autouse=True)
def _library(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.vllm("0.32.0")
    site.write({"lib.py": LIB})
    monkeypatch.setattr(layers, "configured", contextlib.nullcontext)


@pytest.fixture
def overlay(offer: Any) -> Any:
    """Offer an overlay that replaces lib.gate by a function."""

    def make(function: Any, **options: Any) -> Overlay:
        gate = Overlay("gate", reason="a test", **options)
        gate.replace("lib:gate")(function)
        offer(gate)
        return gate

    return make


def npu_gate(x: Any) -> Any:
    return torch.ops.npu.npu_swiglu(x)


def test_a_layer_that_agrees(overlay: Any) -> None:
    overlay(npu_gate)
    (outcome,) = layers.run([layer()])
    assert outcome.problems == [] and outcome.called == ("npu_swiglu",)
    assert (outcome.name, outcome.against, outcome.overlay) == ("gate", "vLLM's own", "gate")
    assert outcome.numbers is not None and outcome.numbers.used < 1
    assert [entry.state for entry in ascend_overlay.ledger().of("gate")] == ["reverted"]


def no_operator(x: Any) -> Any:
    a, b = x.chunk(2, -1)
    return torch.nn.functional.silu(a) * b


def wrong(x: Any) -> Any:
    return torch.ops.npu.npu_swiglu(x) * 1.01


def other_dtype(x: Any) -> Any:
    return torch.ops.npu.npu_swiglu(x).double()


def raising(x: Any) -> Any:
    raise ValueError("not today")


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (no_operator, "it did not call npu_swiglu but no operator"),
        (wrong, "numbers off"),
        (other_dtype, "it returns torch.float64, stock vLLM torch.float32"),
        (raising, "it raises in the overlay 'gate': ValueError: not today"),
    ],
)
def test_a_layer_that_does_not(overlay: Any, function: Any, problem: str) -> None:
    overlay(function)
    (outcome,) = layers.run([layer()])
    assert outcome.verdict == "FAIL" and problem in outcome.problems[0]


def test_a_case_that_stock_vllm_does_not_run(overlay: Any) -> None:
    overlay(npu_gate)
    (outcome,) = layers.run([layer(run=lambda: 1 / 0)])
    assert "it raises in stock vLLM: ZeroDivisionError" in outcome.problems[0]


def test_stock_vllm_that_calls_an_operator_is_not_stock(overlay: Any) -> None:
    overlay(npu_gate)
    (outcome,) = layers.run([layer(run=lambda: torch.ops.npu.npu_swiglu(torch.ones(2, 8)))])
    assert "stock vLLM called npu_swiglu" in outcome.problems[0]


def test_an_overlay_that_does_not_apply_here_is_skipped(overlay: Any) -> None:
    overlay(npu_gate, when=predicate(lambda: False, "the moon is full"))
    (outcome,) = layers.run([layer()])
    assert outcome.verdict == "skipped" and "the moon is full" in outcome.skipped


def test_an_overlay_for_another_vllm_is_skipped(overlay: Any) -> None:
    overlay(npu_gate, vllm=">=99")
    (outcome,) = layers.run([layer()])
    assert outcome.verdict == "skipped" and ">=99" in outcome.skipped


def _lacking() -> Any:
    raise ImportError("this release has no such layer")


@pytest.mark.parametrize("of_the_patch", [False, True])
def test_a_layer_that_this_release_lacks_is_no_failure_of_what_is_for_others(offer: Any, of_the_patch: bool) -> None:
    gate = Overlay("gate", reason="a test", vllm=None if of_the_patch else "<0.30")
    gate.replace("lib:gate", vllm="<0.30" if of_the_patch else None)(npu_gate)
    gate.add("lib:other", 1)
    offer(gate)
    api.check_settings(Settings())
    outcomes = list(layers.run([layer(run=_lacking), layer(layer="lib:other", run=_lacking)]))
    assert [outcome.verdict for outcome in outcomes] == ["skipped", "FAIL" if of_the_patch else "skipped"]
    assert (
        outcomes[0].skipped == "vllm 0.32.0 is installed; gate patches lib:gate in vllm <0.30 only" or not of_the_patch
    )


@pytest.mark.parametrize(("releases", "verdict"), [("<0.30", "skipped"), (">=0.30", "FAIL"), (None, "FAIL")])
def test_a_case_says_which_releases_have_the_layer(overlay: Any, releases: str | None, verdict: str) -> None:
    overlay(npu_gate)
    (outcome,) = layers.run([layer(run=_lacking, vllm=releases)])
    assert outcome.verdict == verdict
    if verdict == "skipped":
        assert outcome.skipped == "vllm 0.32.0 is installed; gate, 3 tokens, is in vllm <0.30"


@pytest.mark.parametrize(("releases", "calls"), [("<0.30", ["npu_swiglu"]), (">=0.30", ["npu_swiglu", "npu_gelu"])])
def test_a_case_needs_another_overlay_in_some_releases(
    overlay: Any, offer: Any, releases: str, calls: list[str]
) -> None:
    overlay(npu_gate)
    other = Overlay("other", reason="a test")
    other.replace("lib:after")(lambda x: (torch.ops.npu.npu_gelu(x), x)[1])
    offer(other)

    def run() -> Any:
        import lib

        return lib.after(lib.gate(torch.ones(3, 8)))

    (outcome,) = layers.run([layer(run=run, beside={"other": releases})])
    assert (outcome.problems, sorted(outcome.called)) == ([], sorted(calls))


@pytest.mark.parametrize(
    ("function", "refusal", "verdict"),
    [
        (npu_gate, "AMX cannot", "skipped"),
        (npu_gate, "cannot", "FAIL"),
        (npu_gate, "", "FAIL"),
        (no_operator, "AMX cannot", "FAIL"),
        (lambda x: _raise(RuntimeError("AMX cannot be used")), "AMX cannot", "FAIL"),
    ],
    ids=["refused", "refused otherwise", "not said", "the overlay calls nothing", "the overlay refuses"],
)
def test_what_stock_vllm_refuses_is_still_run_by_the_overlay(
    overlay: Any, function: Any, refusal: str, verdict: str
) -> None:
    import lib

    overlay(function)
    stock = id(lib.gate)

    def run() -> Any:
        return _raise(RuntimeError("AMX cannot be used")) if id(lib.gate) == stock else lib.gate(torch.ones(3, 8))

    (outcome,) = layers.run([layer(run=run, refusal=refusal)])
    assert outcome.verdict == verdict
    if verdict == "skipped":
        assert outcome.skipped == "stock vLLM refuses it on this processor: AMX cannot be used"


def _raise(error: Exception) -> Any:
    raise error


def test_of_two_ranges_for_one_layer_one_counts(offer: Any) -> None:
    gate = Overlay("gate", reason="a test")
    gate.replace("lib:gate", vllm="<0.30")(wrong)
    gate.replace("lib:gate", vllm=">=0.30")(npu_gate)
    offer(gate)
    api.check_settings(Settings())
    assert [outcome.verdict for outcome in layers.run([layer()])] == ["ok"]


def test_an_overlay_that_cannot_be_enabled_fails(overlay: Any) -> None:
    overlay(lambda: None)
    (outcome,) = layers.run([layer()])
    assert "the overlay 'gate' cannot be enabled: " in outcome.problems[0]


def test_an_overlay_that_does_not_exist_fails(overlay: Any) -> None:
    overlay(npu_gate)
    outcomes = list(layers.run([layer(overlay="gaet"), layer()]))
    assert [outcome.ok for outcome in outcomes] == [False, True]
    assert "Did you mean 'gate'" in outcomes[0].problems[0]


def test_the_folder_in_which_processes_meet_does_not_stay(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType, SimpleNamespace

    urls: list[str] = []
    state = SimpleNamespace(
        model_parallel_is_initialized=lambda: False,
        init_distributed_environment=lambda *arguments: urls.append(arguments[2]),
        ensure_model_parallel_initialized=lambda *sizes: None,
    )
    distributed = ModuleType("vllm.distributed")
    monkeypatch.setattr(distributed, "parallel_state", state, raising=False)
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.distributed", distributed)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(layers.tempfile, "tempdir", str(scratch))
    at_exit: list[Any] = []
    monkeypatch.setattr(layers.atexit, "register", lambda function, *a, **k: at_exit.append((function, a, k)))
    layers._groups_of_one()
    (folder,) = scratch.iterdir()
    assert urls == [f"file://{folder}/rendezvous"]
    for function, arguments, keywords in at_exit:
        function(*arguments, **keywords)
    assert not folder.exists()


def _device(name: str = "cpu") -> Device:
    """Return a device that stands for an NPU: a place for tensors that torch can make them at."""
    return Device(name, lambda tensor: tensor.to(name), operators._call)


def test_on_a_machine_with_an_npu_the_overlay_runs_there_too(overlay: Any) -> None:
    overlay(npu_gate)
    here, there = layers.run([layer()], _device())
    assert (here.kind, there.kind) == ("layer", "NPU layer")
    assert here.ok and there.ok and there.called == ("npu_swiglu",)
    assert there.against == "vLLM's own on the CPU"
    # Each of the two may be off the formula by one tolerance.
    assert (there.rtol, there.atol) == (2 * here.rtol, 2 * here.atol)


def test_what_a_layer_makes_is_on_the_npu_in_the_last_run_alone(overlay: Any) -> None:
    seen = []

    def gate(x: Any) -> Any:
        seen.append(x.device.type)
        return torch.ops.npu.npu_swiglu(x)

    overlay(gate)
    (here, there) = layers.run([layer()], _device("meta"))
    assert seen == ["cpu", "meta"] and here.ok
    assert there.problems[0].startswith("it raises in the overlay 'gate' on the NPU: NotImplementedError")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda y: y * 1.001, "numbers off"),
        (lambda y: y.double(), "it returns torch.float64, stock vLLM torch.float32"),
        (lambda y: 1 / 0, "it raises in the overlay 'gate' on the NPU: ZeroDivisionError"),
    ],
)
def test_what_the_npu_makes_of_a_layer_that_differs_fails(overlay: Any, answer: Any, problem: str) -> None:
    runs = []

    def gate(x: Any) -> Any:
        runs.append(x)
        result = torch.ops.npu.npu_swiglu(x)
        return answer(result) if len(runs) == 2 else result

    overlay(gate)
    here, there = layers.run([layer()], _device())
    assert here.ok and there.verdict == "FAIL" and problem in there.problems[0]


def test_what_stock_vllm_cannot_compute_is_not_good_on_the_npu(overlay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay(npu_gate)
    monkeypatch.setattr("lib.gate", lambda x: 1 / 0)
    here, there = layers.run([layer()], _device())
    assert here.problems == ["it raises in stock vLLM: ZeroDivisionError: division by zero"]
    assert there.problems == ["there is nothing to compare with, since it raises in stock vLLM"]


def test_a_layer_that_cannot_run_on_an_npu_says_why(overlay: Any) -> None:
    overlay(npu_gate)
    here, there = layers.run([layer(cpu_only="it is shy.")], _device())
    assert here.verdict == "ok" and (there.verdict, there.skipped) == ("skipped", "it is shy.")


def test_an_overlay_that_does_not_apply_is_skipped_on_the_npu_too(overlay: Any) -> None:
    overlay(npu_gate, when=predicate(lambda: False, "the moon is full"))
    assert [outcome.verdict for outcome in layers.run([layer()], _device())] == ["skipped", "skipped"]


COMPILED_PARTS = {
    "an operator": "torch.ops._lib_C.gate(x)",
    "a module": "importlib.import_module('vllm._C')",
}
"""What stock vLLM does where it needs them."""


def _lacking(site: Any, statement: str) -> None:
    site.write({"lib.py": f"import importlib, torch\ndef gate(x):\n    return {statement}\n"})


@pytest.mark.parametrize("statement", COMPILED_PARTS.values(), ids=COMPILED_PARTS)
def test_without_vllms_compiled_parts_there_is_nothing_to_compare_with(site: Any, overlay: Any, statement: str) -> None:
    _lacking(site, statement)
    overlay(npu_gate)
    for outcome in layers.run([layer()], _device()):
        assert outcome.verdict == "skipped" and "by its compiled parts, and here " in outcome.skipped
        # It is run all the same.
        assert outcome.called == ("npu_swiglu",) and outcome.numbers is None


@pytest.mark.parametrize(
    ("function", "problem"),
    [(no_operator, "it did not call npu_swiglu but no operator"), (raising, "ValueError: not today")],
)
def test_without_them_an_overlay_may_fail_all_the_same(site: Any, overlay: Any, function: Any, problem: str) -> None:
    _lacking(site, COMPILED_PARTS["an operator"])
    overlay(function)
    for outcome in layers.run([layer()], _device()):
        assert outcome.verdict == "FAIL" and problem in outcome.problems[0]


def test_where_stock_vllm_does_without_them_an_overlay_must_too(overlay: Any) -> None:
    overlay(lambda x: torch.ops._lib_C.gate(x))
    for outcome in layers.run([layer()], _device()):
        assert outcome.verdict == "FAIL" and "'_lib_C' object has no attribute 'gate'" in outcome.problems[0]


def test_one_operator_missing_beside_others_is_a_fault(site: Any, overlay: Any) -> None:
    others = torch.library.Library("_others_C", "FRAGMENT")
    others.define("gated(Tensor x) -> Tensor")
    _lacking(site, "torch.ops._others_C.gate(x)")
    overlay(npu_gate)
    outcome, _ = layers.run([layer()], _device())
    assert outcome.verdict == "FAIL" and "it raises in stock vLLM: AttributeError" in outcome.problems[0]
