"""What was found: one hand-made patch, and where."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from ascend_overlay.scans.values import Local, Outside

KINDS = {
    "attribute": "an attribute is assigned to",
    "wrap": "the same, and what is put there calls what was there",
    "remove": "an attribute or an entry is deleted",
    "item": "an entry of a mapping is set",
    "entry": "a list, set or dictionary is changed in place",
    "member": "an enumeration gets a member",
    "registration": "a function of the package is called that enters something in a registry",
    "module": "an entry of sys.modules is set or deleted",
    "file": "a file of the package is rewritten",
    "mock": "an attribute is replaced for a while, by unittest.mock or a fixture",
}
"""What can be found, and what it is."""

CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"
"""How sure a finding is: target and name are spelled; one is worked out of several; one is not known."""


@dataclass(frozen=True)
class Place:
    """A line of the package."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Replacement:
    """What is put there.

    Attributes:
        text: its source, shortened.
        name: "module:Name" of the package; "" where it cannot be imported by a name.
        local: the function or class of the package that it is.
        outside: what of another package it is.
        shell: "property", "staticmethod" and so on, where it is wrapped in one.
        literal: its source where it is a literal.
        bound: it is a method, bound to an object.
    """

    text: str
    name: str = ""
    local: Local | None = None
    outside: Outside | None = None
    shell: str = ""
    literal: str = ""
    bound: bool = False


@dataclass(frozen=True)
class Branch:
    """A branch of a statement; of two branches of one statement only one is taken."""

    statement: int
    index: int
    text: str


@dataclass
class Finding:
    """One patch.

    Attributes:
        place: the line that makes it.
        kind: one of KINDS.
        target: what is changed.
        by: how: "assignment", "setattr" ...
        sure: how sure that is.
        replacement: what is put there, or called with.
        key: of an item, an entry or a registration, its key, as source.
        within: the function or class that the line is in; "" for the module itself.
        branches: the branches that it is in.
        via: the line of the helper that makes the assignment, where that is another.
        module: the module of the package.
        function: the name of the function of the registry that is called.
        stashed: where the original is kept.
        restored: where it is put back.
    """

    place: Place
    kind: str
    target: Outside
    by: str
    sure: str
    replacement: Replacement | None = None
    key: str = ""
    within: str = ""
    branches: tuple[Branch, ...] = ()
    via: Place | None = None
    module: str = ""
    function: str = ""
    stashed: list[Place] = field(default_factory=list)
    restored: list[Place] = field(default_factory=list)

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the branches that it is in ask, as source."""
        return tuple(branch.text for branch in self.branches if branch.text)

    def excludes(self, other: Finding) -> bool:
        """Tell whether it is in another branch of a statement than `other`, so that one of them is not made."""
        mine = {branch.statement: branch.index for branch in self.branches}
        return any(mine.get(branch.statement, branch.index) != branch.index for branch in other.branches)


def shortened(node: ast.AST | None, limit: int = 80) -> str:
    """Return the source of an expression on one line."""
    text = " ".join(ast.unparse(node).split()) if node is not None else ""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def literal(node: Any) -> str:
    """Return the source of `node` if it is a literal, else ""."""
    if node is None:
        return ""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ""
    return ast.unparse(node)
