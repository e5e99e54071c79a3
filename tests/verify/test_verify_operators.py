"""Operator cases: on the CPU, on a device that stands for an NPU, and beside what torch_npu says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from verify_kit import operator, swiglu, torch, writer

from ascend_overlay import npu
from ascend_overlay.commands.verify import operators, referee
from ascend_overlay.commands.verify.operators import Device
from ascend_overlay.npu.genuine import meta
from ascend_overlay.npu.genuine.meta import Answer, Shape, Statement
from ascend_overlay.npu.genuine.source import TorchNpu


def test_a_right_number_passes() -> None:
    outcome = operators.run(operator()).outcome
    assert outcome.problems == [] and outcome.verdict == "ok"
    assert outcome.numbers is not None and 0 < outcome.numbers.used < 1 and outcome.numbers.elements == 12


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"baseline": lambda x: swiglu(x) * 1.001}, "numbers off"),
        ({"baseline": lambda x: swiglu(x)[:2]}, "shape (3, 4), not (2, 4)"),
        ({"baseline": lambda x: (swiglu(x), x)}, "1 results, not 2"),
        ({"baseline": lambda x: 1 / 0}, "the baseline raises ZeroDivisionError"),
        ({"arguments": lambda: ((torch.ones(2, 7),), {})}, "the reference kernel raises RuntimeError"),
    ],
)
def test_a_wrong_one_fails(changes: Any, problem: str) -> None:
    outcome = operators.run(operator(**changes)).outcome
    assert outcome.verdict == "FAIL"
    assert problem in outcome.problems[0]


def test_a_nan_that_the_baseline_does_not_have_fails() -> None:
    x = torch.ones(1, 8)
    x[0, 0] = torch.nan
    assert operators.run(operator(arguments=lambda: ((x,), {}))).outcome.ok
    wrong = operator(arguments=lambda: ((x,), {}), baseline=lambda x: swiglu(x).nan_to_num(0.0))
    assert "nan, not 0" in operators.run(wrong).outcome.problems[0]


def test_written_arguments_follow_the_results() -> None:
    done = operators.run(writer())
    assert done.outcome.ok
    assert [tensor.tolist() for tensor in done.written] == [[2.0, 2.0], [6.0, 6.0]]
    wrong = operators.run(writer(baseline=lambda x, total, more: (x * 2, total)))
    assert "result 2: 2 of 2 numbers off" in wrong.outcome.problems[0]


def test_an_argument_that_the_schema_does_not_give_away_must_stay() -> None:
    def scribble(x: Any, total: Any, *, more: Any) -> Any:
        more[0].fill_(7)
        return total.add_(x) * 0 + 2 * x

    library = torch.library.Library("npu", "FRAGMENT")
    library.define("test_scribbler(Tensor x, Tensor(a!) total, *, Tensor[] more) -> Tensor")
    library.impl("test_scribbler", scribble, "CPU")
    (problem,) = operators.run(writer(operator="test_scribbler")).outcome.problems
    assert problem.startswith("the reference kernel writes to the argument 'more'")
    library._destroy()


@pytest.mark.parametrize(
    ("fake", "problem"),
    [
        (
            lambda x: x.new_empty(3, 2),
            "announces float32[3, 2], and the reference kernel returns float32[3, 4]",
        ),
        (lambda x: x.new_empty(3, 4, dtype=torch.float16), "announces float16[3, 4], and"),
        (
            lambda x: x.new_empty(4, 3).t(),
            "announces the strides (1, 3), and the reference kernel returns (4, 1)",
        ),
        (lambda x: (x, x), "announces float32[3, 8], float32[3, 8], and"),
        (lambda x, dim: x, "raises TypeError"),
    ],
)
def test_a_fake_kernel_that_announces_something_else_fails(
    monkeypatch: pytest.MonkeyPatch, fake: Any, problem: str
) -> None:
    wrong = {"npu_swiglu": replace(KERNELS["npu_swiglu"], fake=fake)}
    monkeypatch.setattr(operators.registration, "kernels", lambda: wrong)
    (found,) = operators.run(operator()).outcome.problems
    assert found.startswith(f"the fake kernel {problem}")


def _device(answer: Any = None) -> tuple[Device, list[Any]]:
    """Return a device that runs the reference kernel, and changes its results by `answer`."""
    moved: list[Any] = []

    def move(tensor: Any) -> Any:
        moved.append(tensor)
        return tensor.clone()

    def call(name: str, *positional: Any, **named: Any) -> Any:
        result = getattr(torch.ops.npu, name)(*positional, **named)
        return answer(result) if answer else result

    return Device("npu", move, call), moved


def test_the_npu_is_held_against_the_reference_kernel() -> None:
    done = operators.run(operator())
    device, moved = _device()
    outcome = operators.run_on(device, done)
    assert outcome.ok and outcome.kind == "NPU" and outcome.against == "reference kernel"
    assert len(moved) == 1
    # Each of the two may be off the formula by one tolerance.
    assert (outcome.rtol, outcome.atol) == (8e-6, 2e-6)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda y: y * 1.001, "numbers off"),
        (lambda y: y[:1], "shape"),
        (lambda y: y * torch.nan, "nan"),
        (lambda y: y.double(), "the NPU returns torch.float64, the reference kernel torch.float32"),
        (lambda y: 1 / 0, "the kernel of the NPU raises ZeroDivisionError"),
    ],
)
def test_what_the_npu_does_differently_fails(answer: Any, problem: str) -> None:
    device, _ = _device(answer)
    outcome = operators.run_on(device, operators.run(operator()))
    assert outcome.verdict == "FAIL" and problem in outcome.problems[0]


def test_strides_go_to_the_npu_as_they_are() -> None:
    memory = torch.arange(24.0).view(2, 3, 4)
    laid = [memory[:, 1], memory[..., 1:3], memory[..., ::2], memory.transpose(0, 2), memory[:, :1].expand(2, 5, 4)]
    seen: list[Any] = []

    def call(name: str, *positional: Any, **named: Any) -> Any:
        seen.extend(positional[0])
        return torch.zeros(1)

    given = replace(operator(), arguments=lambda: ((laid,), {}), baseline=lambda _: torch.zeros(1))
    done = operators.Run(given, operators.run(operator()).outcome, None, returned=(), written=(torch.zeros(1),))
    operators.run_on(Device("npu", lambda tensor: tensor.contiguous().clone(), call), done)
    assert [x.stride() for x in seen] == [x.stride() for x in laid]
    assert all(torch.equal(x, y) for x, y in zip(seen, laid, strict=True))


def test_an_npu_that_takes_no_tensor_fails_the_case() -> None:
    def full(tensor: Any) -> Any:
        raise RuntimeError("NPU out of memory")

    outcome = operators.run_on(Device("npu", full, operators._call), operators.run(operator()))
    assert outcome.problems == ["the kernel of the NPU raises RuntimeError: NPU out of memory"]


def test_written_arguments_are_read_back_from_the_npu() -> None:
    device, moved = _device()
    assert operators.run_on(device, operators.run(writer())).ok
    assert len(moved) == 3

    def forgetful(name: str, x: Any, total: Any, *, more: Any) -> Any:
        return x * 2

    outcome = operators.run_on(Device("npu", device.move, forgetful), operators.run(writer()))
    assert "result 2" in outcome.problems[0]


def test_integers_get_no_slack_on_the_npu() -> None:
    done = operators.run(operator(atol=1.0))
    device, _ = _device(lambda y: torch.full((2,), 7, dtype=torch.int8))
    done.written = (torch.full((2,), 8, dtype=torch.int8),)
    assert operators.run_on(device, done).ok
    done.written = (torch.full((2,), 9, dtype=torch.int8),)
    assert not operators.run_on(device, done).ok


def test_without_a_reference_there_is_nothing_to_hold_it_against() -> None:
    done = operators.run(operator(arguments=lambda: ((torch.ones(2, 7),), {})))
    assert operators.run_on(_device()[0], done).skipped == "the reference kernel raised"


def test_here_is_no_npu() -> None:
    assert operators.npu_device() is None


def test_an_npu_is_found_where_torch_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "npu", type("npu", (), {"is_available": staticmethod(lambda: True)}), raising=False)
    device = operators.npu_device()
    assert device is not None and device.name == "npu"


KERNELS = {"npu_swiglu": npu.kernels()["npu_swiglu"]}
SAME = Answer(results=(Shape((3, 4), "float32", (4, 1)),))


def _ruled(monkeypatch: pytest.MonkeyPatch, answer: Answer, schema: str = KERNELS["npu_swiglu"].schema) -> Any:
    """Return a run and the ruling, where torch_npu gives `answer` and has the `schema`."""
    run = operators.run(operator())
    monkeypatch.setattr(referee.genuine, "read", lambda folder: ({"npu_swiglu": schema}, frozenset({"npu_swiglu"})))
    monkeypatch.setattr(
        meta, "ask", lambda torch_npu, names, calls: Statement("2.13.0", answers=(answer,) * len(calls))
    )
    monkeypatch.setattr(referee.process, "obstacle", lambda torch_npu: None)
    return run.outcome, referee.rule(TorchNpu(None, "2.13.0"), KERNELS, [run])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "said", "problem"),
    [
        (SAME, "same", ""),
        (Answer(no_meta=True), "no meta", ""),
        (Answer(refusal="Unknown keyword argument 'y'"), "refused", "torch_npu refuses the call: Unknown keyword"),
        (
            Answer(results=(Shape((4, 3), "float32"),)),
            "differs",
            "float32[4, 3]; the reference kernel float32[3, 4]",
        ),
        (Answer(results=(Shape((3, 4), "float16"),)), "differs", "returns float16[3, 4]"),
        (Answer(results=()), "differs", "the reference kernel float32[3, 4]"),
    ],
)
def test_what_torch_npus_meta_kernel_says(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, said: str, problem: str
) -> None:
    outcome, ruling = _ruled(monkeypatch, answer)
    assert ruling.asked and ruling.problems == ()
    assert outcome.torch_npu == said
    assert outcome.ok == (problem == "")
    assert problem in "".join(outcome.problems)


def test_another_schema_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ruling = _ruled(monkeypatch, SAME, "npu_swiglu(Tensor input) -> Tensor")
    assert ruling.problems == ("npu::npu_swiglu: the operator of torch_npu 2.13.0 has no argument 'dim'.",)
    _, ruling = _ruled(monkeypatch, SAME, "npu_swiglu(Tensor input, int dim=-1, *, int more=0) -> Tensor")
    assert ruling.problems == ("npu::npu_swiglu: the operator of torch_npu 2.13.0 also takes 'more'.",)


def test_without_torch_npu_the_recorded_schemas_count(monkeypatch: pytest.MonkeyPatch) -> None:
    run = operators.run(operator())
    ruling = referee.rule(None, KERNELS, [run])
    assert not ruling.asked and ruling.problems == ()
    assert "not asked; pass --torch-npu" in ruling.remark
    assert run.outcome.torch_npu == "not checked"
    wrong = replace(KERNELS["npu_swiglu"], schema="npu_swiglu(Tensor input, int dim=0) -> Tensor")
    assert "has -1, not 0" in referee.rule(None, {"npu_swiglu": wrong}, [run]).problems[0]
    # What a plugin brings is not recorded.
    theirs = replace(wrong, schema="acme_operator(Tensor x) -> Tensor")
    ruling = referee.rule(None, {"acme_operator": theirs}, [])
    assert ruling.problems == () and ruling.remark.startswith("No schema is recorded of acme_operator. torch_npu's")


def test_of_a_torch_npu_that_cannot_be_imported_the_schemas_count(monkeypatch: pytest.MonkeyPatch) -> None:
    run = operators.run(operator())
    monkeypatch.setattr(referee.genuine, "read", lambda folder: ({}, frozenset()))
    monkeypatch.setattr(referee.process, "obstacle", lambda torch_npu: "It is too old.")
    ruling = referee.rule(TorchNpu(None, "2.9.0"), KERNELS, [run])  # type: ignore[arg-type]
    assert (ruling.asked, ruling.remark) == (False, "It is too old. So its meta kernels were not asked.")
    assert ruling.problems == ("npu::npu_swiglu: torch_npu 2.9.0 has no such operator.",)
