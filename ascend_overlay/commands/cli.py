"""The command `ascend-overlay`."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ascend_overlay import __version__, process
from ascend_overlay.commands import completing, json_output
from ascend_overlay.errors import ConfigError, OverlayError
from ascend_overlay.settings import DRIFT, FOREIGN, PREFIX, WEIGHT_NZ, Settings, declined, preferences

_LOAD = click.option("--load", metavar="MODULE,...", help="Register these modules as plugins.")
_OVERLAYS: dict[str, Any] = {"shell_complete": completing.overlays}
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

if TYPE_CHECKING:
    from rich.console import Console

    from ascend_overlay.ledgers import Ledger


class _Group(click.Group):
    """Shows an OverlayError as what it is, a sentence for the user, and leaves with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OverlayError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ascend-overlay")
def main() -> None:
    """Patch a stock vLLM for Ascend NPU, in every process that it starts."""


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option("--only", metavar="NAME,...", help="Enable these overlays only.", **_OVERLAYS),
            click.option("--exclude", metavar="NAME,...", help="Leave these overlays out.", **_OVERLAYS),
            click.option("--require", metavar="NAME,...", help="Stop where one of these is not in force.", **_OVERLAYS),
            click.option("--strict/--no-strict", default=None, help="Stop on a failing overlay, or only warn."),
            click.option("--plugins", metavar="NAME,...", help="Allow these third-party plugins only."),
            _LOAD,
            click.option("--prefer", metavar="TARGET=OVERLAY,...", help="Who wins a conflict on a target."),
            click.option("--ledger", metavar="DIR", type=click.Path(), help="Write one ledger file per process."),
            click.option("--trace/--no-trace", default=None, help="Count the calls of NPU operators."),
            click.option("--weight-nz", type=click.Choice(WEIGHT_NZ), help="Which weights get the layout FRACTAL_NZ."),
            click.option(
                "--fused-qkv/--no-fused-qkv",
                default=None,
                help="Norms of queries and keys, rotary embedding and cache write in one operator.",
            ),
            click.option(
                "--fused-quant/--no-fused-quant",
                default=None,
                help="Norms and activations in one operator with the quantization of their result.",
            ),
            click.option(
                "--fused-experts/--no-fused-experts",
                default=None,
                help="First product, activation and quantization of int8 experts in one operator.",
            ),
            click.option(
                "--graph-wait/--no-graph-wait",
                default=None,
                help="The host waits for a captured graph before its attention gets new lengths.",
            ),
            click.option("--foreign", type=click.Choice(FOREIGN), help="What others' changes of patched places are."),
            click.option("--lock", metavar="FILE", type=click.Path(), help="Compare with this overlay.lock."),
            click.option("--drift", type=click.Choice(DRIFT), help="What a difference from the lock is."),
            click.option("--vllm-release", metavar="RELEASE", help="Which vLLM a build is that does not say so."),
        ]
    ):
        command = option(command)
    return command


def _settings(
    only: str | None,
    exclude: str | None,
    require: str | None,
    strict: bool | None,
    plugins: str | None,
    load: str | None,
    prefer: str | None,
    ledger: str | None,
    trace: bool | None,
    weight_nz: str | None,
    fused_qkv: bool | None,
    fused_quant: bool | None,
    fused_experts: bool | None,
    graph_wait: bool | None,
    foreign: str | None,
    lock: str | None,
    drift: str | None,
    vllm_release: str | None,
) -> Settings:
    return Settings.from_env().updated(
        only=_overlays(only, "--only"),
        exclude=_names(exclude),
        require=_overlays(require, "--require"),
        strict=strict,
        plugins=_names(plugins),
        load=_names(load),
        prefer=None if prefer is None else preferences(prefer, whose="--prefer"),
        ledger=ledger,
        trace=trace,
        weight_nz=weight_nz,
        fused_qkv=fused_qkv,
        fused_quant=fused_quant,
        fused_experts=fused_experts,
        graph_wait=graph_wait,
        foreign=foreign,
        lock=lock,
        drift=drift,
        vllm_release=vllm_release,
        by=_option,
    )


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _near(option: str) -> list[str]:
    known = [name for parameter in run.params for name in parameter.opts]
    return difflib.get_close_matches(option.partition("=")[0], known)


