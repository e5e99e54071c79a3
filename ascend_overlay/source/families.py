"""A class with all its bases, and every name that its objects are known to have."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ascend_overlay.source.module import Module
from ascend_overlay.source.statements import Function, nested, statements

Kind = Literal["function", "class", "value", "field", "attribute"]


@dataclass(frozen=True)
class Member:
    """One name that objects of a class have.

    Attributes:
        name: the name.
        kind: how it comes about: a field is annotated in the body without a value, an attribute is set by a method.
        nodes: the statements that bind it; more than one where the class has branches.
        owner: the class that has it.
        annotation: what the source says its type is.
        value: the expression that it is set to.
    """

    name: str
    kind: Kind
    nodes: tuple[ast.stmt, ...]
    owner: Step
    annotation: ast.expr | None = None
    value: ast.expr | None = None


@dataclass(frozen=True)
class Step:
    """One class of a family.

    Attributes:
        module: the module that defines it.
        path: its names there, from the outermost class.
        node: its statement.
    """

    module: Module
    path: tuple[str, ...]
    node: ast.ClassDef

    @property
    def label(self) -> str:
        """ "module:Class"."""
        return f"{self.module.name}:{'.'.join(self.path)}"

    @functools.cached_property
    def members(self) -> dict[str, Member]:
        """What its body binds or annotates, what its methods set on `self`, and what its module sets on it."""
        found: dict[str, Member] = {}
        for name, bindings in self.module.members_of(self.node).items():
            last = bindings[-1]
            kind: Kind = last.kind if last.kind in ("function", "class") else "value"
            nodes = tuple(binding.node for binding in bindings)
            annotation = last.node.annotation if isinstance(last.node, ast.AnnAssign) else None
            value = last.node.value if isinstance(last.node, (ast.Assign, ast.AnnAssign)) else None
            found[name] = Member(name, kind, nodes, self, annotation, value)
        for statement, _ in statements(self.node.body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
                if name not in found:
                    found[name] = Member(name, "field", (statement,), self, statement.annotation, None)
        for statement, name, annotation, value in self._set_on_self():
            known = found.get(name)
            if known is None:
                found[name] = Member(name, "attribute", (statement,), self, annotation, value)
            elif known.kind == "attribute":
                found[name] = Member(
                    name, "attribute", known.nodes, self, known.annotation or annotation, known.value or value
                )
        for name in self.module.added.get(self.node.name, ()) if len(self.path) == 1 else ():
            found.setdefault(name, Member(name, "attribute", (self.node,), self))
        return found

    def methods(self) -> Iterator[Function]:
        """Yield the functions of its body, those in branches included."""
        for statement, _ in statements(self.node.body):
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield statement

    def _set_on_self(self) -> Iterator[tuple[ast.stmt, str, ast.expr | None, ast.expr | None]]:
        for method in self.methods():
            first = (*method.args.posonlyargs, *method.args.args)[:1]
            if not first:
                continue
            annotations = {arg.arg: arg.annotation for arg in (*method.args.args, *method.args.kwonlyargs)}
            for node in nested(method):
                if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                elif isinstance(node, (ast.For, ast.AsyncFor)):
                    targets = [node.target]
                elif isinstance(node, (ast.With, ast.AsyncWith)):
                    targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
                else:
                    continue
                for target in targets:
                    for each in _flat(target):
                        if (
                            isinstance(each, ast.Attribute)
                            and isinstance(each.value, ast.Name)
                            and each.value.id == first[0].arg
                        ):
                            plain = each is target
                            annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
                            value = getattr(node, "value", None) if plain and not isinstance(node, ast.For) else None
                            if annotation is None and isinstance(value, ast.Name):
                                annotation = annotations.get(value.id)
                            yield node, each.attr, annotation, value


def _flat(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for each in target.elts:
            yield from _flat(each)
    elif isinstance(target, ast.Starred):
        yield from _flat(target.value)
    else:
        yield target


@dataclass(frozen=True)
class Family:
    """A class and the bases that could be followed.

    Attributes:
        steps: the class and its bases, in the order in which attributes are looked up.
        outside: bases that could not be followed, as they are written or as "module:Class".
    """

    steps: tuple[Step, ...]
    outside: tuple[str, ...]

    def find(self, name: str) -> Member | None:
        """Return the first of what the classes have under `name`: what a body binds before what methods set."""
        found = [step.members[name] for step in self.steps if name in step.members]
        return next((member for member in found if member.kind not in ("attribute", "field")), None) or next(
            iter(found), None
        )

    def names(self) -> frozenset[str]:
        """Return every name that is known."""
        return frozenset().union(*(step.members for step in self.steps))
