"""`ascend-overlay selftest`: what the first person with a card runs, and attaches to an issue."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from ascend_overlay import __version__
from ascend_overlay.commands import alone, software_npu, troubles
from ascend_overlay.commands.demo.checks import Check
from ascend_overlay.commands.demo.runs import Npu
from ascend_overlay.commands.demo.show import Progress, console
from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.commands.selftest import document, show, steps
from ascend_overlay.commands.selftest.steps import Step

_MINUTES = 20


@dataclass(frozen=True)
class Options:
    """What the user asked for; see the help of the command."""

    npu: Npu
    out: Path
    quick: bool
    timeout: float


def main(argv: Sequence[str]) -> int:
    """Run the command with the arguments `argv`; return its exit status.

    The status is 0 if all went well, 1 if something did not, and 2 if the command cannot be run as given.
    """
    return alone.run(
        _command,
        argv,
        name="ascend-overlay selftest",
        interrupted="Interrupted; the file has what was found until then.",
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--npu",
    type=click.Choice(get_args(Npu)),
    default="card",
    show_default=True,
    help="The card that torch_npu finds, or software, which this machine's CPU computes for.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("ascend-overlay-selftest.json"),
    show_default=True,
    help="The file to write; one that is there is written over.",
)
@click.option("--quick", is_flag=True, help="One case of each operator and layer, one model.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60.0 * _MINUTES,
    show_default=True,
    help="Seconds for everything; a step gets its share of what is left.",
)
def _command(**given: Any) -> int:
    """See whether vLLM, torch_npu, CANN, a card and the overlays work together, and leave one file about it.

    The steps: what is installed, and which platform vLLM chooses; every operator and layer on the NPU beside the CPU
    (verify); tiny models on the NPU, eagerly and by captured graphs, beside stock vLLM on the CPU; how long launches
    take. Each runs in processes of its own; one that fails or hangs does not keep the others from running. The file is
    made to be attached to an issue: of the variables of the environment it has only a few, by name. The exit status
    is 0 only if all went well.
    """
    options = Options(**given)
    # What keeps vLLM from being imported is found out by the steps, too: the file is worth having all the same.
    if sentence := troubles.missing(npu="software"):
        raise click.ClickException(sentence)
    _see_that_it_can_be_written(options.out)
    if options.npu == "software":
        # A card that is not there is what the first step finds out, and the file is worth having all the same.
        software_npu.see(options.npu)
    folder = Path(tempfile.mkdtemp(prefix="ascend-overlay-selftest-"))
    ok = False
    try:
        ok = _run(steps.all_steps(folder, options.npu, quick=options.quick), options)
    finally:
        if ok:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            click.echo(f"Models, ledgers and logs are left in {folder}", err=True)
    return 0 if ok else 1


def _run(every: Sequence[Step], options: Options) -> bool:
    """Run the steps, and write the file after each; return whether all went well."""
    out = console()
    started = time.monotonic()
    content: dict[str, Any] = {
        "ascend-overlay selftest": __version__,
        "npu": options.npu,
        "quick": options.quick,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "variables": {name: os.environ.get(name) for name in document.VARIABLES},
        "ok": False,
        "complete": False,
        "steps": [],
    }
    for number, step in enumerate(every):
        left = started + options.timeout - time.monotonic()
        content["steps"].append(_step(step, _share(left, every[number:]), out))
        document.write(options.out, content)
    content["ok"] = all(done["ok"] for done in content["steps"])
    content["complete"] = True
    content["seconds"] = round(time.monotonic() - started, 1)
    document.write(options.out, content)
    show.summary(out, content, options.out)
    return bool(content["ok"])


def _step(step: Step, timeout: float, out: Console) -> dict[str, Any]:
    # Until the step returns one: with no log to read.
    run = Run(step.name, Path(os.devnull))
    with Progress(out) as progress:
        try:
            run = step.run(timeout, lambda name, phase, seconds, over: progress(name, phase, seconds, False))
            done = document.outcome(run, step.judge(run), step.findings(run))
        except Exception as error:  # whatever a process left behind that nobody expects; the other steps are to run
            text = f"the self-test itself failed in this step: {type(error).__name__}: {error}"
            done = document.outcome(run, [Check(step.name, False, text)], {})
    show.step(out, done)
    return done


def _share(left: float, following: Iterable[Step]) -> float:
    """Return how many of the seconds that are left the first of the steps may take."""
    shares = [step.share for step in following]
    return max(left, 1.0) * shares[0] / sum(shares)


def _see_that_it_can_be_written(path: Path) -> None:
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise click.ClickException(
            f"{str(path)!r} cannot be written ({error.strerror}); pass --out another file."
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
