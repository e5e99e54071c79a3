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
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from . import entered

PLACE = "MUTATION_LINES"
"""The variable that names the file to be written."""

MANY = "MUTATION_MANY"
"""The variable that says how many cases of a table of tests are recorded, and tried later."""

_MOST = 4
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
        self._blocks_in: dict[tuple[str, str], int] = Counter()
        for test, entry in recorded.items():
            for block in entry["blocks"]:
                self._by_block[block].append(test)
                self._blocks_in[test, block.partition(":")[0]] += 1

    @classmethod
    def read(cls, path: Path) -> Lines:
        """Read what the plugin has written."""
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def tests_of(self, file: str, source: str, line: int, finders: Mapping[str, int]) -> Sequence[str]:
        """Return who comes by a line, those first that are about the file, are fast, and have found faults before.

        Many tests come by some lines, and not all can be run. A test is about a file the more of it it enters; of a
        table of cases, each further one counts for less. A line that runs when its module is imported is come by by all
        that enter the module.

        Args:
            file: the file, below the root of the checkout.
            source: what it says.
            line: the number of the line.
            finders: how many faults a function has found.
        """
        blocks = {line: block for _, _, block, lines in _blocks(file, ast.parse(source)) for line in lines}
        named = {blocks[line]} if line in blocks else set(blocks.values())
        worth = {
            test: self._blocks_in[test, file]
            * min(1 + finders.get(test.partition("[")[0], 0), _MOST)
            / (0.2 + self.seconds[test])
            for test in {test for block in named for test in self._by_block[block]}
        }
        cases: dict[str, int] = Counter()
        for test in sorted(worth, key=lambda test: (-worth[test], test)):
            function = test.partition("[")[0]
            cases[function] += 1
            worth[test] /= cases[function]
        return sorted(worth, key=lambda test: (-worth[test], test))


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
    """Yield the blocks in functions, the outer before the inner ones: first statement, its kind, name, lines.

    The name tells the function and the line in it, so that it stays where something else in the file is changed.
    """
    for name, function in _functions(tree):
        for first, body in _blocks_in(function):
            named = f"{file}:{name}+{first.lineno - function.lineno}"
            yield first, isinstance(first, _SIMPLE), named, range(first.lineno, (body[-1].end_lineno or 0) + 1)


def _functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        name = within
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{within}.{child.name}".lstrip(".")
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield name, child
        yield from _functions(child, name)


def _blocks_in(node: ast.AST) -> Iterator[tuple[ast.stmt, list[ast.stmt]]]:
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if not isinstance(body, list) or isinstance(node, ast.ClassDef):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            body = body[1:]
        if not body or (name == "orelse" and isinstance(node, ast.If) and isinstance(body[0], ast.If)):
            yield from (found for child in body for found in _blocks_in(child))
            continue
        if isinstance(body[0], (ast.Nonlocal, ast.Global)):
            body = body[1:]
        yield body[0], body
        for child in body:
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _blocks_in(child)
    for handler in getattr(node, "handlers", ()):
        yield from _blocks_in(handler)


class _Recorder:
    def __init__(self) -> None:
        self.place = Path(os.environ[PLACE])
        self.tests: dict[str, Any] = json.loads(self.place.read_text(encoding="utf-8")) if self.place.exists() else {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep so many cases of each table, chosen by their names, and of these what is not recorded yet."""
        tables: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in items:
            tables[item.nodeid.partition("[")[0]].append(item)
        many = int(os.environ[MANY])
        kept = {id(item) for table in tables.values() for item in sorted(table, key=_shuffled)[:many]}
        items[:] = [item for item in items if id(item) in kept and item.nodeid not in self.tests]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        entered.of_others()
        entered.blocks.clear()
        started = time.perf_counter()
        try:
            return (yield)
        finally:
            seconds, blocks = time.perf_counter() - started, entered.blocks | entered.of_others()
            self.tests[item.nodeid] = {"seconds": seconds, "blocks": sorted(blocks)}

    def pytest_sessionfinish(self) -> None:
        self.place.write_text(json.dumps(self.tests), encoding="utf-8")
        _others(self.place).unlink(missing_ok=True)


def _shuffled(item: pytest.Item) -> str:
    return hashlib.sha256(item.nodeid.encode()).hexdigest()


def _others(place: Path) -> Path:
    """Return where other processes note what they enter."""
    return place.with_suffix(".others")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record, where a run of the mutation tester asks for it."""
    if PLACE in os.environ:
        entered.begin(str(_others(Path(os.environ[PLACE]))))
        config.pluginmanager.register(_Recorder(), "recorder of lines")
