"""Running layers of vLLM as they are, under an overlay, and on a machine with an NPU under the overlay there, too."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ascend_overlay import api, versions
from ascend_overlay import settings as settings_module
from ascend_overlay.commands.verify import compiled
from ascend_overlay.commands.verify.numbers import compare
from ascend_overlay.commands.verify.operators import SLACK, Device
from ascend_overlay.commands.verify.outcome import Outcome
from ascend_overlay.couplings import fitting
from ascend_overlay.errors import OverlayError, RuledOutError, VersionError
from ascend_overlay.npu import tracing
from ascend_overlay.npu.case import LayerCase
from ascend_overlay.npu.cases import tiles
from ascend_overlay.npu.genuine.meta import flat


def run(cases: Sequence[LayerCase], device: Device | None = None) -> Iterator[Outcome]:
    """Run each case in stock vLLM, then those of each overlay under that overlay, and compare.

    Args:
        cases: what to run.
        device: an NPU, to run them there as well, under the overlay. Stock vLLM stays on the CPU.

    Yields:
        What came of each case, overlay by overlay; with a device, then what came of it there.
    """
    outcomes = [outcome_of(case) for case in cases]
    there = [outcome_of(case, device) for case in cases] if device else []
    stock: list[Any] = []
    release = versions.installed("vllm")
    with _traced(), configured():
        for index, (case, outcome) in enumerate(zip(cases, outcomes, strict=True)):
            outcome.skipped = _of_another_release(case, release)
            # A layer that this release does not have is no failure of an overlay that is not for it.
            stock.append(None if outcome.skipped else _run(case, outcome, "stock vLLM", may_lack=True, may_refuse=True))
            if there:
                there[index].skipped = there[index].skipped or outcome.skipped
            if called := _called():
                outcome.problems.append(f"stock vLLM called {', '.join(called)}: an overlay is in force already")
    for overlay in dict.fromkeys(case.overlay for case in cases):
        mine = [index for index, case in enumerate(cases) if case.overlay == overlay]
        found = [each[index] for each in (outcomes, there) if each for index in mine]
        try:
            beside = _beside((cases[index] for index in mine), release)
            with api.enabled(only=[overlay, *beside], trace=True, propagate=False):
                if reason := _ruled_out(overlay):
                    raise VersionError(reason)
                with configured():
                    for index in mine:
                        if not _of_another_release(cases[index], release):
                            _compare(cases[index], outcomes[index], stock[index])
                if device:
                    # A configuration of its own: vLLM remembers layers by name.
                    with configured(), torch.device(device.name):
                        for index in mine:
                            if not cases[index].cpu_only and not _of_another_release(cases[index], release):
                                _compare(cases[index], there[index], stock[index])
        except (VersionError, RuledOutError) as error:
            for outcome in found:
                outcome.skipped = str(error)
        except OverlayError as error:
            for outcome in found:
                outcome.problems.append(f"the overlay {overlay!r} cannot be enabled: {error}")
        yield from found


@contextlib.contextmanager
def configured() -> Iterator[None]:
    """Set vLLM's configuration for eager execution, with its kernels in their order, and groups of one process."""
    from types import SimpleNamespace

    from vllm.config import CompilationConfig, CompilationMode, VllmConfig, set_current_vllm_config

    tiles.allow()
    config = VllmConfig(compilation_config=CompilationConfig(mode=CompilationMode.NONE, custom_ops=["all"]))
    with set_current_vllm_config(config), config.kernel_config.ir_op_priority.set_priority():
        _groups_of_one()
        # Some rotary embeddings ask for it.
        config.model_config = SimpleNamespace(max_model_len=4096)  # type: ignore[assignment, unused-ignore]
        yield


