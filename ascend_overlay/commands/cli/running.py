"""Running programs with the overlays: run, autoload, ledger."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import Any

import click

from ascend_overlay import process
from ascend_overlay.commands import json_output
from ascend_overlay.commands.cli.common import Listed, Subcommand, names, option_of, status_2, terminal
from ascend_overlay.commands.cli.settings_options import settings_of, settings_options
from ascend_overlay.errors import ConfigError, LockError, ProcessError, usage
from ascend_overlay.settings import PREFIX, Settings, declined, not_in_force, required


@click.command(cls=Subcommand, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@settings_options
@click.option("--overlays/--no-overlays", default=True, help="Enable overlays at all; default: yes.")
@click.option("--npu", metavar="software", help="Let torch_npu find devices that this machine's CPU computes for.")
@click.option("--npu-devices", metavar="NUMBER", help="How many; default 1.")
@click.option("--npu-memory", metavar="SIZE", help="Memory of each, such as 512MiB; default 8GiB.")
@click.option("--npu-report", metavar="DIR", type=click.Path(), help="Write one file per process: what was called.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: tuple[str, ...],
    overlays: bool,
    npu: str | None,
    npu_devices: str | None,
    npu_memory: str | None,
    npu_report: str | None,
    **options: Any,
) -> None:
    """Run COMMAND with the overlays, in all its Python processes.

    For example: ascend-overlay run vllm serve MODEL

    With --npu software, the genuine torch_npu works without a card: ascend-overlay run --npu software python train.py
    """
    from ascend_overlay import api
    from ascend_overlay.commands import software_npu, unreached
    from ascend_overlay.engine.propagation import prepended, startup_folder

    if command[0].startswith("-"):
        raise click.NoSuchOption(command[0], possibilities=_near(command[0]))
    settings = settings_of(**options)
    asked_for = [*required(), *settings.require]
    if overlays and declined():
        off = f"{PREFIX}={os.environ[PREFIX]} switches the overlays off: the command runs without them."
        click.echo(f"{off}{not_in_force(asked_for)}", err=True)
        overlays = False
    elif not overlays and options["require"] is not None:
        text = "--require requires overlays, and --no-overlays switches them off; leave one of the two out."
        raise usage(ConfigError(text))
    elif not overlays and (asked_for or any(value is not None for value in options.values())):
        given = ", ".join(option_of(name) for name, value in options.items() if value is not None)
        idle = f" Without effect: {given}." if given else ""
        click.echo(f"--no-overlays: the command runs without overlays.{idle}{not_in_force(asked_for)}", err=True)
    if overlays and settings.strict:
        _see_files(settings)
    if overlays and not settings.load:
        # A wrong name is better told here than in the middle of an import of vLLM. Modules to load are for the command
        # to find, whose search path is its own.
        api.check_settings(settings)
    environment = os.environ | (settings.variables(os.environ) if overlays else {PREFIX: "0"})
    environment[process.RUN] = process.run()
    environment |= software_npu.variables(npu, npu_devices, npu_memory, npu_report)
    environment["PYTHONPATH"] = prepended(environment.get("PYTHONPATH", ""), startup_folder())
    if overlays and (unmet := unreached.sentence(command, environment)) is not None:
        if settings.strict:
            raise usage(ProcessError(unmet))
        click.echo(f"WARNING: {unmet}", err=True)
    # Nothing flushes this once another program has taken the place of this one.
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise click.ClickException(f"{command[0]!r} cannot be run: {error.strerror}.") from error


def _see_files(settings: Settings) -> None:
    """See that what the settings name here can be used, before anything is started.

    Raises:
        OverlayError: it cannot.
    """
    from ascend_overlay.ledgers import LedgerFolder
    from ascend_overlay.lockfile import Lock

    with status_2():
        if settings.ledger:
            LedgerFolder(settings.ledger).check(settings.whose("ledger"))
        if settings.lock:
            try:
                Lock.read(settings.lock)
            except LockError as error:
                raise LockError(f"{settings.whose('lock')}: {error}") from None


def _near(option: str) -> list[str]:
    known = [name for parameter in run.params for name in parameter.opts]
    return difflib.get_close_matches(option.partition("=")[0], known)


@click.command(cls=Subcommand, short_help="Arm the overlays in every Python of this environment.")
@click.argument("action", type=click.Choice(["on", "off", "status"]))
def autoload(action: str) -> None:
    """Arm the overlays in every Python process of this environment; ASCEND_OVERLAY=1 then enables them."""
    from ascend_overlay.hooks import autoload as pth

    if action == "on":
        pth.on()
    elif action == "off":
        pth.off()
    click.echo(pth.status())


@click.command("ledger", cls=Subcommand, short_help="Show what happened in the processes of a run.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--each", is_flag=True, help="Print one table a process, with what each patch did.")
@click.option("--check", is_flag=True, help="Leave with status 1 where a patch failed or is not in force.")
@click.option(
    "--expect", cls=Listed, metavar="ROLE[=NUMBER],...", help="Check that there were processes of these roles."
)
@click.option(
    "--require",
    cls=Listed,
    metavar="NAME,...",
    help="Check that these overlays were in force wherever they are of use.",
)
@click.option("--overlay", cls=Listed, metavar="NAME,...", help="Show these overlays only.")
@click.option("--role", cls=Listed, metavar="ROLE,...", help="Show processes of these roles only.")
@click.option("--state", cls=Listed, metavar="STATE,...", help="Show patches in these states only.")
@click.option("--run", "run_id", metavar="RUN|latest", help="Show and check the processes of one run only.")
@json_output.option
def ledger_command(
    folder: Path,
    each: bool,
    check: bool,
    expect: str | None,
    require: str | None,
    overlay: str | None,
    role: str | None,
    state: str | None,
    run_id: str | None,
    write: json_output.Write | None,
) -> None:
    """Show the ledgers that the processes of a run wrote to FOLDER (ASCEND_OVERLAY_LEDGER).

    With --check, --expect or --require it says what is not as it should be, and the status is 1 where anything is not.
    """
    from ascend_overlay.commands import ledger

    demands = ledger.demands(expect, names(require)) if check or expect is not None or require is not None else None
    choice = ledger.Choice(names(overlay) or (), names(role) or (), names(state) or (), run_id)
    sys.exit(ledger.run(folder, choice, demands, each=each, write=write, console=terminal()))