def _overlays(text: str | None, option: str) -> list[str] | None:
    """Return the names of overlays in an option, which an empty variable of a shell has none of."""
    names = _names(text)
    if names == []:
        raise ConfigError(f"{option} names no overlay; leave the option out.")
    return names


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_settings_options
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
    from ascend_overlay.commands import software_npu
    from ascend_overlay.engine.propagation import prepended, startup_folder

    if command[0].startswith("-"):
        raise click.NoSuchOption(command[0], possibilities=_near(command[0]))
    settings = _settings(**options)
    if overlays and declined():
        click.echo(f"{PREFIX}={os.environ[PREFIX]} switches the overlays off: the command runs without them.", err=True)
        overlays = False
    if overlays and not settings.load:
        # A wrong name is better told here than in the middle of an import of vLLM. Modules to load are for the command
        # to find, whose search path is its own.
        api.check_settings(settings)
    if not overlays and settings.require:
        whose = settings.whose("require", settings.require[0])
        raise ConfigError(f"{whose} requires overlays, and they are switched off; leave one of the two out.")
    environment = os.environ | (settings.variables(os.environ) if overlays else {PREFIX: "0"})
    environment[process.RUN] = process.run()
    environment |= software_npu.variables(npu, npu_devices, npu_memory, npu_report)
    environment["PYTHONPATH"] = prepended(environment.get("PYTHONPATH", ""), startup_folder())
    # Nothing flushes this once another program has taken the place of this one.
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise click.ClickException(f"{command[0]!r} cannot be run: {error.strerror}.") from error


@main.command(short_help="Arm the overlays in every Python of this environment.")
@click.argument("action", type=click.Choice(["on", "off", "status"]))
def autoload(action: str) -> None:
    """Arm the overlays in every Python process of this environment; ASCEND_OVERLAY=1 then enables them."""
    from ascend_overlay.hooks import autoload as pth

    if action == "on":
        pth.on()
    elif action == "off":
        pth.off()
    click.echo(pth.status())


@main.command("list")
@_settings_options
@click.option("--vllm", "release", metavar="RELEASE", help="Judge for this vLLM: 0.33.0, newest, a folder, a wheel.")
@json_output.option
def list_command(release: str | None, write: json_output.Write | None, **options: Any) -> None:
    """Show what would be enabled in this environment. Imports no vLLM.

    With --vllm, ranges, conditions and conflicts are judged as if that release were installed; whether its modules and
    classes are what the patches expect, is not looked at.
    """
    from ascend_overlay import api

    settings = _settings(**options)
    if release is not None:
        from ascend_overlay.commands import listing

        ledger = listing.judged(release, settings)
        if write is not None:
            write(ledger.to_dict())
        else:
            _show([ledger])
        return
    if declined():
        click.echo(f"{PREFIX}={os.environ[PREFIX]} switches the overlays off: none would be enabled.", err=True)
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
        _show([ledger])


@main.command("ledger", short_help="Show what happened in the processes of a run.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--each", is_flag=True, help="Print one table a process, with what each patch did.")
@click.option("--check", is_flag=True, help="Leave with status 1 where a patch failed or is not in force.")
@click.option("--expect", metavar="ROLE[=NUMBER],...", help="Check that there were processes of these roles.")
@click.option("--require", metavar="NAME,...", help="Check that these overlays were in force wherever they are of use.")
@click.option("--overlay", metavar="NAME,...", help="Show these overlays only.")
@click.option("--role", metavar="ROLE,...", help="Show processes of these roles only.")
@click.option("--state", metavar="STATE,...", help="Show patches in these states only.")
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

    demands = ledger.demands(expect, _names(require)) if check or expect is not None or require is not None else None
    choice = ledger.Choice(_names(overlay) or (), _names(role) or (), _names(state) or (), run_id)
    sys.exit(ledger.run(folder, choice, demands, each=each, write=write, console=_console()))


