"""Patches that were made by hand, and a plugin to put them in: scan, adopt, new."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ascend_overlay.commands import json_output
from ascend_overlay.commands.cli.common import Listed, Subcommand, names, status_2, terminal

VLLM = click.option(
    "--vllm",
    "releases",
    metavar="RELEASE",
    multiple=True,
    help="A vLLM to hold it against: 0.33.0, '>=0.30,<0.34', newest, a folder, an archive; default: the installed one.",
)


WRITE = click.option(
    "--write", "into", metavar="FILE", type=click.Path(path_type=Path), help="Write a plugin module that declares it."
)


@click.command(cls=Subcommand, short_help="List the patches that a package makes to vLLM by hand.")
@click.argument("package")
@VLLM
@click.option("--wrong", is_flag=True, help="Show only what is wrong.")
@WRITE
@json_output.option
def scan(
    package: str, releases: tuple[str, ...], wrong: bool, into: Path | None, write: json_output.Write | None
) -> None:
    """List the patches that PACKAGE makes to vLLM by hand, and what is wrong with them. Imports and runs nothing.

    PACKAGE is a folder, a wheel, a source distribution, or the name of an installed package. The status is 1 where a
    patch is wrong, 2 where PACKAGE or a release is not there, or a module of PACKAGE that names vLLM is not read.
    """
    from ascend_overlay.commands.scan import command

    with status_2():
        status = command.run(package, releases, only_wrong=wrong, into=into, write=write, console=terminal())
    sys.exit(status)


@click.command(cls=Subcommand, short_help="List what a function of yours changes in vLLM.")
@click.argument("function", metavar="MODULE:FUNCTION")
@click.option("--import", "imports", cls=Listed, metavar="MODULE,...", help="Import these modules of vLLM first, too.")
@click.option("--timeout", metavar="SECONDS", type=click.IntRange(1), default=600, help="Give up after; default 600.")
@WRITE
@json_output.option
def adopt(function: str, imports: str | None, timeout: int, into: Path | None, write: json_output.Write | None) -> None:
    """Run MODULE:FUNCTION, which patches vLLM, in a process of its own, and list what it changed in vLLM.

    The status is 1 where a copy of what it changed keeps the old object, 2 where it cannot be run or changes nothing.
    """
    from ascend_overlay.commands.adopt import command

    with status_2():
        status = command.run(
            function, names(imports) or (), timeout=timeout, into=into, write=write, console=terminal()
        )
    sys.exit(status)


@click.command(cls=Subcommand, short_help="Write a plugin to begin with, whose tests pass.")
@click.argument("name")
@click.option(
    "--into", metavar="DIR", type=click.Path(path_type=Path), help="Its folder; default: one of its name, here."
)
@json_output.option
def new(name: str, into: Path | None, write: json_output.Write | None) -> None:
    """Write a third-party plugin: an overlay with two patches, its tests, a workflow for CI, a README.

    NAME is that of its module and its overlay. Nothing that is there is overwritten.
    """
    from ascend_overlay.commands.new import command

    sys.exit(command.run(name, into, write=write))
