"""What keeps the tests short: files that share a fixture are together, and what is long comes first."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from sharing import KEPT_TOGETHER, LONG, first, shared_by

ROOT = Path(__file__).parents[2]


def takers(fixture: str) -> set[str]:
    """Return the files with a test or a fixture that takes one of that name."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in ("e2e", "zoo")
        for path in (ROOT / "tests" / folder).glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and fixture in [argument.arg for argument in node.args.args]
    }


@pytest.mark.parametrize("fixture", KEPT_TOGETHER)
def test_whoever_takes_it_is_kept_with_the_others(fixture: str) -> None:
    files = takers(fixture)
    assert len(files) > 1
    assert {file: shared_by(file) for file in files} == dict.fromkeys(files, fixture)


def test_each_that_is_made_once_a_session_is_known() -> None:
    made = {
        node.name
        for folder in ("e2e", "zoo")
        for node in ast.walk(ast.parse((ROOT / "tests" / folder / "conftest.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if "scope='session'" in ast.unparse(decorator)
    }
    assert made == set(KEPT_TOGETHER)


def test_what_is_long_is_there_and_comes_first() -> None:
    assert [scope for scope in LONG if scope not in KEPT_TOGETHER and not (ROOT / scope).is_file()] == []
    assert [scope for scope in LONG if shared_by(scope)] == []
    left = ["a.py", LONG[1], "b.py", LONG[0]]
    order = []
    while left:
        order.append(first(left))
        left.remove(order[-1])
    assert order == [LONG[0], LONG[1], "a.py", "b.py"]