@main.command(short_help="Show which layers of vLLM the overlays serve.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@_LOAD
@json_output.option
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables of docs/coverage.md.")
def coverage(folder: Path | None, load: str | None, write: json_output.Write | None, as_markdown: bool) -> None:
    """Show which layers and operators of vLLM the overlays serve, and why not. Imports no vLLM.

    FOLDER is the source of a vLLM (site-packages/vllm, a checkout's vllm); default: the installed one. The status is 1
    where there is a layer that nobody has looked at, as after a bump.
    """
    from ascend_overlay.commands.coverage import command

    settings = Settings.from_env().updated(load=_names(load))
    sys.exit(command.run(folder, settings, write=write, as_markdown=as_markdown, console=_console()))


@main.command(short_help="Say which overlays a release of vLLM breaks, before it is installed.")
@click.argument("package", required=False)
@click.option("--vllm", "wanted", metavar="RELEASE", multiple=True, help="A number, a range, newest, a folder or file.")
@click.option("--base", metavar="RELEASE", help="What to compare with; default: the installed one.")
@click.option("--only", metavar="NAME,...", help="Look at these overlays only.")
@click.option("--ranges/--ignore-ranges", default=True, help="An overlay that its range leaves out is a failure.")
@click.option("--all", "everything", is_flag=True, help="Show what is unchanged, too.")
@click.option("--diff", "diffs", is_flag=True, help="Show how the source of what changed differs.")
@click.option("--format", "form", type=click.Choice(["text", "github"]), default="text", help="How to say it.")
@click.option(
    "--lock", metavar="FILE", type=click.Path(), help="Compare with this overlay.lock; default: the settings'."
)
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page: overlays by releases.")
@_LOAD
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

        with _status_2():
            status = of_a_package.run(
                package,
                [*([base] if base is not None else []), *wanted],
                everything=everything,
                write=write,
                console=_console(highlight=False),
            )
        sys.exit(status)
    with _status_2():
        status = command.run(
            wanted,
            base,
            Settings.from_env().updated(load=_names(load), lock=lock, by=_option),
            only=_overlays(only, "--only") or (),
            ranges=ranges,
            everything=everything,
            diffs=diffs,
            form=form,
            write=write,
            html=html,
            console=_console(highlight=False),
        )
    sys.exit(status)


_VLLM = click.option(
    "--vllm",
    "releases",
    metavar="RELEASE",
    multiple=True,
    help="A vLLM to hold it against: 0.33.0, '>=0.30,<0.34', newest, a folder, an archive; default: the installed one.",
)
_WRITE = click.option(
    "--write", "into", metavar="FILE", type=click.Path(path_type=Path), help="Write a plugin module that declares it."
)


@main.command(short_help="List the patches that a package makes to vLLM by hand.")
@click.argument("package")
@_VLLM
@click.option("--wrong", is_flag=True, help="Show only what is wrong.")
@_WRITE
@json_output.option
def scan(
    package: str, releases: tuple[str, ...], wrong: bool, into: Path | None, write: json_output.Write | None
) -> None:
    """List the patches that PACKAGE makes to vLLM by hand, and what is wrong with them. Imports and runs nothing.

    PACKAGE is a folder, a wheel, a source distribution, or the name of an installed package. The status is 1 where a
    patch is wrong, 2 where PACKAGE or a release is not there.
    """
    from ascend_overlay.commands.scan import command

    with _status_2():
        status = command.run(package, releases, only_wrong=wrong, into=into, write=write, console=_console())
    sys.exit(status)


@main.command(short_help="Say what a package takes from vLLM, and what another release does to it.")
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

    The status is 0 where nothing breaks, 1 where something does, 2 where the question cannot be answered.
    """
    from ascend_overlay.commands.couplings import command

    with _status_2():
        status = command.run(package, releases, everything=everything, write=write, console=_console(highlight=False))
    sys.exit(status)


@main.command(short_help="List what a function of yours changes in vLLM.")
@click.argument("function", metavar="MODULE:FUNCTION")
@click.option("--import", "imports", metavar="MODULE,...", help="Import these modules of vLLM first, too.")
@click.option("--timeout", metavar="SECONDS", type=click.IntRange(1), default=600, help="Give up after; default 600.")
@_WRITE
@json_output.option
def adopt(function: str, imports: str | None, timeout: int, into: Path | None, write: json_output.Write | None) -> None:
    """Run MODULE:FUNCTION, which patches vLLM, in a process of its own, and list what it changed in vLLM.

    The status is 1 where a copy of what it changed keeps the old object, 2 where it cannot be run or changes nothing.
    """
    from ascend_overlay.commands.adopt import command

    with _status_2():
        status = command.run(
            function, _names(imports) or (), timeout=timeout, into=into, write=write, console=_console()
        )
    sys.exit(status)


@main.command(short_help="Write down what overlays rest on, release by release.")
@click.option("--vllm", "wanted", metavar="RELEASE", multiple=True, help="Which releases; default: the installed one.")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default="overlay.lock",
    help="Default: overlay.lock.",
)
@click.option("--only", metavar="NAME,...", help="Lock these overlays only.")
@click.option("--anew", is_flag=True, help="Forget what the file has of other releases.")
@_LOAD
def lock(wanted: tuple[str, ...], path: Path, only: str | None, anew: bool, load: str | None) -> None:
    """Write the fingerprints and signatures of all that overlays change and lean on, and the plugins, to overlay.lock.

    Reads source alone. What the file has of other releases stays. With the setting `lock`, enable() compares.
    """
    from ascend_overlay.commands.lock import command

    settings = Settings.from_env().updated(load=_names(load))
    with _status_2():
        click.echo(command.run(wanted, path, settings, only=_overlays(only, "--only") or (), anew=anew))


@main.command(short_help="Say what to do about a new release of vLLM, overlay by overlay.")
@click.argument("old")
@click.argument("new")
@click.option("--only", metavar="NAME,...", help="Look at these overlays only.")
@click.option("--all", "everything", is_flag=True, help="Show what nothing is to be done about, too.")
@click.option("--diff", "diffs", is_flag=True, help="Show how the source of what changed differs.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page that has all of it.")
@_LOAD
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

    with _status_2():
        command.run(
            old,
            new,
            Settings.from_env().updated(load=_names(load)),
            only=_overlays(only, "--only") or (),
            everything=everything,
            diffs=diffs,
            write=write,
            html=html,
            console=_console(highlight=False),
        )


@main.command(
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
    short_help="Run a tiny model in stock and in overlaid vLLM.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Run a tiny DeepSeek-V2 in stock and in overlaid vLLM, on an NPU as well, and compare."""
    from ascend_overlay.commands.demo.command import main as demo_main  # type: ignore[import-not-found, unused-ignore]

    sys.exit(demo_main(list(arguments)))


@main.command(
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
    short_help="See whether it works on a card, and leave a file for an issue.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def selftest(arguments: tuple[str, ...]) -> None:
    """See whether vLLM, torch_npu, a card and the overlays work together, and leave one file about it."""
    from ascend_overlay.commands.selftest.command import main as selftest_main

    sys.exit(selftest_main(list(arguments)))


@main.command(short_help="Quantize a model to int8, in ModelSlim's format.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--scheme", required=True, metavar="w8a8|w8a8_dynamic|w8a8_mix|w8a16|w4a16", help="What weights and inputs become."
)
@click.option(
    "--calibrate", metavar="FILE", type=click.Path(path_type=Path), help="Prompts to observe, for w8a8 and w8a8_mix."
)
@click.option("--keep", metavar="PATTERN", multiple=True, help="Leave these layers in float: '*.down_proj'.")
@click.option("--linear", metavar="PATTERN", multiple=True, help="These are linear layers, too: '*.attn.wa+wb'.")
@click.option("--dry-run", is_flag=True, help="Show what would be quantized, and write nothing.")
@_LOAD
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

    console = _console(highlight=False)
    plugins = Settings.from_env().updated(load=_names(load))
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


@main.command(short_help="Compare operators and layers with what they stand for.")
@click.option("--only", metavar="NAME,...", help="Compare these operators, layers, or overlays' layers only.")
@click.option("--dtype", metavar="DTYPE,...", help="Compare in these dtypes only.")
@click.option("--quick", is_flag=True, help="Compare one case of each operator or layer and dtype.")
@click.option("--torch-npu", metavar="RELEASE|WHEEL", help="Ask this torch_npu; a release is downloaded by pip.")
@_LOAD
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
        _console(),
        only=_names(only) or (),
        dtypes=_names(dtype) or (),
        quick=quick,
        torch_npu=torch_npu,
        load=_names(load),
        write=write,
    )
    sys.exit(0 if ok else 1)


class _Unanswered(click.ClickException):
    """A question that cannot be answered, where status 1 is an answer."""

    exit_code = 2


@contextlib.contextmanager
def _status_2() -> Iterator[None]:
    """Leave with status 2 at an error, where 1 is an answer."""
    try:
        yield
    except OverlayError as error:
        raise _Unanswered(str(error)) from error


@main.command(short_help="Show how the processes of a run stand, or one that runs.")
@click.option("--ledger", metavar="DIR", type=_FOLDER, help="The folder of the ledgers; default: the settings' own.")
@click.option("--pid", metavar="N", type=click.IntRange(min=1), help="Say what can be known of this process.")
@click.option("--run", "run_id", metavar="RUN|latest|all", default="latest", help="Of which run; default: latest.")
@_LOAD
@json_output.option
def status(
    ledger: Path | None, pid: int | None, run_id: str, load: str | None, write: json_output.Write | None
) -> None:
    """Show how the processes of a run stand, one by one and in all, and where they differ. Imports no vLLM.

    With --pid: what can be known from outside of a process that runs and of those that it started. Without a folder of
    ledgers: what would be enabled here, and how processes leave ledgers.
    """
    from ascend_overlay.commands.status import command

    settings = Settings.from_env().updated(load=_names(load))
    chosen = command.Chosen(ledger, pid, run_id)
    sys.exit(command.run(chosen, settings, write=write, console=_console()))


@main.command(short_help="Print what makes a shell complete this command.")
@click.argument("shell", metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print what makes a shell complete this command: names of overlays and targets, too.

    For example, in ~/.bashrc: eval "$(ascend-overlay completion bash)"
    """
    click.echo(completing.script(shell, main))


@main.command(short_help="Write a plugin to begin with, whose tests pass.")
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


@main.command(short_help="Look for what is amiss here, each with the next step.")
@click.option("--import/--no-import", "may_import", default=True, help="Try torch_npu in a process of its own.")
@click.option("--ask-vllm", is_flag=True, help="Ask vLLM, in a process of its own, which platform it chooses.")
@_LOAD
@json_output.option
def doctor(may_import: bool, ask_vllm: bool, load: str | None, write: json_output.Write | None) -> None:
    """Look at what overlays, vLLM and NPUs depend on here, and say what to do about what is amiss.

    This process imports neither torch nor vLLM. The status is 1 where there is a problem.
    """
    from ascend_overlay.commands.doctor import command

    sys.exit(command.run(_names(load), may_import=may_import, ask_vllm=ask_vllm, write=write, console=_console()))


@main.command(short_help="Show who has a hand in a target, in which order.")
@click.argument("target", shell_complete=completing.targets)
@click.option("--ledger", metavar="DIR", type=_FOLDER, help="Show what was in the processes that wrote there.")
@click.option("--vllm", "release", metavar="RELEASE", help="Say it for this vLLM: 0.33.0, newest, a folder, a wheel.")
@_LOAD
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
    settings = Settings.from_env().updated(load=_names(load))
    sys.exit(command.run(target, settings, ledger, wanted=release, write=write, console=_console()))


def _show(ledgers: Iterable[Ledger]) -> None:
    console = _console()
    for ledger in ledgers:
        console.print(ledger)


def _console(*, highlight: bool = True) -> Console:
    from rich.console import Console

    # A pipe has no width; the 80 columns that rich assumes are too few for targets.
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return Console(width=None if known else 120, highlight=highlight, emoji=False)
