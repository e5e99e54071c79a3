"""Overlays and packages against releases of vLLM: check, drift, lock, couplings."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ascend_overlay.commands import json_output
from ascend_overlay.commands.cli.common import (
    LOAD,
    Listed,
    Subcommand,
    names,
    option_of,
    overlay_names,
    status_2,
    terminal,
)
from ascend_overlay.settings import Settings


@click.command(cls=Subcommand, short_help="Say which overlays a release of vLLM breaks, before it is installed.")
@click.argument("package", required=False)
@click.option("--vllm", "wanted", metavar="RELEASE", multiple=True, help="A number, a range, newest, a folder or file.")
@click.option("--base", metavar="RELEASE", help="What to compare with; default: the installed one.")
@click.option("--only", cls=Listed, metavar="NAME,...", help="Look at these overlays only.")
@click.option("--ranges/--ignore-ranges", default=True, help="An overlay that its range leaves out is a failure.")
@click.option("--all", "everything", is_flag=True, help="Show what is unchanged, too.")
@click.option("--diff", "diffs", is_flag=True, help="Show how the source of what changed differs.")
@click.option("--format", "form", type=click.Choice(["text", "github"]), default="text", help="How to say it.")
@click.option(
    "--lock", metavar="FILE", type=click.Path(), help="Compare with this overlay.lock; default: the settings'."
)
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page: overlays by releases.")
@LOAD
@json_output.option
def check(
    package: str | None,
    wanted: tuple[str, ...],
    base: str | None,
    only: str | None,
    ranges: bool,
    everything: bool,
    diffs: bool,
    form: str,
    lock: str | None,
    html: Path | None,
    load: str | None,
    write: json_output.Write | None,
) -> None:
    """Say what a release of vLLM does to each patch, and to what the implementations lean on.

    Reads source alone: no vLLM is imported, and none need be installed. A release is "0.33.0", a range such as
    '>=0.27.1,<0.34', "newest", "installed", the folder of a vLLM, a wheel or a source distribution; what is not here
    is fetched from the index that pip is configured for, and kept.

    With a PACKAGE, such as a folder, a wheel or an installed one, it is about all that this takes from vLLM, as
    `ascend-overlay couplings` is: the first --vllm, or --base, is what it is known to work with.

    With a lock (--lock, or the setting), what is not as it was when the lock was written is told, too: all that
    enable() would complain of there.

    The status is 0 where everything fits, 1 where an overlay breaks, its range leaves it out or something is not as
    locked, 2 where the question cannot be answered.
    """
    from ascend_overlay.commands.check import command

    if package is not None:
        if only is not None or load is not None or html is not None or form != "text" or diffs or lock is not None:
            raise click.UsageError(
                "a PACKAGE is held against releases as a whole: leave out --only, --load, --html, --format, --diff and "
                "--lock."
            )
        from ascend_overlay.commands.couplings import command as of_a_package

        with status_2():
            status = of_a_package.run(
                package,
                [*([base] if base is not None else []), *wanted],
                everything=everything,
                write=write,
                console=terminal(highlight=False),
            )
        sys.exit(status)
    with status_2():
        status = command.run(
            wanted,
            base,
            Settings.from_env().updated(load=names(load), lock=lock, by=option_of),
            only=overlay_names(only, "--only") or (),
            ranges=ranges,
            everything=everything,
            diffs=diffs,
            form=form,
            write=write,
            html=html,
            console=terminal(highlight=False),
        )
    sys.exit(status)


@click.command(cls=Subcommand, short_help="Say what to do about a new release of vLLM, overlay by overlay.")
@click.argument("old")
@click.argument("new")
@click.option("--only", cls=Listed, metavar="NAME,...", help="Look at these overlays only.")
@click.option("--all", "everything", is_flag=True, help="Show what nothing is to be done about, too.")
@click.option("--diff", "diffs", is_flag=True, help="Show how the source of what changed differs.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page that has all of it.")
@LOAD
@json_output.option
def drift(
    old: str,
    new: str,
    only: str | None,
    everything: bool,
    diffs: bool,
    html: Path | None,
    load: str | None,
    write: json_output.Write | None,
) -> None:
    """Say what became, from the release OLD of vLLM to NEW, of all that overlays patch and lean on.

    It is grouped by what is to be done: drop, adapt, review, nothing. Reads source alone, as `check` does, and takes
    the same releases; "installed" is the installed one. The page is one file, to be kept with a pull request.

    The status is 0, whatever is to be done, and 2 where the question cannot be answered; `check` is what fails.
    """
    from ascend_overlay.commands.drift import command

    with status_2():
        command.run(
            old,
            new,
            Settings.from_env().updated(load=names(load)),
            only=overlay_names(only, "--only") or (),
            everything=everything,
            diffs=diffs,
            write=write,
            html=html,
            console=terminal(highlight=False),
        )


@click.command(cls=Subcommand, short_help="Write down what overlays rest on, release by release.")
@click.option("--vllm", "wanted", metavar="RELEASE", multiple=True, help="Which releases; default: the installed one.")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default="overlay.lock",
    help="Default: overlay.lock.",
)
@click.option("--only", cls=Listed, metavar="NAME,...", help="Lock these overlays only.")
@click.option("--anew", is_flag=True, help="Forget what the file has of other releases.")
@LOAD
def lock(wanted: tuple[str, ...], path: Path, only: str | None, anew: bool, load: str | None) -> None:
    """Write the fingerprints and signatures of all that overlays change and lean on, and the plugins, to overlay.lock.

    Reads source alone. What the file has of other releases stays. With the setting `lock`, enable() compares.
    """
    from ascend_overlay.commands.lock import command

    settings = Settings.from_env().updated(load=names(load))
    with status_2():
        click.echo(command.run(wanted, path, settings, only=overlay_names(only, "--only") or (), anew=anew))


@click.command(cls=Subcommand, short_help="Say what a package takes from vLLM, and what another release does to it.")
@click.argument("package")
@click.option(
    "--vllm",
    "releases",
    metavar="RELEASE",
    multiple=True,
    help="The vLLM that it takes from, and any others to compare with that; default: the installed one.",
)
@click.option("--all", "everything", is_flag=True, help="Show every name, or what is unchanged, too.")
@json_output.option
def couplings(package: str, releases: tuple[str, ...], everything: bool, write: json_output.Write | None) -> None:
    """Say all that PACKAGE takes from vLLM: imports, bases, overrides, calls, attributes, patches, names in strings.

    With more than one --vllm, say what each further release does to what the package takes from the first. PACKAGE is
    a folder, a wheel, a source distribution, or the name of an installed package. Imports and runs nothing.

    The status is 0 where nothing breaks, 1 where something does, 2 where the question cannot be answered: a module of
    PACKAGE could not be read, say.
    """
    from ascend_overlay.commands.couplings import command

    with status_2():
        status = command.run(package, releases, everything=everything, write=write, console=terminal(highlight=False))
    sys.exit(status)
