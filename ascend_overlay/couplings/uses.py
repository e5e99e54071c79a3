"""One thing that a package takes from another."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from inspect import Signature
from typing import Literal

Kind = Literal[
    "import",
    "base",
    "override",
    "super call",
    "call",
    "construct",
    "registration",
    "attribute",
    "patch",
    "string",
]


@dataclass(frozen=True)
class Call:
    """How something is called.

    Attributes:
        positional: how many arguments it gets by position.
        keywords: the names of those that it gets by name.
        stars: there are more, which the source does not count: *args or **kwargs.
        on_object: it is called on an object, which fills the first parameter of a method.
    """

    positional: int
    keywords: tuple[str, ...] = ()
    stars: bool = False
    on_object: bool = False

    @classmethod
    def of(cls, node: ast.Call, *, on_object: bool = False) -> Call:
        """Return how a call in the source calls."""
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        names = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
        return cls(
            sum(not isinstance(argument, ast.Starred) for argument in node.args),
            names,
            starred or len(names) < len(node.keywords),
            on_object,
        )

    def __str__(self) -> str:
        parts = ["..."] * self.positional + [f"{name}=..." for name in self.keywords] + ["*"] * self.stars
        return f"({', '.join(parts)})"

    def refused_by(self, signature: Signature, *, bound: bool) -> str | None:
        """Return why a function cannot be called in this way, or None where it can.

        Args:
            signature: that of the function.
            bound: its first parameter is filled by the object or class that it is called on.
        """
        positional, keywords = [None] * (self.positional + bound), dict.fromkeys(self.keywords)
        try:
            # What stars bring may fill any parameter that has no default.
            (signature.bind_partial if self.stars else signature.bind)(*positional, **keywords)
        except TypeError as error:
            return str(error)
        return None


@dataclass(frozen=True)
class Use:
    """One thing that a package takes from another.

    Attributes:
        kind: how.
        target: what, under the name by which the source reaches it: "module:Name", or a module.
        by: who: "module:Class.method", or a module.
        file: the file in which that is.
        line: the line.
        call: how it is called.
        offers: of an override, how it can be called, with the object first; of a patch, how what is put there can be.
        guarded: the source goes on without it: it is in a `try`, only for type checkers, or asked for by hasattr.
        sure: the source says so; False: it was concluded from annotations.
        sets: an attribute is set, rather than read.
        tolerant: the source goes on where a call is refused: it asks for the signature, or catches TypeError.
    """

    kind: Kind
    target: str
    by: str
    file: str
    line: int
    call: Call | None = None
    offers: Signature | None = None
    guarded: bool = False
    sure: bool = True
    sets: bool = False
    tolerant: bool = False

    @property
    def where(self) -> str:
        """ "file:line"."""
        return f"{self.file}:{self.line}"
