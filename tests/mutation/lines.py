"""Which test comes by which line: what a fault on that line can be found by.

The sources are marked: each block of statements tells that it is entered. That costs little and changes nothing for
what looks at frames and references, as a trace function would. The rest is a pytest plugin, which notes what each test
enters, in this process or in others that it starts, and leaves that in a file.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from . import entered

PLACE = "MUTATION_LINES"
"""The variable that names the file to be written."""

FEW = "MUTATION_FEW"
"""The variable that says how many cases of a table of tests are recorded in any case, and tried later."""

_LONG = 3.0
"""Seconds of a table of tests after which no more than those are recorded."""

_HIT = "_entered_by_a_test_"
_SIMPLE = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Raise, ast.Pass, ast.Delete, ast.Assert)


class Lines:
    """What was recorded.

    Args:
        recorded: seconds and blocks of each test, as the plugin writes them.
    """

    def __init__(self, recorded: Mapping[str, Any]) -> None:
        self.seconds: dict[str, float] = {test: entry["seconds"] for test, entry in recorded.items()}
        self._by_block: dict[str, list[str]] = defaultdict(list)
        for test, entry in recorded.items():
            for block in entry["blocks"]:
                self._by_block[block].append(test)

    @classmethod
    def read(cls, path: Path) -> Lines:
        """Read what the plugin has written."""
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def tests_of(self, file: str, source: str, line: int) -> Sequence[str]:
        """Return who comes by a line, the fast ones before the slow ones, and few cases of a table before the others.

        A line that runs when its module is imported is come by by all that enter the module.
        """
        blocks = {line: block for _, _, block, lines in _blocks(file, ast.parse(source)) for line in lines}
        if line in blocks:
            return self._ordered(self._by_block[blocks[line]])
        inside = {test for block in set(blocks.values()) for test in self._by_block[block]}
        return self._ordered(sorted(inside))

    def _ordered(self, tests: Sequence[str]) -> list[str]:
        count: dict[str, int] = defaultdict(int)
        keys: dict[str, float] = {}
        for test in sorted(tests, key=self.seconds.__getitem__):
            function = test.partition("[")[0]
            count[function] += 1
            keys[test] = count[function] * self.seconds[test]
        return sorted(keys, key=keys.__getitem__)


def marked(file: str, source: str) -> str:
    """Return the source with each block telling that it is entered."""
    lines = source.splitlines(keepends=True)
    for first, simple, block, _ in sorted(_blocks(file, ast.parse(source)), key=lambda found: -found[0].lineno):
        at = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", ()))]) - 1
        indent = " " * first.col_offset
        if lines[at][: first.col_offset].strip():
            continue
        rest = lines[at][len(indent.encode()) :]
        lines[at] = f"{indent}{_HIT}({block!r}){'; ' if simple else chr(10) + indent}{rest}"
    future = next(i for i, line in enumerate(lines) if line.startswith("from __future__"))
    lines[future] += f"try: from tests.mutation.entered import note as {_HIT}\nexcept ImportError: {_HIT} = id\n"
    return "".join(lines)


def _blocks(file: str, tree: ast.AST) -> Iterator[tuple[ast.stmt, bool, str, range]]:
    """Yield the blocks in functions, the outer before the inner ones: first statement, its kind, name, lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _blocks_in(file, node)


def _blocks_in(file: str, node: ast.AST) -> Iterator[tuple[ast.stmt, bool, str, range]]:
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if not isinstance(body, list) or isinstance(node, ast.ClassDef):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            body = body[1:]
        if not body or (name == "orelse" and isinstance(node, ast.If) and isinstance(body[0], ast.If)):
            yield from (found for child in body for found in _blocks_in(file, child))
            continue
        if isinstance(body[0], (ast.Nonlocal, ast.Global)):
            body = body[1:]
        first = body[0]
        yield first, isinstance(first, _SIMPLE), f"{file}:{first.lineno}", range(first.lineno, body[-1].end_lineno + 1)
        for child in body:
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _blocks_in(file, child)
    for handler in getattr(node, "handlers", ()):
        yield from _blocks_in(file, handler)


class _Recorder:
    def __init__(self) -> None:
        self.tests: dict[str, Any] = {}
        self._few = int(os.environ[FEW])
        self._tables: dict[str, list[float]] = defaultdict(list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have the cases of each table run in an order that says nothing of their kinds."""
        tables: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in items:
            tables[_table(item)].append(item)
        items[:] = [item for table in tables.values() for item in sorted(table, key=_shuffled)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Pass over a case of a table that has taken long."""
        seconds = self._tables[_table(item)]
        return True if len(seconds) >= self._few and sum(seconds) > _LONG else None

    def pytest_runtest_logstart(self) -> None:
        entered.of_others()
        entered.blocks.clear()
        self._started = time.perf_counter()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        seconds = time.perf_counter() - self._started
        self._tables[nodeid.partition("[")[0]].append(seconds)
        self.tests[nodeid] = {"seconds": seconds, "blocks": sorted(entered.blocks | entered.of_others())}

    def pytest_sessionfinish(self) -> None:
        Path(os.environ[PLACE]).write_text(json.dumps(self.tests), encoding="utf-8")
        Path(f"{os.environ[PLACE]}.others").unlink(missing_ok=True)


def _table(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _shuffled(item: pytest.Item) -> str:
    return hashlib.sha256(item.nodeid.encode()).hexdigest()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record, where a run of the mutation tester asks for it."""
    if PLACE in os.environ:
        entered.begin(f"{os.environ[PLACE]}.others")
        config.pluginmanager.register(_Recorder(), "recorder of lines")
