"""Putting a snippet into a text in place of what was found there; the rest of the text keeps every character."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from ascend_overlay.source.matching import Match, first_line
from ascend_overlay.source.snippets import Snippet


class Text:
    """A text, with positions as syntax trees give them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def start(self, node: Any) -> int:
        """Return where `node` begins, its decorators included."""
        line = first_line(node)
        if line == node.lineno:
            return self._offset(line, node.col_offset)
        return self._starts[line - 1] + len(margin(self.lines[line - 1]))

    def end(self, node: Any) -> int:
        """Return where `node` ends."""
        return self._offset(node.end_lineno, node.end_col_offset)

    def before(self, offset: int) -> str:
        """Return what stands before `offset` on its line."""
        return self.text[self.text.rfind("\n", 0, offset) + 1 : offset]

    def line_end(self, offset: int) -> int:
        """Return where the line of `offset` ends."""
        end = self.text.find("\n", offset)
        return len(self.text) if end < 0 else end

    def _offset(self, line: int, column: int) -> int:
        # Columns count bytes of UTF-8.
        return self._starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())


def margin(line: str) -> str:
    """Return the white space that a line begins with."""
    return line[: len(line) - len(line.lstrip())]


def spliced(text: str, match: Match, put: Snippet) -> Iterator[str]:
    """Give the texts with `put` in place of `match` that may be right, the plainest first."""
    positions = Text(text)
    if match.statements:
        yield _with_statements(positions, match, put)
        return
    (node,) = match.nodes
    start, end = positions.start(node), positions.end(node)
    inline = put.inline(margin(positions.before(start)))
    yield f"{text[:start]}{inline}{text[end:]}"
    yield f"{text[:start]}({inline}){text[end:]}"


def _with_statements(positions: Text, match: Match, put: Snippet) -> str:
    text = positions.text
    start, end = positions.start(match.nodes[0]), positions.end(match.nodes[-1])
    line_end = positions.line_end(end)
    indent = positions.before(start)
    if text.startswith("elif", start) and isinstance(match.nodes[0], ast.If):
        return f"{text[:start]}else:\n{put.indented(indent + '    ')}{text[line_end:]}"
    rest = _after_semicolon(text[end:line_end])
    if indent.strip():
        indent, head = _opened(positions, match, start)
    else:
        head = text[: start - len(indent)]
    tail = f"\n{indent}{rest}" if rest else ""
    return f"{head}{put.indented(indent)}{tail}{text[line_end:]}"


def _after_semicolon(rest: str) -> str:
    """Return the further statements of a line; a comment belongs to what it stands behind."""
    rest = rest.lstrip()
    following = rest[1:].strip() if rest.startswith(";") else ""
    return "" if following.startswith("#") else following


def _opened(positions: Text, match: Match, start: int) -> tuple[str, str]:
    """Return the indentation of a block of which several statements stand on one line, and the text before `start`."""
    block: Sequence[Any] = getattr(match.owner, match.field)
    opening = positions.start(block[0])
    earlier = positions.text[opening:start].rstrip().rstrip(";").rstrip()
    if not positions.before(opening).strip():
        return positions.before(opening), f"{positions.text[:opening]}{earlier}\n"
    # The block stands behind its header.
    header: Any = match.owner.pattern if isinstance(match.owner, ast.match_case) else match.owner
    indent = margin(positions.lines[header.lineno - 1]) + "    "
    head = positions.text[:opening].rstrip()
    return indent, f"{head}\n{indent}{earlier}\n" if earlier else f"{head}\n"
