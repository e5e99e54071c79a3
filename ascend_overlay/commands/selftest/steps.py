"""The steps of the self-test: each runs in processes of its own, within its time, and is judged by checks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo import checks, compare, on_npu, runs, tiny
from ascend_overlay.commands.demo.checks import Check
from ascend_overlay.commands.demo.prompts import PROMPTS, SEED
from ascend_overlay.commands.demo.runs import Npu
from ascend_overlay.commands.demo.watching import Progress, Run, follow
from ascend_overlay.commands.selftest import judging

FAMILIES = ("llama3", "deepseek_v2")
"""The models: ordinary attention, and latent attention with experts."""

TOKENS = 16


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: what it is called.
        share: how much of the time is its, beside the other steps.
        run: runs it, within so many seconds, telling its progress; what it returns has ended.
        judge: returns the checks of that.
        findings: returns what of that is worth keeping.
    """

    name: str
    share: int
    run: Callable[[float, Progress], Run]
    judge: Callable[[Run], list[Check]]
    findings: Callable[[Run], dict[str, Any]]


def all_steps(folder: Path, npu: Npu, *, quick: bool) -> list[Step]:
    """Return the steps, in order.

    Args:
        folder: where they write.
        npu: which NPU they are on.
        quick: less of each: one case of each operator and layer and dtype, one model, in one process.
    """
    script = _Scripts(folder, npu)
    return [
        script.step("environment", 1, judging.environment),
        script.step("verify", 4, judging.verify, *(["quick"] if quick else [])),
        *(step for family in FAMILIES[: 1 if quick else None] for step in _model(folder, family, npu, quick)),
        script.step("launches", 1, judging.launches),
    ]


@dataclass(frozen=True)
class _Scripts:
    """Makes steps of the scripts beside this file.

    Attributes:
        folder: where they write, each in a folder of its own.
        npu: which NPU they are on.
    """

    folder: Path
    npu: Npu

    def step(self, name: str, share: int, judge: Callable[[Run], list[Check]], *arguments: str) -> Step:
        """Return the step that runs the script of that name, `verification` for `verify`."""
        module = f"{__package__}.{'verification' if name == 'verify' else name}"

        def run(timeout: float, progress: Progress) -> Run:
            found = Run(name, self.folder / name)
            found.folder.mkdir()
            # verify compiles, so nothing may keep it from that.
            env = runs.environment(found.folder / "cache", overlaid=True, compiled=True)
            python = [sys.executable, "-m", module, str(found.folder), *arguments]
            command = [*runs.RUN, "--npu", "software", *_as_it_is(), *python]
            follow(found, command if self.npu == "software" else python, env, timeout=timeout, progress=progress)
            return found

        return Step(name, share, run, lambda run: [checks.ended(run), *judge(run)], lambda run: run.result)


def _as_it_is() -> list[str]:
    """Return the command that leaves it to what is installed whether there are overlays, as beside a card."""
    return ["env", "-u", "ASCEND_OVERLAY"]


def _model(folder: Path, family: str, npu: Npu, quick: bool) -> Sequence[Step]:
    """Return the steps of one model: stock on the CPU, and on the NPU eagerly and by captured graphs."""
    model = tiny.FAMILIES[family](folder / "models" / family, seed=SEED)
    stock: list[Run] = []

    def step(how: str, name: str, judge: Callable[[Run], list[Check]], **more: Any) -> Step:
        place = folder / f"{family} {how}"

        def run(timeout: float, progress: Progress) -> Run:
            spec = {"model": str(model), "prompts": list(PROMPTS[:4]), "tokens": TOKENS, "compiled": False, **more}
            spec["alone"] = quick
            found = runs.execute(name, spec, place, timeout=timeout, progress=progress, npu=npu)
            # As it is told of.
            found.name = place.name
            if name == "stock":
                stock.append(found)
            return found

        return Step(place.name, 2, run, lambda run: [checks.ended(run), *judge(run)], _findings)

    def beside_stock(graphs: bool) -> Callable[[Run], list[Check]]:
        return lambda run: judging.model(stock[0] if stock else None, run, graphs=graphs)

    return [
        step("on the CPU", "stock", lambda run: [checks.untouched(run)] if run.result else []),
        step("on npu, eagerly", "npu", beside_stock(False), npu=npu, graphs=False),
        step("on npu, by graphs", "npu", beside_stock(True), npu=npu, graphs=True),
    ]


def _findings(run: Run) -> dict[str, Any]:
    """Return what is worth keeping of a run of a model."""
    return {
        "device": run.result.get("device"),
        "platform": run.result.get("platform"),
        "tokens": [output["tokens"] for output in run.result.get("outputs", ())],
        "operators": on_npu.operator_calls(run),
        "notes": [f"{overlay}: {text}" for ledger in run.ledgers for overlay, text in ledger.notes],
        "tolerance_nats": compare.TOLERANCE,
        "peak_memory_bytes": run.peak,
    }
