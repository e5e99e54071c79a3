"""Blocks of code in Markdown documents, and what their info strings ask of a test.

The conventions, which documents of this project follow:

- ``python``: runs in the document's interpreter, which all python blocks of the document share; ``python fresh`` starts
  a new one first. ``python raises=NAME``: must end with an exception of that class.
- ``console``: lines that begin with ``$ `` are commands of one shell session (``> `` continues one); the lines below a
  command, if there are any, are what it prints. Status 0 is expected, or ``console status=2``. ``bash``: a script.
- ``text output``: what the block above it prints; after ``raises=``, the message, as "NAME: message".
- ``ANY file=PATH``: is written to that file in the document's folder, and not run by itself.
- ``python excerpt=PATH``: must be found, word for word, in that file of the repository.
- A comment ``<!-- not run: reason -->`` on the line above keeps a block from being run.
- Other languages (text, json, ini ...) without any of these are there to be read.

In what is expected, ``...`` stands for anything, and any amount of white space equals any other.
A comment ``<!-- tests: vllm -->`` or ``<!-- tests: e2e -->`` in a document says what running it takes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

RUN = ("python", "console", "bash")
"""Languages whose blocks are run."""

MISTAKABLE = ("py", "python3", "pycon", "sh", "shell", "shell-session", "zsh")
"""Languages that look as if they were run."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.+?)\s*-->\s*$")
_TESTS = re.compile(r"^<!--\s*tests:\s*(?P<mark>\w+)\s*-->\s*$", re.MULTILINE)


class DocumentError(Exception):
    """A document does not follow the conventions."""


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        language: first word of the info string.
        words: the other words without a value, such as "fresh".
        options: the other words with a value, such as file=PATH.
        text: the code.
        line: number of the line of the document on which the code begins, from 1.
        not_run: the reason why it is not to be run, or None.
    """

    language: str
    words: frozenset[str]
    options: dict[str, str]
    text: str
    line: int
    not_run: str | None = None

    @property
    def runs(self) -> bool:
        """Whether a test has to do something with it."""
        return self.not_run is None and (self.language in RUN or bool(self.options) or "output" in self.words)


@dataclass(frozen=True)
class Document:
    """A document and its blocks."""

    path: Path
    mark: str | None
    blocks: tuple[Block, ...] = field(repr=False)


def read(path: Path) -> Document:
    """Read a document.

    Raises:
        DocumentError: a block does not end, or its info string means nothing.
    """
    text = path.read_text(encoding="utf-8")
    mark = _TESTS.search(text)
    return Document(path, mark["mark"] if mark else None, tuple(_blocks(path, text.splitlines())))


def _blocks(path: Path, lines: list[str]) -> list[Block]:
    found: list[Block] = []
    number = 0
    above = ""
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        number += 1
        if opening is None:
            above = lines[number - 1] or above
            continue
        start = number
        while number < len(lines) and lines[number].strip() != opening["fence"]:
            number += 1
        if number == len(lines):
            raise DocumentError(f"{path.name}:{start}: the block does not end.")
        indent = len(opening["indent"])
        body = "".join(f"{line[indent:]}\n" for line in lines[start:number])
        found.append(_block(path, opening["info"], body, start + 1, _NOT_RUN.search(above)))
        number += 1
        above = ""
    return found


def _block(path: Path, info: str, text: str, line: int, not_run: re.Match[str] | None) -> Block:
    where = f"{path.name}:{line - 1}"
    language, *others = info.split() or [""]
    options = dict(word.split("=", 1) for word in others if "=" in word)
    words = frozenset(word for word in others if "=" not in word)
    if language in MISTAKABLE:
        raise DocumentError(f"{where}: write python, console or bash instead of {language!r}.")
    if wrong := [*(set(options) - {"file", "excerpt", "raises", "status"}), *(words - {"fresh", "output"})]:
        raise DocumentError(f"{where}: {wrong[0]!r} in the info string means nothing.")
    return Block(language, words, options, text, line, not_run["reason"] if not_run else None)
