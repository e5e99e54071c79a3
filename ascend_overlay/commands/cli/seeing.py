"""Seeing what is here, and what runs: list, explain, status, doctor, coverage."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from ascend_overlay.commands import completing, json_output
from ascend_overlay.commands.cli.common import FOLDER, LOAD, Subcommand, names, show_ledgers, terminal
from ascend_overlay.commands.cli.settings_options import settings_of, settings_options
from ascend_overlay.settings import PREFIX, Settings, declined, not_in_force, required


@click.command("list", cls=Subcommand)
@settings_options
@click.option("--vllm", "release", metavar="RELEASE", help="Judge for this vLLM: 0.33.0, newest, a folder, a wheel.")
@json_output.option
def list_command(release: str | None, write: json_output.Write | None, **options: Any) -> None:
    """Show what would be enabled in this environment. Imports no vLLM.

    With --vllm, ranges, conditions and conflicts are judged as if that release were installed; whether its modules and
    classes are what the patches expect, is not looked at.
    """
    from ascend_overlay import api

    settings = settings_of(**options)
    if release is not None:
        from ascend_overlay.commands import listing

        if declined():
            click.echo(
                f"{PREFIX}={os.environ[PREFIX]} switches the overlays off: what follows is without it.", err=True
            )
        ledger = listing.judged(release, settings)
        if write is not None:
            write(ledger.to_dict())
        else:
            show_ledgers([ledger])
        return
    if declined():
        off = f"{PREFIX}={os.environ[PREFIX]} switches the overlays off: none would be enabled."
        click.echo(f"{off}{not_in_force([*required(), *settings.require])}", err=True)
    else:
        api.enable_for_listing(settings)
    ledger = api.ledger()
    aliases = {(name, patch.target): patch for name, overlay in api.overlays().items() for patch in overlay.patches}
    for entry in ledger:
        if entry.state == "pending" and (patch := aliases.get((entry.overlay, entry.target))) is not None:
            entry.home = patch.true_name_by_source()
    if write is not None:
        write(ledger.to_dict())
    else:
        show_ledgers([ledger])


@click.command(cls=Subcommand, short_help="Show who has a hand in a target, in which order.")
@click.argument("target", shell_complete=completing.targets)
@click.option("--ledger", metavar="DIR", type=FOLDER, help="Show what was in the processes that wrote there.")
@click.option("--vllm", "release", metavar="RELEASE", help="Say it for this vLLM: 0.33.0, newest, a folder, a wheel.")
@LOAD
@json_output.option
def explain(
    target: str, ledger: Path | None, release: str | None, load: str | None, write: json_output.Write | None
) -> None:
    """Show who wraps, replaces or edits TARGET, the outermost first, and where the original is. Imports no vLLM.

    TARGET is "package.module:Name", a module or a package for all that is in it, or a name that is registered, such as
    that of a model class. With --vllm, it is told for that release, whose source is read and not installed.
    """
    from ascend_overlay.commands.explain import command

    if ledger is not None and release is not None:
        raise click.UsageError("what was in processes has its release: leave out --vllm, or --ledger.")
    settings = Settings.from_env().updated(load=names(load))
    sys.exit(command.run(target, settings, ledger, wanted=release, write=write, console=terminal()))


@click.command(cls=Subcommand, short_help="Show how the processes of a run stand, or one that runs.")
@click.option("--ledger", metavar="DIR", type=FOLDER, help="The folder of the ledgers; default: the settings' own.")
@click.option("--pid", metavar="N", type=click.IntRange(min=1), help="Say what can be known of this process.")
@click.option("--run", "run_id", metavar="RUN|latest|all", default="latest", help="Of which run; default: latest.")
@LOAD
@json_output.option
def status(
    ledger: Path | None, pid: int | None, run_id: str, load: str | None, write: json_output.Write | None
) -> None:
    """Show how the processes of a run stand, one by one and in all, and where they differ. Imports no vLLM.

    With --pid: what can be known from outside of a process that runs and of those that it started. Without a folder of
    ledgers: what would be enabled here, and how processes leave ledgers.
    """
    from ascend_overlay.commands.status import command

    settings = Settings.from_env().updated(load=names(load))
    chosen = command.Chosen(ledger, pid, run_id)
    sys.exit(command.run(chosen, settings, write=write, console=terminal()))


@click.command(cls=Subcommand, short_help="Look for what is amiss here, each with the next step.")
@click.option("--import/--no-import", "may_import", default=True, help="Try torch_npu in a process of its own.")
@click.option("--ask-vllm", is_flag=True, help="Ask vLLM, in a process of its own, which platform it chooses.")
@LOAD
@json_output.option
def doctor(may_import: bool, ask_vllm: bool, load: str | None, write: json_output.Write | None) -> None:
    """Look at what overlays, vLLM and NPUs depend on here, and say what to do about what is amiss.

    This process imports neither torch nor vLLM. The status is 1 where there is a problem.
    """
    from ascend_overlay.commands.doctor import command

    sys.exit(command.run(names(load), may_import=may_import, ask_vllm=ask_vllm, write=write, console=terminal()))


@click.command(cls=Subcommand, short_help="Show which layers of vLLM the overlays serve.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@LOAD
@json_output.option
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables of docs/coverage.md.")
def coverage(folder: Path | None, load: str | None, write: json_output.Write | None, as_markdown: bool) -> None:
    """Show which layers and operators of vLLM the overlays serve, and why not. Imports no vLLM.

    FOLDER is the source of a vLLM (site-packages/vllm, a checkout's vllm); default: the installed one. The status is 1
    where there is a layer that nobody has looked at, as after a bump.
    """
    from ascend_overlay.commands.coverage import command

    settings = Settings.from_env().updated(load=names(load))
    sys.exit(command.run(folder, settings, write=write, as_markdown=as_markdown, console=terminal()))
