"""Operators, layers and models: demo, selftest, verify, quantize."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ascend_overlay.commands import json_output
from ascend_overlay.commands.cli.common import LOAD, Listed, Subcommand, names, terminal
from ascend_overlay.errors import ConfigError
from ascend_overlay.settings import Settings


@click.command(
    cls=Subcommand,
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
    short_help="Run a tiny model in stock and in overlaid vLLM.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Run a tiny DeepSeek-V2 in stock and in overlaid vLLM, on an NPU as well, and compare."""
    from ascend_overlay.commands.demo.command import main as demo_main  # type: ignore[import-not-found, unused-ignore]

    sys.exit(demo_main(list(arguments)))


@click.command(
    cls=Subcommand,
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
    short_help="See whether it works on a card, and leave a file for an issue.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def selftest(arguments: tuple[str, ...]) -> None:
    """See whether vLLM, torch_npu, a card and the overlays work together, and leave one file about it."""
    from ascend_overlay.commands.selftest.command import main as selftest_main

    sys.exit(selftest_main(list(arguments)))


@click.command(cls=Subcommand, short_help="Compare operators and layers with what they stand for.")
@click.option(
    "--only", cls=Listed, metavar="NAME,...", help="Compare these operators, layers, or overlays' layers only."
)
@click.option("--dtype", cls=Listed, metavar="DTYPE,...", help="Compare in these dtypes only.")
@click.option("--quick", is_flag=True, help="Compare one case of each operator or layer and dtype.")
@click.option("--torch-npu", metavar="RELEASE|WHEEL", help="Ask this torch_npu; a release is downloaded by pip.")
@LOAD
@json_output.option
def verify(
    only: str | None,
    dtype: str | None,
    quick: bool,
    torch_npu: str | None,
    load: str | None,
    write: json_output.Write | None,
) -> None:
    """Compare NPU operators and overlaid layers with what they stand in for.

    Operators: each reference kernel with its formula or vLLM's own kernel; schema and result with the genuine
    torch_npu; on a machine with an NPU, its kernels with the reference kernels. Layers: each in stock vLLM and under
    its overlay. The exit status is 0 only if everything agrees.
    """
    from ascend_overlay.commands.verify import command

    ok = command.run(
        terminal(),
        only=names(only) or (),
        dtypes=names(dtype) or (),
        quick=quick,
        torch_npu=torch_npu,
        load=names(load),
        write=write,
    )
    sys.exit(0 if ok else 1)


@click.command(cls=Subcommand, short_help="Quantize a model to int8, in ModelSlim's format.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--scheme",
    required=True,
    metavar="w8a8|w8a8_dynamic|w8a8_mix|w8a16|w4a8_dynamic|w4a16",
    help="What weights and inputs become.",
)
@click.option(
    "--calibrate", metavar="FILE", type=click.Path(path_type=Path), help="Prompts to observe, for w8a8 and w8a8_mix."
)
@click.option("--keep", metavar="PATTERN", multiple=True, help="Leave these layers in float: '*.down_proj'.")
@click.option("--linear", metavar="PATTERN", multiple=True, help="These are linear layers, too: '*.attn.wa+wb'.")
@click.option("--dry-run", is_flag=True, help="Show what would be quantized, and write nothing.")
@LOAD
def quantize(
    model: Path,
    out: Path,
    scheme: str,
    calibrate: Path | None,
    keep: tuple[str, ...],
    linear: tuple[str, ...],
    dry_run: bool,
    load: str | None,
) -> None:
    """Quantize the model in the folder MODEL to int8, and write it to the folder OUT.

    OUT is a checkpoint in ModelSlim's format, which vLLM serves with the overlays: ascend-overlay run vllm serve OUT.
    A run that was interrupted goes on where it ended if it is given once more. Nothing is ever overwritten. In a
    PATTERN of --linear, a + stands between layers that vLLM loads into one.
    """
    from ascend_overlay import api, availability

    if sentence := availability.diagnosis(of_vllm=False):
        raise ConfigError(sentence)
    from ascend_overlay.commands.quantize import run as quantization
    from ascend_overlay.commands.quantize import show

    console = terminal(highlight=False)
    plugins = Settings.from_env().updated(load=names(load))
    # They may know linear layers.
    api.check_settings(plugins)
    if dry_run:
        show.plan(console, quantization.plan(model, scheme, keep, linear))
        return
    watcher = show.Shown(console)
    try:
        found = quantization.quantize(
            model, out, scheme, calibrate=calibrate, keep=keep, linear=linear, load=plugins.load, watcher=watcher
        )
    except KeyboardInterrupt:
        raise click.ClickException(
            f"interrupted. What is written to {out} is not lost: the same command goes on from there."
        ) from None
    finally:
        watcher.close()
    show.report(console, found)
