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
from ascend_overlay.errors import TargetError
from ascend_overlay.npu.case import LayerCase
from ascend_overlay.settings import Settings
from ascend_overlay.source.modules import HERE, Missing


def coverage(folder: Path | None, settings: Settings) -> list[Row]:
    """Return a row for each layer and operator of the vLLM in `folder`; default: of the installed one.

    `settings` say which plugins are asked.

    Raises:
        TargetError: there is no vLLM.
        PluginError: a plugin raises.
    """
    api.check_settings(settings)
    cases = [case for _, case in api.contributions("ascend_overlay_cases") if isinstance(case, LayerCase)]
    reasons = dict(reason for _, reason in api.contributions("ascend_overlay_left_to_vllm"))
    return rows(scan(folder or _installed()), api.overlays().values(), cases, reasons)


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
        version = "" if folder else versions.release("vllm") or ""
        report.show(found, version or str(folder), console)
    return int(any(row.state == UNKNOWN for row in found))


def _installed() -> Path:
    found = HERE.find("vllm")
    if isinstance(found, Missing) or not found.search:
        raise TargetError("vLLM is not installed here; install it, or name the folder of a vLLM.")
    return Path(found.search[0])
