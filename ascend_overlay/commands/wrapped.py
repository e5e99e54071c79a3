"""Text that is broken between words, and a dotted name at its dots, where a column is narrower than it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.padding import Padding
from rich.text import Text

NARROW = 100
"""A terminal of fewer columns has no room for a table with names side by side."""
_BETWEEN = (re.compile(r"(?<=[.:/])(?=\w)"), re.compile(r"(?<=_)(?=[^_])"))
"""Where a name is broken: behind its dots, and where such a part is too long, behind what joins it."""


class Wrapped(Text):
    """Text whose long names go on in the next line behind a dot, a colon or a slash, not in the middle of a word.

    A line that is indented goes on further inside.
    """

    def wrap(
        self,
        console: Console,
        width: int,
        *,
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        tab_size: int = 8,
        no_wrap: bool | None = None,
    ) -> Lines:
        """Return the lines that it has in a column of that width."""
        if no_wrap:
            return super().wrap(console, width, justify=justify, overflow=overflow, tab_size=tab_size, no_wrap=no_wrap)
        lines = Lines()
        for line in self.split(allow_blank=True):
            inside = len(line.plain) - len(line.plain.lstrip())
            hanging = inside + 2 if inside and inside + 2 < width // 2 else 0
            for number, each in enumerate(line.divide(list(breaks(line.plain, max(width - hanging, 1))))):
                each.rstrip_end(width - hanging)
                if number and hanging:
                    each.pad_left(hanging)
                lines.append(each)
        return lines


def wrapped(text: str = "", style: str = "", **given: Any) -> Wrapped:
    """Return such text."""
    return Wrapped(text, style, **given)


def put(console: Console, text: Text, indent: int = 0) -> None:
    """Print such text: on its own, a console takes any text for one of the plain kind."""
    console.print(Padding(text, (0, 0, 0, indent), expand=False))


def breaks(line: str, width: int) -> Iterator[int]:
    """Yield where lines of that width begin, but for the first."""
    column = 0
    for word in re.finditer(r"\s*\S+|\s+\Z", line):
        text = word.group()
        if column + cell_len(text) <= width:
            column += cell_len(text)
            continue
        start = word.start() + len(text) - len(text.lstrip())
        name = text.lstrip()
        if cell_len(name) <= width:
            if start:
                yield start
            column = cell_len(name)
            continue
        # It is longer than a line, and begins one.
        if column and start:
            yield start
        column = 0
        for part in _parts(name, width):
            if column and column + cell_len(part) > width:
                yield start
                column = 0
            column += cell_len(part)
            start += len(part)


def _parts(name: str, width: int, level: int = 0) -> Iterator[str]:
    for part in _BETWEEN[level].split(name):
        if cell_len(part) <= width:
            yield part
        elif level + 1 < len(_BETWEEN):
            yield from _parts(part, width, level + 1)
        else:
            yield from (part[start : start + width] for start in range(0, len(part), width))
