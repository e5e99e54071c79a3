"""The command `ascend-overlay`: a module here for each group of commands; what they do is in the folders beside."""

from __future__ import annotations

import click

from ascend_overlay import __version__
from ascend_overlay.commands import completing
from ascend_overlay.commands.cli import by_hand, layers, releases, running, seeing
from ascend_overlay.commands.cli.common import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ascend-overlay")
def main() -> None:
    """Patch a stock vLLM for Ascend NPU, in every process that it starts."""


@main.command(short_help="Print what makes a shell complete this command.")
@click.argument("shell", metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print what makes a shell complete this command: names of overlays and targets, too.

    For example, in ~/.bashrc: eval "$(ascend-overlay completion bash)"
    """
    click.echo(completing.script(shell, main))


for _command in (
    running.run,
    running.autoload,
    running.ledger_command,
    seeing.list_command,
    seeing.explain,
    seeing.status,
    seeing.doctor,
    seeing.coverage,
    releases.check,
    releases.drift,
    releases.lock,
    releases.couplings,
    by_hand.scan,
    by_hand.adopt,
    by_hand.new,
    layers.demo,
    layers.selftest,
    layers.verify,
    layers.quantize,
):
    main.add_command(_command)
