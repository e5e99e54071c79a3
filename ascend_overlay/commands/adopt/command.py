"""`ascend-overlay adopt`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ascend_overlay import versions
from ascend_overlay.commands.adopt.namespaces import Changed
from ascend_overlay.commands.json_output import Write
from ascend_overlay.commands.scan.command import save, see
from ascend_overlay.commands.scan.holding import passing
from ascend_overlay.commands.sessions import session
from ascend_overlay.commands.wrapped import NARROW, put, wrapped
from ascend_overlay.errors import ConfigError
from ascend_overlay.releases import find
from ascend_overlay.scans.package import opened
from ascend_overlay.scans.writing import Change
from ascend_overlay.settings import PREFIX

PACKAGE = "vllm"


@dataclass(frozen=True)
class Adopted:
    """What a function changed.

    Attributes:
        changes: the changes.
        modules: how many modules of vLLM were compared.
        skipped: modules that could not be imported first.
    """

    changes: tuple[Changed, ...]
    modules: int
    skipped: tuple[str, ...]


def run(
    function: str,
    imports: Sequence[str],
    *,
    timeout: int,
    into: Path | None,
    write: Write | None,
    console: Console,
) -> int:
    """Print what a function changes in vLLM, as data by `write` where that is given; 1 where it misses copies.

    Raises:
        OverlayError: the function cannot be run or changes nothing, or the plugin cannot be written.
    """
    see(into)
    found = adopt(function, imports, timeout=timeout)
    if into is not None:
        save(into, _plugin(found, function))
    if write is not None:
        write(
            {
                "function": function,
                "vllm": versions.installed(PACKAGE),
                "modules": found.modules,
                "not_imported": list(found.skipped),
                "changes": [each.to_dict() for each in found.changes],
            }
        )
    else:
        _show(console, function, found)
        if into is not None:
            console.print(f"Written: {escape(str(into))}", soft_wrap=True)
    return int(any(each.missed for each in found.changes))


def adopt(function: str, imports: Sequence[str] = (), *, timeout: int = 600, package: str = PACKAGE) -> Adopted:
    """Run `function`, "module:function", in a process of its own, and return what it changed in `package`.

    It runs twice: the first run tells which modules it loads, the second loads these before it looks at them.

    Raises:
        ConfigError: it cannot be run, or changes nothing.
    """
    module, _, path = function.partition(":")
    if not path or not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise ConfigError(f"{function!r} names no function: write it as 'package.module:function'.")
    first = _asked(function, package, imports, timeout, compare=False)
    second = _asked(function, package, [*imports, *first["modules"]], timeout, compare=True)
    found = tuple(Changed(**each) for each in second["changes"])
    if not found:
        raise ConfigError(
            f"{function!r} changes nothing in the {second['modules']} modules of {package} that were loaded: name the "
            f"function that patches, or the modules that it patches with --import."
        )
    skipped = [name for name in second["skipped"] if name in imports]
    return Adopted(found, second["modules"], tuple(skipped))


def _asked(function: str, package: str, imports: Sequence[str], timeout: int, *, compare: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ascend-overlay-adopt-") as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        request.write_text(
            json.dumps({"function": function, "package": package, "imports": list(imports), "compare": compare}),
            encoding="utf-8",
        )
        try:
            status = _run(["-m", "ascend_overlay.commands.adopt.child", str(request), str(answer)], timeout)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{function!r} did not return within {timeout} seconds; see --timeout.") from None
        if not answer.is_file():
            raise ConfigError(f"the process in which {function!r} runs ended with status {status} before it returned.")
        told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in told:
        raise ConfigError(told["error"])
    return told


def _run(arguments: Sequence[str], timeout: int) -> int:
    """Return the status of Python; all of its processes are ended afterwards, also where this one is interrupted."""
    # What the function prints is not the answer.
    with session([sys.executable, *arguments], env=os.environ | {PREFIX: "0"}, output=2) as process:
        return process.wait(timeout)


def _plugin(found: Adopted, function: str) -> str:
    """Return a plugin module that does what the function does, whose overlays `check` finds nothing broken about.

    Raises:
        OverlayError: the source of the function's package is not there to be held against vLLM's.
    """
    top = function.partition(":")[0].partition(".")[0]
    # The child imports it from the current folder, too.
    package = opened(f"{top}.py" if Path(f"{top}.py").is_file() else top)
    return passing(_declared(found, function), f"ascend-overlay adopt {function}", package, find(["installed"]))


def _declared(found: Adopted, function: str) -> list[Change]:
    release = versions.installed(PACKAGE)
    public = Version(release).public if release else ""
    span = f">={public},<={public}" if public else ""
    return [
        Change(
            each.target,
            each.kind,
            function,
            each.name,
            each.literal,
            each.text,
            each.shape,
            each.there,
            each.derived,
            adds=each.adds and each.kind in ("attribute", "module"),
            key=each.key,
            vllm=span,
            follows=_follows(each, found.changes),
        )
        for each in found.changes
    ]


def _follows(change: Changed, changes: Sequence[Changed]) -> bool:
    """Tell whether it is a copy of a name that is changed where it is defined, too."""
    if change.adds or change.kind not in ("attribute", "wrap"):
        return False
    return change.home != change.target and any(each.target == change.home for each in changes)


def _show(console: Console, function: str, found: Adopted) -> None:
    title = f"What {function} changes"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, expand=True)
    for name, ratio in (("kind", 2), ("target", 6), ("becomes", 5), ("copies that keep the old", 5)):
        table.add_column(name, overflow="fold", ratio=ratio)
    narrow = console.width < NARROW
    if narrow:
        console.print(Text(title, "italic"))
    for each in found.changes:
        kind = "add" if each.adds and each.kind == "attribute" else each.kind
        target = f"{each.target} {each.key}".rstrip()
        if narrow:
            put(console, wrapped(f"{kind} {target}"))
            put(console, wrapped(f"becomes {each.text}"), 4)
            for place in each.missed:
                put(console, wrapped(f"{place} keeps the old", "bold red"), 4)
        else:
            table.add_row(kind, wrapped(target), wrapped(each.text), wrapped("\n".join(each.missed), "bold red"))
    if not narrow:
        console.print(table)
    for name in found.skipped:
        console.print(f"[yellow]not imported[/] {escape(name)}: it is not there, or its import fails.", soft_wrap=True)
    missed = sum(bool(each.missed) for each in found.changes)
    count = f"{len(found.changes)} change{'' if len(found.changes) == 1 else 's'}"
    what = f"{missed} of them missed copies" if missed else "none of them missed a copy"
    console.print(f"{escape(function)}: {count} in {found.modules} modules of vLLM; {what}.", soft_wrap=True)
