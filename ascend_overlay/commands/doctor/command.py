"""`ascend-overlay doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from ascend_overlay.commands import json_output
from ascend_overlay.commands.doctor import neighbours, npu, packages, platform, ways_in
from ascend_overlay.commands.doctor.distributions import Installed
from ascend_overlay.commands.doctor.findings import NOTE, OK, PROBLEM, Finding
from ascend_overlay.errors import OverlayError, printable
from ascend_overlay.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {OK: "green", NOTE: "cyan", PROBLEM: "bold red"}


def findings(load: Sequence[str] | None, *, may_import: bool, ask_vllm: bool) -> Iterator[Finding]:
    """Yield what is found.

    Args:
        load: modules to register as plugins.
        may_import: torch_npu may be imported, in a process of its own.
        ask_vllm: vLLM is asked for its platform, in a process of its own.
    """
    installed = Installed()
    yield from packages.python()
    yield from packages.vllm(installed)
    yield from packages.torch(installed)
    yield from npu.torch_npu(may_import=may_import)
    yield from npu.cards()
    yield from neighbours.platforms(installed)
    if ask_vllm:
        yield from platform.chosen()
    yield from ways_in.variables()
    yield from ways_in.autoload()
    yield from ways_in.sitecustomize()
    yield from ways_in.vllm_plugins(installed)
    yield from ways_in.torch_backends()
    yield from neighbours.plugins(installed)
    yield from neighbours.instruments(installed)
    yield from neighbours.start_up_lines()
    # A wrong variable is told of already.
    try:
        settings = Settings.from_env()
    except OverlayError:
        settings = Settings.from_env({})
    yield from packages.overlays(settings.updated(load=load))


def run(
    load: Sequence[str] | None,
    *,
    may_import: bool,
    ask_vllm: bool,
    write: json_output.Write | None,
    console: Console,
) -> int:
    """Print what is found, as data by `write` where that is given; return 1 where there is a problem, else 0."""
    found = list(findings(load, may_import=may_import, ask_vllm=ask_vllm))
    problems = [finding for finding in found if finding.status == PROBLEM]
    if write is not None:
        write({"ok": not problems, "findings": [asdict(finding) for finding in found]})
        return int(bool(problems))
    for topic, group in groupby(found, key=lambda finding: finding.topic):
        for index, finding in enumerate(group):
            _show(finding, topic if index == 0 else "", console)
    notes = sum(finding.status == NOTE for finding in found)
    what = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}, {notes} note{'' if notes == 1 else 's'}"
    console.print(Text(f"\n{what}, {len(found)} things looked at.", style="bold" if problems else ""))
    return int(bool(problems))


def _show(finding: Finding, topic: str, console: Console) -> None:
    head = Text.assemble((f"{finding.status:<8}", _STYLES[finding.status]), (f"{topic:<17}", "bold"))
    console.print(Text.assemble(head, printable(finding.text)), soft_wrap=True, highlight=False)
    if finding.next and finding.status != OK:
        console.print(Text(f"{'':25}-> {printable(finding.next)}"), soft_wrap=True, highlight=False)
