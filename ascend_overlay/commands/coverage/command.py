"""`ascend-overlay coverage`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from ascend_overlay import api, versions
from ascend_overlay.commands.coverage import report
from ascend_overlay.commands.coverage.scan import scan
from ascend_overlay.commands.coverage.served import UNKNOWN, Row, rows
from ascend_overlay.commands.json_output import Write
from ascend_overlay.couplings import fitting
from ascend_overlay.errors import PluginError, TargetError
from ascend_overlay.npu.case import LayerCase
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Patch
from ascend_overlay.settings import Settings
from ascend_overlay.source.modules import HERE, Missing


def coverage(folder: Path | None, settings: Settings) -> list[Row]:
    """Return a row for each layer and operator of the vLLM in `folder`; default: of the installed one.

    `settings` say which plugins are asked. Version ranges are held against the release of that vLLM, and conditions
    against this environment.

    Raises:
        TargetError: there is no vLLM.
        PluginError: a plugin raises.
        ConfigError: a condition cannot be evaluated.
    """
    api.check_settings(settings)
    contributed = api.contributions("ascend_overlay_cases", forgive=_lacks_torch)
    cases = [case for _, case in contributed if isinstance(case, LayerCase)]
    release = release_of(folder)

    def ruled_out(overlay: Overlay, patch: Patch | None) -> str | None:
        return fitting.misfit(overlay, patch, release) or fitting.unmet(overlay, patch)

    reasons = dict(reason for _, reason in api.contributions("ascend_overlay_left_to_vllm"))
    return rows(scan(folder or _installed()), api.overlays().values(), cases, reasons, ruled_out)


def release_of(folder: Path | None) -> str | None:
    """Return the release of the vLLM in `folder`, default the installed one; None where nothing there says it."""
    return versions.in_folder(folder) if folder is not None else versions.release("vllm")


def _lacks_torch(error: PluginError) -> bool:
    """Tell whether a plugin's cases need torch and there is none; what they say is missed, and that is said."""
    cause = error.__cause__
    if not isinstance(cause, ModuleNotFoundError) or cause.name != "torch":
        return False
    click.echo(f"Warning: {error} What it serves through what it calls is not counted.", err=True)
    return True


def run(
    folder: Path | None,
    settings: Settings,
    *,
    write: Write | None,
    as_markdown: bool,
    console: Console,
) -> int:
    """Print the coverage, as data by `write` where that is given; return 1 where nobody has looked at a layer."""
    found = coverage(folder, settings)
    if write is not None:
        write([row.to_dict() for row in found])
    elif as_markdown:
        click.echo("\n".join(report.markdown(found)).lstrip())
    else:
        release = release_of(folder)
        report.show(found, " ".join(filter(None, (release, str(folder) if folder else ""))), console)
        if release is None:
            click.echo("Nothing there says which release it is, so version ranges were not looked at.", err=True)
    return int(any(row.state == UNKNOWN for row in found))


def _installed() -> Path:
    found = HERE.find("vllm")
    if isinstance(found, Missing) or not found.search:
        raise TargetError("vLLM is not installed here; install it, or name the folder of a vLLM.")
    return Path(found.search[0])
