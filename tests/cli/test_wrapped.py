"""Names in narrow columns: broken at their dots, and nothing is lost."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from ascend_overlay.commands.wrapped import breaks, put, wrapped

NAME = "vllm.v1.executor.multiproc_executor:MultiprocExecutor.collective_rpc"


def lines(text: str, width: int) -> list[str]:
    at = [0, *breaks(text, width), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(at)]


@pytest.mark.parametrize(
    ("text", "width", "said"),
    [
        ("a b", 10, ["a b"]),
        ("one two three", 8, ["one two ", "three"]),
        (NAME, 40, ["vllm.v1.executor.multiproc_executor:", "MultiprocExecutor.collective_rpc"]),
        (NAME, 20, ["vllm.v1.executor.", "multiproc_executor:", "MultiprocExecutor.", "collective_rpc"]),
        (
            NAME,
            12,
            ["vllm.v1.", "executor.", "multiproc_", "executor:", "MultiprocExe", "cutor.", "collective_", "rpc"],
        ),
        (
            f"wrap {NAME}: body",
            40,
            ["wrap ", "vllm.v1.executor.multiproc_executor:", "MultiprocExecutor.collective_rpc: body"],
        ),
    ],
)
def test_where_lines_begin(text: str, width: int, said: list[str]) -> None:
    assert lines(text, width) == said


@given(st.text(st.sampled_from("ab._:/ "), max_size=60), st.integers(1, 20))
def test_nothing_is_lost_and_no_line_is_too_long(text: str, width: int) -> None:
    found = lines(text, width)
    assert "".join(found) == text
    assert all(len(line.rstrip()) <= max(width, len(line) - len(line.lstrip()) + 1) for line in found)


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("way", ["alone", "in a table"])
def test_no_word_is_broken(width: int, way: str) -> None:
    console = Console(file=io.StringIO(), width=width)
    text = wrapped(f"{NAME}: body changed\n    in {NAME}, line 3")
    if way == "alone":
        put(console, text)
    else:
        table = Table()
        table.add_column("a")
        table.add_column("b", overflow="fold")
        table.add_row("one", text)
        console.print(table)
    assert isinstance(console.file, io.StringIO), "it is the one from above"
    shown = console.file.getvalue()
    for word in ("multiproc_executor:", "MultiprocExecutor.", "collective_rpc", "changed"):
        assert shown.count(word) == (2 if word != "changed" else 1), shown
