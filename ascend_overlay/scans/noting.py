"""Noting what is found: a patch with its line, how sure it is, and what is put there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from ascend_overlay.scans import calls
from ascend_overlay.scans.expressions import Expressions
from ascend_overlay.scans.finding import (
    CERTAIN,
    LIKELY,
    POSSIBLE,
    Branch,
    Finding,
    Place,
    Replacement,
    literal,
    shortened,
)
from ascend_overlay.scans.values import Bound, Const, Local, Made, Outside, OwnModule, Scope, Values, outsides
from ascend_overlay.source.module import Module
from ascend_overlay.source.statements import dotted

UNKNOWN_NAME = "?"
"""Stands for a name that is worked out when the package runs."""
EVERY = "*"
"""Stands for each module that is loaded."""


@dataclass
class Reading:
    """What a package has.

    Attributes:
        findings: its patches, in the order of its files.
        stashes: what is kept of the originals, and where.
        restores: what is put back, and where.
        troubles: what was not read to its end, a sentence each.
    """

    findings: list[Finding] = field(default_factory=list)
    stashes: list[tuple[Outside, Place]] = field(default_factory=list)
    restores: list[tuple[Outside, Place]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@dataclass
class Frame:
    """What is being gone through.

    Attributes:
        module: its module.
        within: the function or class; "" for the module itself.
        branches: the branches that it is in.
        call: the line of the call that leads here, of those that pass something of the other package.
        depth: how many calls lead here.
        returns: what its return statements give.
        bound: whether it is gone through with the arguments of a call.
    """

    module: Module
    within: str = ""
    branches: tuple[Branch, ...] = ()
    call: Place | None = None
    depth: int = 0
    returns: list[Values] = field(default_factory=list)
    bound: bool = False


class Noting(Expressions):
    """Evaluates expressions, and notes what a statement changes of the other package.

    Args:
        package: the name of that package.
    """

    def __init__(self, package: str) -> None:
        super().__init__(package)
        self._found = Reading()
        self._frames: list[Frame] = []
        self._seen: set[tuple[object, ...]] = set()
        self._kept: dict[str, Values] = {}
        """What a class whose body goes to a target keeps of originals, by attribute."""

    @property
    def _frame(self) -> Frame:
        return self._frames[-1]

    def _mine(self, values: Values) -> Iterator[Outside]:
        for value in values:
            if isinstance(value, Outside) and value.parts[0] == self.package:
                yield value

    def _stash(self, values: Values, given: ast.expr | None, node: ast.AST) -> None:
        """Note that an original is kept."""
        if isinstance(given, (ast.Attribute, ast.Call, ast.Subscript)):
            for each in self._mine(values):
                if len(each.parts) > 2:
                    self._found.stashes.append((each, Place(self._frame.module.file, getattr(node, "lineno", 0))))

    def _emit(
        self,
        kind: str,
        target: Outside,
        node: ast.AST,
        by: str,
        values: Values,
        given: ast.AST | None,
        owners: Many[object] = (),
        key: str = "",
        function: str = "",
    ) -> None:
        frame = self._frame
        here = Place(frame.module.file, getattr(node, "lineno", 0))
        if kind == "attribute" and values and all(value == target for value in values):
            self._found.restores.append((target, here))
            return
        place = frame.call or here
        seen = (place, kind, target.parts, key)
        if seen in self._seen:
            return
        self._seen.add(seen)
        several = (
            len([each for each in owners if each is not None]) > 1 or frame.call is not None or EVERY in target.parts
        )
        sure = POSSIBLE if UNKNOWN_NAME in target.parts else LIKELY if several else CERTAIN
        replacement = self._replacement(values, given)
        if kind == "attribute" and self._uses(replacement, values, target):
            kind = "wrap"
        module = self._frames[0].module if frame.call is None else self._frame_of(place)
        self._found.findings.append(
            Finding(
                place,
                kind,
                target,
                by,
                sure,
                replacement,
                key,
                frame.within if frame.call is None else self._caller_within(),
                frame.branches,
                here if frame.call is not None and here != place else None,
                module.name if frame.call is not None else frame.module.name,
                function,
            )
        )

    def _frame_of(self, place: Place) -> Module:
        return next(frame.module for frame in reversed(self._frames) if frame.module.file == place.file)

    def _caller_within(self) -> str:
        return next((frame.within for frame in reversed(self._frames) if frame.call is None), "")

    def _replacement(self, values: Values, given: ast.AST | None) -> Replacement | None:
        if given is None and not values:
            return None
        shell = ""
        inner = values
        for value in values:
            if isinstance(value, Made):
                names = [".".join(each.parts) for each in value.callee if isinstance(each, Outside)]
                found = [
                    calls.SHELLS[name.removeprefix("builtins.")]
                    for name in names
                    if name.removeprefix("builtins.") in calls.SHELLS
                ]
                if found:
                    shell, inner = found[0], value.arguments
        local = next((value for value in inner if isinstance(value, Local)), None)
        bound = next((value.function for value in inner if isinstance(value, Bound)), None)
        outside = next((value for value in inner if isinstance(value, Outside)), None)
        constant = next((value for value in values if isinstance(value, Const)), None)
        is_bound = local is None and bound is not None
        local = local or bound
        text = shortened(given) if given is not None else (".".join(local.path) if local is not None else "")
        plain = literal(given) or (repr(constant.value) if constant is not None and local is None else "")
        own = next((value.name for value in values if isinstance(value, OwnModule)), "")
        name = local.name if local else own
        return Replacement(text, name, local, None if local else outside, shell, plain, is_bound)

    def _uses(self, replacement: Replacement | None, values: Values, target: Outside) -> bool:
        """Tell whether what is put there calls, or was made of, what was there."""
        if any(isinstance(value, Made) and target in tuple(outsides((value,), self.package)) for value in values):
            return True
        local = replacement.local if replacement is not None else None
        if local is None or isinstance(local.node, ast.ClassDef):
            return False
        for node in ast.walk(local.node):
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                if target in self._quietly(node, local.scope):
                    return True
                # self._original(...), of a class whose body goes to the target.
                if isinstance(node, ast.Attribute) and target in self._kept.get(node.attr, ()):
                    return True
        return False

    def _quietly(self, node: ast.expr, scope: Scope) -> Values:
        path = dotted(node)
        values = scope.get(path[0]) if path else ()
        for name in path[1:]:
            values = self.attribute(values, name)
        return values
