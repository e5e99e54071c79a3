"""The page about vLLM's own tests says what the tables say."""

from __future__ import annotations

from pathlib import Path

from not_run import BY_REASON, NOT_RUN
from page import tables
from selection import FILES

PAGE = Path(__file__).parents[2] / "docs" / "vllm_tests.md"


def test_page_is_current() -> None:
    assert tables() in PAGE.read_text(encoding="utf-8"), (
        "run python tests/upstream/page.py, and put what it prints there"
    )


def test_each_file_has_one_place() -> None:
    paths = [row.path for row in FILES] + [path for paths in BY_REASON.values() for path in paths]
    assert len(paths) == len(set(paths))
    assert NOT_RUN.keys() == set(paths) - {row.path for row in FILES}
