"""A package's functions and classes: gone through by themselves, and again where a call passes what is another's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import replace

from ascend_overlay.scans.finding import Place
from ascend_overlay.scans.noting import Frame
from ascend_overlay.scans.storing import Storing
from ascend_overlay.scans.values import Bound, Instance, Local, Scope, Sequence, Values, outsides, texts, union
from ascend_overlay.source.module import Module
from ascend_overlay.source.statements import Function

STEPS = 400_000
"""So many statements of a module are gone through, with those of what it calls."""
_DEEPEST = 8


class Entering(Storing):
    """Follows calls into functions of the package."""

    def __init__(self, package: str) -> None:
        super().__init__(package)
        self._later: list[tuple[Local, Frame]] = []
        self._running: list[ast.AST] = []
        self._summaries: dict[ast.AST, Values] = {}
        self._steps = 0

    def _owner(self, function: Local) -> Module:
        """Return the module that a function was read from."""
        raise NotImplementedError

    def _block(self, body: Many[ast.stmt], scope: Scope) -> None:
        """Go through statements."""
        raise NotImplementedError

    def _by_itself(self, function: Local, defined: Frame) -> None:
        """Go through a function as if somebody called it with arguments that nobody knows."""
        if function.node in self._summaries or self._steps > STEPS:
            return
        self._summaries[function.node] = ()
        self._summaries[function.node] = self._enter(function, {}, replace(defined, returns=[], bound=False))

    def _enter(self, function: Local, given: dict[str, Values], frame: Frame) -> Values:
        node = function.node
        scope = function.scope
        if frame.bound:
            scope = Scope(scope.module, scope.path, scope.parent)
        if isinstance(node, ast.Lambda):
            for name, values in given.items():
                scope.bind(name, values, also=False)
            return self.evaluate(node.body, scope)
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for name in _parameters(node):
            scope.bind(name, given.get(name, ()), also=False)
        if not frame.bound:
            self._bind_self(function, scope, node)
        frame.within = ".".join(part for part in function.path if part != "<locals>")
        self._running.append(node)
        self._frames.append(frame)
        before = len(self._later)
        self._block(node.body, scope)
        if frame.bound:
            # What it defines is gone through where it is called.
            del self._later[before:]
        self._frames.pop()
        self._running.pop()
        return union(frame.returns)

    def _bind_self(self, function: Local, scope: Scope, node: Function) -> None:
        outer = scope.parent
        if outer is None or not outer.is_class or not node.args.args or outer.parent is None:
            return
        for cls in outer.parent.names.get(outer.path[-1], ()):
            if isinstance(cls, Local) and cls.scope is outer:
                of_class = any(isinstance(each, ast.Name) and each.id == "classmethod" for each in node.decorator_list)
                scope.bind(node.args.args[0].arg, (cls,) if of_class else (Instance(cls),), also=False)

    def _apply(
        self, callee: Local | Bound, arguments: list[Values], keywords: dict[str, Values], node: ast.AST
    ) -> Values:
        """Call a function of the package with arguments, where they have to do with the other package."""
        function = callee.function if isinstance(callee, Bound) else callee
        inner = function.node
        if isinstance(inner, ast.ClassDef):
            return self._made(function, arguments, keywords, node)
        if isinstance(callee, Bound):
            arguments = [(callee.owner,), *arguments]
        given = dict(zip(_positional(inner), arguments, strict=False))
        given |= {name: values for name, values in keywords.items() if name}
        if inner.args.vararg is not None:
            rest = tuple(arguments[len(_positional(inner)) :])
            given[inner.args.vararg.arg] = (Sequence(rest),)
        concerned = any(self._concerns(values) for values in given.values())
        captured = function.scope.parent is not None and self._is_bound(function.scope.parent)
        if not (concerned or captured):
            if inner not in self._summaries and not isinstance(inner, ast.Lambda) and inner not in self._running:
                self._summaries[inner] = ()
                defined = Frame(self._owner(function), depth=self._frame.depth + 1)
                if defined.depth < _DEEPEST:
                    self._summaries[inner] = self._enter(function, {}, defined)
                else:
                    del self._summaries[inner]
            return self._summaries.get(inner, ())
        if inner in self._running or self._frame.depth >= _DEEPEST:
            return ()
        for index, name in enumerate(_positional(inner)):
            defaults = inner.args.defaults
            offset = len(_positional(inner)) - len(defaults)
            if name not in given and index >= offset and function.scope.parent is not None:
                given[name] = self.evaluate(defaults[index - offset], function.scope.parent)
        place = self._frame.call or Place(self._frame.module.file, getattr(node, "lineno", 0))
        frame = Frame(
            self._owner(function),
            branches=self._frame.branches,
            call=place,
            depth=self._frame.depth + 1,
            bound=True,
        )
        return self._enter(function, given, frame)

    def _is_bound(self, scope: Scope) -> bool:
        """Tell whether a function was entered with arguments of the other package when it made this scope."""
        return "<locals>" in scope.path and any(
            self._concerns(values) for name, values in scope.names.items() if not name.startswith("__")
        )

    def _concerns(self, values: Values) -> bool:
        if any(True for _ in outsides(values, self.package)):
            return True
        return any(text.startswith((f"{self.package}.", f"{self.package}:")) for text in texts(values))

    def _made(self, cls: Local, arguments: list[Values], keywords: dict[str, Values], node: ast.AST) -> Values:
        made = Instance(cls)
        for each in self._member(cls, "__init__", made):
            if isinstance(each, Bound):
                self._apply(each, arguments, keywords, node)
        if not made.attributes and isinstance(cls.node, ast.ClassDef):
            # A dataclass, say.
            names = [
                each.target.id
                for each in cls.node.body
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            ]
            made.attributes.update(zip(names, arguments, strict=False))
            made.attributes.update({name: values for name, values in keywords.items() if name in names})
        return (made,)


def _positional(node: Function | ast.Lambda) -> list[str]:
    return [each.arg for each in (*node.args.posonlyargs, *node.args.args)]


def _parameters(node: Function | ast.Lambda) -> Iterator[str]:
    yield from _positional(node)
    yield from (each.arg for each in node.args.kwonlyargs)
    for star in (node.args.vararg, node.args.kwarg):
        if star is not None:
            yield star.arg
