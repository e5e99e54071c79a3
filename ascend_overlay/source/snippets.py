"""Pieces of Python that a user wrote down, as text and as syntax."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from dataclasses import dataclass

_OPENING = {"FSTRING_START", "TSTRING_START"}
_CLOSING = {"FSTRING_END", "TSTRING_END"}


@dataclass(frozen=True)
class Snippet:
    """Statements, dedented.

    Attributes:
        text: the text.
        statements: what it says.
        within: numbers of the lines that begin inside a string; their indentation belongs to the string.
    """

    text: str
    statements: tuple[ast.stmt, ...]
    within: frozenset[int]

    @property
    def expression(self) -> ast.expr | None:
        """The expression, where the snippet is a single one."""
        if len(self.statements) == 1 and isinstance(self.statements[0], ast.Expr):
            return self.statements[0].value
        return None

    @property
    def gaps(self) -> list[ast.stmt]:
        """The statements `...` in it, at any depth."""
        nodes = (node for statement in self.statements for node in ast.walk(statement))
        return [node for node in nodes if isinstance(node, ast.stmt) and is_gap(node)]

    def filled(self, found: Snippet) -> Snippet:
        """Return this with `found` in place of each statement `...`.

        Raises:
            SyntaxError: a `...` does not stand on a line of its own.
        """
        lines = self.text.split("\n")
        for gap in sorted(self.gaps, key=lambda gap: -gap.lineno):
            line = lines[gap.lineno - 1]
            if line.partition("#")[0].strip() != "...":
                raise SyntaxError("a statement ... stands on a line of its own")
            lines[gap.lineno - 1 : gap.lineno] = found.indented(line[: gap.col_offset]).split("\n")
        return snippet("\n".join(lines))

    def inline(self, margin: str) -> str:
        """Return the text of the expression, without what stands around it, its further lines behind `margin`."""
        (statement,) = self.statements
        lines = (ast.get_source_segment(self.text, statement) or self.text).split("\n")
        return "\n".join(
            line if number in self.within or number == statement.lineno else margin + line
            for number, line in enumerate(lines, start=statement.lineno)
        )

    def indented(self, margin: str) -> str:
        """Return the text with `margin` before each line, and "pass" where nothing is said."""
        text = self.text if self.statements else f"{self.text}\npass".strip("\n")
        lines = text.strip("\n").split("\n")
        return "\n".join(
            line if number in self.within or not line.strip() else margin + line
            for number, line in enumerate(lines, start=1)
        )


def is_gap(node: ast.AST) -> bool:
    """Tell whether a statement is `...`, which stands for others."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def snippet(text: str) -> Snippet:
    """Parse statements that may be indented as a whole.

    Raises:
        SyntaxError: they do not parse.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    while lines and not lines[0].strip():
        del lines[0]
    while lines and not lines[-1].strip():
        del lines[-1]
    within = _within_strings("\n".join(lines))
    margin = lines[0][: len(lines[0]) - len(lines[0].lstrip())] if lines else ""
    dedented = "\n".join(
        line if number in within else _without(margin, line) for number, line in enumerate(lines, start=1)
    )
    return Snippet(dedented, tuple(parsed(dedented).body), frozenset(within))


def parsed(text: str) -> ast.Module:
    """Parse `text` without the warnings that its author has seen already.

    Raises:
        SyntaxError: it does not parse.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except ValueError as error:  # a null character
            raise SyntaxError(str(error)) from None


def _without(margin: str, line: str) -> str:
    if line.startswith(margin):
        return line[len(margin) :]
    # A blank line or a comment may stand further out than the code.
    return line.lstrip() if line.lstrip()[:1] in ("", "#") else line


def _within_strings(text: str) -> set[int]:
    """Return the numbers of the lines of `text` that begin inside a string."""
    inside: set[int] = set()
    opened: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = tokenize.tok_name[token.type]
            if kind == "STRING":
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
            elif kind in _OPENING:
                opened.append(token.start[0])
            elif kind in _CLOSING:
                inside.update(range(opened.pop() + 1, token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError):
        pass  # whoever parses it will say what is wrong
    return inside
