"""What the self-test prints: a line or more for each step, how long launches take, and where the file is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SOFTWARE = "on a software NPU: these times say nothing of a card"


def step(console: Console, done: Mapping[str, Any]) -> None:
    """Print what came of a step: one line where all is well, else what is not."""
    mark = "[green]ok  [/]" if done["ok"] else "[bold red]FAIL[/]"
    console.print(f"{mark}  [bold]{escape(done['step'])}[/]  [cyan]{done['seconds']:.0f} s[/]", soft_wrap=True)
    for check in done["checks"]:
        # That a step ended well is in the line above.
        if not check["ok"] or check is not done["checks"][0]:
            style = "" if check["ok"] else "[bold red]"
            console.print(f"        {style}{escape(check['name'])}{'[/]' if style else ''}: {escape(check['text'])}")


def summary(console: Console, content: Mapping[str, Any], path: Path) -> None:
    """Print the times of launches, the sum, and where the file is."""
    launches: Mapping[str, Any] = next((done["found"] for done in content["steps"] if done["step"] == "launches"), {})
    if launches.get("measured"):
        title = "Microseconds, median" + (f" ({SOFTWARE})" if content["npu"] == "software" else "")
        # Not the table's own, which would be broken to the width of the table.
        console.print(f"\n[bold]{title}[/]", soft_wrap=True)
        table = Table()
        for name, justify in (("", "left"), ("launched", "right"), ("done", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for name, found in launches["measured"].items():
            table.add_row(escape(name), *(str(found.get(what, "-")) for what in ("launched", "done")))
        console.print(table)
    console.print()
    failed = sum(not done["ok"] for done in content["steps"])
    if failed:
        console.print(f"[bold red]{failed} of {len(content['steps'])} steps failed.[/]")
    else:
        console.print(f"[bold green]All {len(content['steps'])} steps went well.[/]")
    console.print(f"All of it is in {escape(str(path))}, to attach to an issue.", soft_wrap=True)
