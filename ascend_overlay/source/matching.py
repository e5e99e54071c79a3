"""Where a function says what a snippet says: compared as syntax, past formatting, comments and quotes."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ascend_overlay.source.snippets import Snippet, is_gap

Definition = (ast.FunctionDef, ast.AsyncFunctionDef)
_STRINGS_WITH_CODE = {"JoinedStr", "TemplateStr"}
_NEAREST = 3


@dataclass(frozen=True)
class Match:
    """Where something was found.

    Attributes:
        nodes: the consecutive statements, or the one expression.
        owner: the node that has them.
        field: the name of the owner's field that they are in.
        index: the position of the first in that field, or None where the field is no list.
    """

    nodes: tuple[ast.AST, ...]
    owner: ast.AST
    field: str
    index: int | None

    @property
    def first(self) -> int:
        """The line on which it begins."""
        return first_line(self.nodes[0])

    @property
    def last(self) -> int:
        """The line on which it ends."""
        return last_line(self.nodes[-1])

    @property
    def statements(self) -> bool:
        """Whether these are statements, rather than an expression."""
        return isinstance(self.nodes[0], ast.stmt)

    def substitute(self, nodes: Sequence[ast.AST]) -> None:
        """Put other nodes into the tree in their place."""
        if self.index is None:
            setattr(self.owner, self.field, nodes[0])
        else:
            getattr(self.owner, self.field)[self.index : self.index + len(self.nodes)] = nodes


def first_line(node: Any) -> int:
    """Return the line on which `node` begins, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([int(node.lineno), *(each.lineno for each in decorators)])


def last_line(node: Any) -> int:
    """Return the line on which `node` ends."""
    return int(node.end_lineno)


def matches(function: ast.AST, wanted: Snippet) -> list[Match]:
    """Return each place in the body of `function` that says what `wanted` says.

    An expression is found wherever its value is used, statements as a run of complete ones. Not searched: what stands
    before the body, the docstring, and what is inside an f-string.
    """
    if wanted.expression is not None:
        return list(_expressions(function, wanted.expression))
    return list(_runs(function, wanted.statements))


def in_string(function: ast.AST, wanted: Snippet) -> bool:
    """Tell whether an f-string of `function` has the expression that `wanted` says in it."""
    strings = (node for node in ast.walk(function) if type(node).__name__ in _STRINGS_WITH_CODE)
    inside = (node for string in strings for node in ast.walk(string))
    return wanted.expression is not None and any(same(node, wanted.expression) for node in inside)


def same(one: ast.AST, other: ast.AST) -> bool:
    """Tell whether two nodes say the same."""
    return type(one) is type(other) and dump(one) == dump(other)


def dump(node: ast.AST) -> str:
    """Return what `node` says, as text that is equal for what is equal."""
    return ast.dump(node).replace(", kind='u')", ")")


def nearest(wanted: Snippet, lines: Sequence[str], first: int) -> list[str]:
    """Return the lines most like `wanted`, with their numbers, from `lines`, the first of which is number `first`."""
    asked = [line.strip() for line in wanted.text.split("\n") if line.strip()]
    scored = [
        (max(difflib.SequenceMatcher(None, each, line.strip()).ratio() for each in asked), number, line)
        for number, line in enumerate(lines, start=first)
        if line.strip()
    ]
    best = sorted(sorted(scored, key=lambda entry: (-entry[0], entry[1]))[:_NEAREST], key=lambda entry: entry[1])
    return [numbered(number, line) for score, number, line in best if score > 0.3]


def numbered(number: int, line: str) -> str:
    """Return a line of source as messages show it."""
    return f"  {number:>5} | {line.rstrip()}"


def _runs(function: ast.AST, wanted: Sequence[ast.stmt]) -> Iterator[Match]:
    pieces = _between_gaps(wanted)
    for owner in ast.walk(function):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(owner, field, None)
            if not isinstance(block, list):
                continue
            for index in range(_start(owner, function, block), len(block)):
                if (end := _end(block, index, pieces)) is not None:
                    yield Match(tuple(block[index:end]), owner, field, index)


def _between_gaps(wanted: Sequence[ast.stmt]) -> list[list[ast.stmt]]:
    pieces: list[list[ast.stmt]] = [[]]
    for statement in wanted:
        if is_gap(statement):
            pieces.append([])
        else:
            pieces[-1].append(statement)
    return pieces


def _end(block: Sequence[ast.stmt], start: int, pieces: Sequence[Sequence[ast.stmt]]) -> int | None:
    """Return where the first run ends that begins at `start` and has all pieces, with statements between them."""
    if not _says(block, start, pieces[0]):
        return None
    end = start + len(pieces[0])
    for piece in pieces[1:]:
        # A gap stands for one statement at least, and for as few as may be.
        at = next((at for at in range(end + 1, len(block)) if _says(block, at, piece)), None)
        if at is None:
            return None
        end = at + len(piece)
    return end


def _says(block: Sequence[ast.stmt], start: int, wanted: Sequence[ast.stmt]) -> bool:
    run = block[start : start + len(wanted)]
    return len(run) == len(wanted) and all(same(*pair) for pair in zip(run, wanted, strict=True))


def _start(owner: ast.AST, function: ast.AST, block: list[Any]) -> int:
    return 1 if owner is function and has_docstring(block) else 0


def has_docstring(block: Sequence[Any]) -> bool:
    """Tell whether the body of a function begins with a docstring."""
    first = block[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _expressions(function: Any, wanted: ast.expr) -> Iterator[Match]:
    body = function.body
    todo: list[ast.AST] = list(body[_start(function, function, body) :])
    for place, statement in enumerate(body):
        if statement in todo and _is_statement_of(statement, wanted):
            yield Match((statement,), function, "body", place)
    while todo:
        owner = todo.pop()
        if type(owner).__name__ in _STRINGS_WITH_CODE:
            continue
        for field, value in ast.iter_fields(owner):
            nodes: Iterable[tuple[int | None, Any]] = enumerate(value) if isinstance(value, list) else [(None, value)]
            for index, node in nodes:
                if not isinstance(node, ast.AST):
                    continue
                if _is_statement_of(node, wanted) or (not isinstance(owner, ast.Expr) and same(node, wanted)):
                    yield Match((node,), owner, field, index)
                todo.append(node)


def _is_statement_of(node: ast.AST, wanted: ast.expr) -> bool:
    return isinstance(node, ast.Expr) and same(node.value, wanted)
