"""The part of docs/npu_operators.md that a release of PyTorch has, as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ascend_overlay import versions
from ascend_overlay.npu.genuine.source import TorchNpu

from .judged import Judged
from .reasons import NOT_COMPARED, WITHOUT_CONTENT

PAGE = Path(__file__).parents[3] / "docs" / "npu_operators.md"


def part(judged: Judged, genuine: TorchNpu) -> str:
    """Return the part.

    Args:
        judged: what was found of all operators.
        genuine: the torch_npu that was there, beside PyTorch.
    """
    torch = str(versions.installed("torch")).partition("+")[0]
    return "\n".join(_lines(judged, f"torch {torch}, torch_npu {genuine.version}")) + "\n"


def _lines(judged: Judged, releases: str) -> Iterator[str]:
    compared = len(judged.found) - len(judged.not_compared)
    yield f"## {releases}\n"
    yield (
        f"**{len(judged.equal)} of {compared}** operators are as on the CPU in all calls "
        f"({len(judged.equal) / compared:.1%}). {judged.calls} calls were compared, and {judged.refused} that raise.\n"
    )
    yield "| operators | why not, or not wholly |"
    yield "| --- | --- |"
    for why in dict.fromkeys(reason.why for reason in judged.explained):
        named = (names for reason, names in judged.explained.items() if reason.why == why)
        yield f"| {_list(sorted(name for names in named for name in names))} | {why} |"
    there = {one.name for one in judged.found}
    empty = _list(sorted(WITHOUT_CONTENT & there))
    yield f"| {empty} | as on the CPU but for what is in the results, which nobody promises |"
    for why, names in NOT_COMPARED.items():
        yield f"| {_list(sorted(set(names) & set(judged.not_compared)))} | not compared: {why} |"


def _list(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def put(page: Path, text: str) -> None:
    """Put a part into the page, in the place of the one with the same heading, or at the end."""
    heading = text.splitlines()[0]
    before, found, after = page.read_text(encoding="utf-8").partition(f"{heading}\n")
    if found:
        _, further, rest = after.partition("\n## ")
        page.write_text(before + text + (f"\n## {rest}" if further else ""), encoding="utf-8")
    else:
        page.write_text(f"{before.rstrip()}\n\n{text}", encoding="utf-8")