def _groups_of_one() -> None:
    """Set up vLLM's groups of processes, where nobody has; they stay for the rest of this process."""
    from vllm.distributed import parallel_state

    if not parallel_state.model_parallel_is_initialized():
        folder = tempfile.mkdtemp(prefix="ascend-overlay-verify-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        parallel_state.init_distributed_environment(1, 0, f"file://{folder}/rendezvous", 0, "gloo")
        parallel_state.ensure_model_parallel_initialized(1, 1)


def outcome_of(case: LayerCase, device: Device | None = None) -> Outcome:
    """Return what a case begins with, on the CPU or on an NPU."""
    name = case.layer.rpartition(":")[2]
    outcome = Outcome("layer", name, case.label, case.dtype, "vLLM's own", case.overlay, case.rtol, case.atol)
    if device:
        # Its kernels may be off the reference kernels, as those may be off stock vLLM.
        outcome.kind, outcome.against = "NPU layer", "vLLM's own on the CPU"
        outcome.rtol, outcome.atol = SLACK * case.rtol, SLACK * case.atol
        outcome.skipped = case.cpu_only
    return outcome


def _run(case: LayerCase, outcome: Outcome, where: str, *, may_lack: bool, may_refuse: bool = False) -> Any:
    """Return what the layer returns; where it raises, None, and the outcome says so."""
    tracing.reset()
    try:
        return [result.cpu() if isinstance(result, Tensor) else result for result in flat(case.run())]
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        if may_lack and (lacking := compiled.lacking(error)):
            outcome.skipped = outcome.skipped or f"stock vLLM computes it by its compiled parts, and here {lacking}."
            return None
        if may_refuse and case.refusal and text.startswith(case.refusal):
            outcome.skipped = outcome.skipped or f"stock vLLM refuses it on this processor: {text}"
            return None
        outcome.problems.append(f"it raises in {where}: {type(error).__name__}: {text}")
        return None


def _compare(case: LayerCase, outcome: Outcome, stock: Any) -> None:
    where = " on the NPU" if outcome.kind == "NPU layer" else ""
    # Where vLLM lacks what it computes by, its layer may not even be built; where it is, the overlay must run.
    overlaid = _run(case, outcome, f"the overlay {case.overlay!r}{where}", may_lack=bool(outcome.skipped))
    if overlaid is None and outcome.ok:
        return
    outcome.called = tuple(_called())
    if missing := [name for name in case.operators if name not in outcome.called]:
        called = ", ".join(outcome.called) or "no operator"
        outcome.problems.append(f"it did not call {', '.join(missing)} but {called}")
    if stock is None and outcome.ok and not outcome.skipped:
        outcome.problems.append("there is nothing to compare with, since it raises in stock vLLM")
    if stock is None or overlaid is None:
        return
    for one, other in zip(stock, overlaid, strict=False):
        if isinstance(one, Tensor) and isinstance(other, Tensor) and one.dtype != other.dtype:
            outcome.problems.append(f"it returns {other.dtype}, stock vLLM {one.dtype}")
    outcome.numbers = compare(overlaid, stock, rtol=outcome.rtol, atol=outcome.atol)
    if outcome.numbers.problem:
        outcome.problems.append(outcome.numbers.problem)


def _called() -> list[str]:
    return [name for name, count in tracing.counts().items() if count]


def _of_another_release(case: LayerCase, release: str | None) -> str:
    """Return why this release of vLLM lacks the layer, or the overlay has nothing for it there; empty where it has."""
    if release is not None and not versions.in_range(case.vllm, release, whose=case.overlay):
        name = case.layer.rpartition(":")[2]
        return f"vllm {release} is installed; {name}, {case.label}, is in vllm {case.vllm}"
    overlay = api.overlays().get(case.overlay)
    reason = fitting.rules_out(overlay, case.layer, release) if overlay is not None else None
    return f"vllm {release} is installed; {reason}" if reason else ""


def _beside(cases: Iterable[LayerCase], release: str | None) -> list[str]:
    """Return which overlays some of the cases of an overlay need beside it, in a release of vLLM."""
    return sorted(
        {
            other
            for case in cases
            for other, range_ in case.beside.items()
            if release is not None and versions.in_range(range_, release, whose=case.overlay)
        }
    )


def _ruled_out(overlay: str) -> str | None:
    """Return why nothing of the overlay applies here, or None."""
    entries = api.ledger().of(overlay)
    if any(entry.state != "skipped" for entry in entries) or not entries:
        return None
    return entries[0].reason


@contextlib.contextmanager
def _traced() -> Iterator[None]:
    """Count the calls of NPU operators without any overlay."""
    before = settings_module.in_force()
    settings_module.use(dataclasses.replace(settings_module.current(), trace=True))
    try:
        yield
    finally:
        settings_module.use(before)
