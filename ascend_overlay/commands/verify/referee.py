"""Holding schemas and results against torch_npu: the genuine one where it can be had, else what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ascend_overlay.commands.verify.operators import Run
from ascend_overlay.errors import ConfigError, some_of
from ascend_overlay.npu import contract, schemas
from ascend_overlay.npu.genuine import meta, process
from ascend_overlay.npu.genuine import schemas as genuine
from ascend_overlay.npu.genuine.meta import Answer
from ascend_overlay.npu.genuine.source import TorchNpu
from ascend_overlay.npu.kernel import ReferenceKernel

HOW = "pass --torch-npu 2.13.0 (pip downloads it), or the path of its wheel"
"""How to have the meta kernels asked, for those who read that they were not."""


@dataclass(frozen=True)
class Ruling:
    """What was found.

    Attributes:
        who: who was asked, in words.
        asked: whether meta kernels were asked.
        remark: why they were not, as a sentence.
        problems: sentences on operators whose schema is not that of torch_npu.
    """

    who: str
    asked: bool
    remark: str = ""
    problems: tuple[str, ...] = ()


def rule(torch_npu: TorchNpu | None, kernels: Mapping[str, ReferenceKernel], runs: Sequence[Run]) -> Ruling:
    """Compare schemas and the results of `runs`; what torch_npu says goes into their outcomes.

    Args:
        torch_npu: the genuine one, or None.
        kernels: the reference kernels, by operator.
        runs: cases after their run on the CPU.
    """
    if torch_npu is None:
        home = schemas.releases()[schemas.HOME]
        # Of what plugins bring, nothing is recorded.
        recorded = [kernel for name, kernel in kernels.items() if name in home.schemas]
        absent = [name for name in kernels if name not in home.schemas]
        problems = tuple(_complaints(schemas.HOME, recorded, home.schemas))
        unrecorded = f"No schema is recorded of {some_of(absent)}. " if absent else ""
        remark = f"{unrecorded}torch_npu's meta kernels were not asked; {HOW}."
        return Ruling(f"torch_npu {home.version}, as recorded", False, remark, problems)
    found, _ = genuine.read(torch_npu.folder)
    problems = tuple(_complaints(torch_npu.version, kernels.values(), found))
    if reason := process.obstacle(torch_npu):
        return Ruling(str(torch_npu), False, f"{reason} So its meta kernels were not asked.", problems)
    statement = meta.ask(torch_npu, list(kernels), [run.call for run in runs])
    if len(statement.answers) != len(runs):
        raise ConfigError(f"{torch_npu} gave {len(statement.answers)} answers to {len(runs)} calls.")
    for run, answer in zip(runs, statement.answers, strict=True):
        _judge(run, answer)
    return Ruling(str(torch_npu), True, "", problems)


def _judge(run: Run, answer: Answer) -> None:
    outcome = run.outcome
    if answer.no_meta:
        outcome.torch_npu = "no meta"
    elif answer.results is None:
        outcome.torch_npu = "refused"
        outcome.problems.append(f"torch_npu refuses the call: {answer.refusal}")
    elif run.returned is None:
        outcome.torch_npu = "accepted"
    elif list(map(str, answer.results)) == list(map(str, run.returned)):
        outcome.torch_npu = "same"
    else:
        outcome.torch_npu = "differs"
        theirs, ours = (", ".join(map(str, results)) for results in (answer.results, run.returned))
        outcome.problems.append(f"torch_npu's meta kernel returns {theirs}; the reference kernel {ours}")


def _complaints(version: str, kernels: Iterable[ReferenceKernel], theirs: Mapping[str, str | None]) -> Iterator[str]:
    """Yield a sentence for each kernel whose schema is not torch_npu's."""
    for kernel in kernels:
        schema = theirs.get(kernel.name)
        if schema is None:
            yield f"npu::{kernel.name}: torch_npu {version} has no such operator."
        elif found := contract.differences(kernel.schema, schema):
            texts = "; it ".join(difference.text for difference in found)
            yield f"npu::{kernel.name}: the operator of torch_npu {version} {texts}."
