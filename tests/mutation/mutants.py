"""Small faults in a source file: what each changes, found on the syntax tree and put into the text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_TURNED = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_OTHER_WAY = {ast.Add: "-", ast.Sub: "+", ast.BitOr: "&", ast.BitAnd: "|"}
_EQUAL = ("__repr__", "__str__", "describe")
"""Functions for people to read; their text is not what the engine promises."""


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        file: path below the root of the checkout.
        line: where it is.
        what: the fault in words.
        start: where the text that it replaces begins, in bytes.
        end: where that ends.
        put: what stands there instead.
    """

    file: str
    line: int
    what: str
    start: int
    end: int
    put: str

    def applied(self, source: str) -> str:
        """Return the source with the fault in it."""
        data = source.encode()
        return (data[: self.start] + self.put.encode() + data[self.end :]).decode()


def mutants(file: str, source: str) -> list[Mutant]:
    """Return all faults that a file can have; a few of them do not compile."""
    return list(dict.fromkeys(_Finder(file, source).found()))


def compiles(mutant: Mutant, source: str) -> bool:
    """Tell whether the source with the fault in it is Python."""
    try:
        compile(mutant.applied(source), "<mutant>", "exec")
    except SyntaxError:
        return False
    return True


class _Finder:
    def __init__(self, file: str, source: str) -> None:
        self.file, self.data = file, source.encode()
        self.tree = ast.parse(source)
        self.lines = [0]
        for line in self.data.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def found(self) -> Iterator[Mutant]:
        for node in self._nodes(self.tree):
            yield from self._of(node)

    def _nodes(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes in which a fault would matter: no declarations for type checkers, no words of errors."""
        if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)):
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name in _EQUAL:
            return
        if node in self.tree.body and isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            # How long something waits, how deep it looks: nobody promises that number.
            return
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "bases", "slice"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._nodes(child)

    def _of(self, node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, ast.Compare):
            yield from self._of_compare(node)
        elif isinstance(node, ast.BoolOp):
            turned = "or" if isinstance(node.op, ast.And) else "and"
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from self._between(left, right, "and" if turned == "or" else "or", turned)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self._put(node, f"bool({self._text(node.operand)})", "`not` left out")
        elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
            test = self._text(node.test)
            yield self._put(node.test, f"(({test}) and False)", "branch never taken")
            if not isinstance(node, ast.While):
                yield self._put(node.test, f"(({test}) or True)", "branch always taken")
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield self._put(test, f"(({self._text(test)}) or True)", "condition left out")
        elif isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Yield)):
            if isinstance(node.value, ast.Call):
                yield self._put(node, "pass", "call dropped")
        elif (
            isinstance(node, ast.Return) and node.value is not None and self._text(node.value) not in ("None", "False")
        ):
            yield self._put(node.value, "None", "returns None")
        elif isinstance(node, ast.BinOp) and type(node.op) in _OTHER_WAY:
            yield from self._between(node.left, node.right, "", _OTHER_WAY[type(node.op)])
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield self._put(node, repr(value), f"{node.value} is {value}")
        elif isinstance(node, (ast.Break, ast.Continue)):
            yield self._put(node, "pass", f"{type(node).__name__.lower()} left out")
        elif isinstance(node, (ast.AugAssign, ast.Delete)):
            yield self._put(node, "pass", "statement dropped")
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
            yield self._put(node, "pass", "assignment dropped")

    def _of_compare(self, node: ast.Compare) -> Iterator[Mutant]:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            yield from self._between(left, right, "", _TURNED[type(op)])
            left = right

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Mutant]:
        """Exchange the operator that stands between two operands, brackets and comments left alone."""
        start, end = self._end(left), self._start(right)
        gap = self.data[start:end].decode()
        found = gap.replace("(", " ").replace(")", " ").replace("\\", " ").strip()
        if not found or "#" in gap or "\n" in found:
            return
        at = gap.index(found)
        yield Mutant(
            self.file,
            left.lineno,
            f"`{old or found}` is `{new}`",
            start + len(gap[:at].encode()),
            start + len(gap[:at].encode()) + len(found.encode()),
            new,
        )

    def _put(self, node: ast.expr | ast.stmt, text: str, what: str) -> Mutant:
        return Mutant(self.file, node.lineno, what, self._start(node), self._end(node), text)

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self.lines[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.lines[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr) -> str:
        return self.data[self._start(node) : self._end(node)].decode()
