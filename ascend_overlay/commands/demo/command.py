"""`ascend-overlay demo`: a tiny DeepSeek-V2 in stock and in overlaid vLLM, and on an NPU, side by side."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import click

from ascend_overlay import __version__, versions
from ascend_overlay.commands import alone, json_output, software_npu, troubles
from ascend_overlay.commands.demo import checks, choice, compare, runs, show
from ascend_overlay.commands.demo import on_npu as on_npu_checks
from ascend_overlay.commands.demo.prompts import PROMPTS, SEED
from ascend_overlay.commands.demo.watching import Run

_NPUS = {
    "card": "the card that torch_npu finds",
    "software": "a software NPU, which the CPU computes for: its times mean nothing",
}

_FOLDER = click.Path(file_okay=False, path_type=Path)


@dataclass(frozen=True)
class Options:
    """What the user asked for; see the help of the command."""

    npu: runs.Npu | None
    compiled: bool
    prompts: int
    tokens: int
    timeout: float
    keep: Path | None


def main(argv: Sequence[str]) -> int:
    """Run the command with the arguments `argv`; return its exit status.

    The status is 0 if all is as it should be, 1 if something is not, and 2 if the command cannot be run as given.
    """
    return alone.run(_command, argv, name="ascend-overlay demo", interrupted="Interrupted; all runs are ended.")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--npu",
    type=click.Choice(get_args(runs.Npu)),
    help="A third run, on an NPU: the card that torch_npu finds, or software, which this machine's CPU computes for.",
)
@click.option("--eager/--compiled", default=True, help="Without torch.compile (default), or with it: slower to start.")
@click.option("--prompts", type=click.IntRange(1, len(PROMPTS)), default=4, show_default=True, help="How many prompts.")
@click.option("--tokens", type=click.IntRange(1, 128), default=16, show_default=True, help="Tokens for each prompt.")
@click.option("--timeout", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds for each run.")
@click.option("--keep", type=_FOLDER, help="Keep model, ledgers and logs in this folder.")
@json_output.option
def _command(write: json_output.Write | None, **given: Any) -> int:
    """Run a tiny model in stock and in overlaid vLLM, and compare them.

    The model is a DeepSeek-V2, or, for a vLLM that does not know that, a Qwen3 or a Llama. Makes it, runs it twice,
    each time in processes of its own, and shows the ledger of every process, how often each NPU operator ran, whether
    both say the same, and time and memory side by side. Needs no NPU and no download. The exit status is 0 only if
    everything is as it should be.

    With --npu, these two runs are on the CPU, whatever vLLM would choose, and a third one is stock vLLM on the NPU,
    with captured graphs. It needs torch_npu, of the release that torch is of (pip install --no-deps
    torch_npu==RELEASE); --npu card also CANN and a card, --npu software a compiler.
    """
    options = Options(compiled=not given.pop("eager"), **given)
    if sentence := troubles.missing(npu=options.npu):
        raise click.ClickException(sentence)
    model = choice.known_here()
    if model is None:
        names = ", ".join(each.architecture for each in choice.MODELS)
        raise click.ClickException(
            f"the installed vLLM {versions.installed('vllm')} knows none of the models that the demo has: {names}."
        )
    software_npu.see(options.npu)
    folder = _folder(options.keep)
    keep = options.keep is not None
    try:
        ok = _run(options, model, folder, write)
        keep = keep or not ok
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if ok else 1


def _run(options: Options, chosen: choice.Model, folder: Path, write: json_output.Write | None) -> bool:
    """Run all and say what came of it, by `write` as data where that is given; return whether all is well."""
    console = show.console()
    if write is None:
        show.header(console, _about(options, chosen))
    with show.Progress(console) as progress:
        started = time.perf_counter()
        model = chosen.make(folder / "model", seed=SEED)
        progress("all" if options.npu else "both", "make the model", time.perf_counter() - started, True)
        spec: dict[str, Any] = {
            "model": str(model),
            "prompts": list(PROMPTS[: options.prompts]),
            "tokens": options.tokens,
            "compiled": options.compiled,
        }
        on_npu = {"npu": options.npu, "graphs": True}
        stock, overlaid, *others = (
            runs.execute(
                name,
                spec | (on_npu if name == "npu" else {}),
                folder / name,
                timeout=options.timeout,
                progress=progress,
                npu=options.npu,
            )
            for name in _names(options)
        )
    npu = others[0] if others else None
    differences = compare.of_runs(stock, overlaid)
    npu_differences = compare.of_runs(stock, npu)
    found = checks.all_checks(stock, overlaid, differences, chosen.operators)
    if npu is not None:
        found += on_npu_checks.checks(stock, npu, npu_differences, chosen.operators)
    ok = all(check.ok for check in found)
    if write is None:
        every = [stock, overlaid, *others]
        show.ledgers(console, overlaid.ledgers)
        show.operators(console, overlaid.ledgers, None if npu is None else on_npu_checks.operator_calls(npu))
        show.outputs(console, "overlaid", differences)
        show.outputs(console, "npu", npu_differences)
        show.costs(console, every, show.cost_rows(every, options.prompts * options.tokens))
        for run in every:
            if run.status != 0 or not run.result:
                show.log_tail(console, run)
        show.verdicts(console, found, npu=npu is not None)
    else:
        write(
            {
                "ok": ok,
                "checks": [asdict(check) for check in found],
                "environment": dict(_about(options, chosen)),
                "options": {"compiled": options.compiled, "prompts": options.prompts, "tokens": options.tokens},
                "tolerance_nats": compare.TOLERANCE,
                "operators": checks.operator_counts(overlaid.ledgers),
                "differences": [difference.to_dict() for difference in differences],
                "stock": stock.to_dict(),
                "overlaid": overlaid.to_dict(),
                **({} if npu is None else _third(npu, npu_differences)),
            }
        )
    if not ok and options.keep is None:
        console.print(f"Model, ledgers and logs are left in {folder}", soft_wrap=True, markup=False)
    return ok


def _names(options: Options) -> list[str]:
    return ["stock", "overlaid", *(["npu"] if options.npu else [])]


def _third(npu: Run, differences: Sequence[compare.Difference]) -> dict[str, Any]:
    return {
        "npu_operators": on_npu_checks.operator_calls(npu),
        "npu_differences": [difference.to_dict() for difference in differences],
        "npu": npu.to_dict(),
    }


def _about(options: Options, chosen: choice.Model) -> list[tuple[str, str]]:
    torch_npu = versions.installed("torch_npu")
    kernels = f"torch_npu {torch_npu}" if torch_npu else "no torch_npu: reference kernels on CPU"
    system = f"{platform.system()} {platform.machine()}"
    mode = "with torch.compile" if options.compiled else "eager (without torch.compile)"
    return [
        ("overlays", f"ascend_overlay {__version__}"),
        ("vLLM", f"{versions.installed('vllm')}, torch {versions.installed('torch')}, {kernels}"),
        (
            "machine",
            f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {system}",
        ),
        *([("npu", _NPUS[options.npu])] if options.npu else []),
        ("run", f"{chosen.title}, bfloat16, {mode}"),
    ]


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="ascend-overlay-demo-"))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        for name in ("model", "stock", "overlaid", "npu"):
            # Ledgers and phases of an earlier demo must not pass for those of this one.
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(keep / name)
    except OSError as error:
        raise click.ClickException(
            f"{str(keep)!r} cannot be used ({error.strerror}); pass --keep another folder."
        ) from error
    return keep.resolve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
