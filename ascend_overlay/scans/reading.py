"""Reading the patches of a package: its statements are gone through as if they ran, with what each name may mean."""

from __future__ import annotations

import ast
import gc
import itertools
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import replace

from ascend_overlay.scans import calls
from ascend_overlay.scans.entering import STEPS
from ascend_overlay.scans.finding import Branch, shortened
from ascend_overlay.scans.noting import EVERY, Frame, Reading
from ascend_overlay.scans.package import Package
from ascend_overlay.scans.patching import Patching
from ascend_overlay.scans.values import Bound, Local, Mapping, Outside, Scope, Sequence, Values, outsides, union
from ascend_overlay.source.module import Module, absolute
from ascend_overlay.source.statements import Function, bound_names, dotted, statements

_ROUNDS = 96
_NOT_MEMBERS = {"__module__", "__doc__", "__qualname__", "__slots__", "__annotations__", "__class_getitem__"}


def read(package: Package, watched: str = "vllm", step: Callable[[int, int], object] | None = None) -> Reading:
    """Return the patches that `package` makes to the package `watched`.

    Args:
        package: the package.
        watched: the name of the other one.
        step: is told before each module how many were gone through, of how many.
    """
    return Reader(package, watched).read(step)


class Reader(Patching):
    """Goes through the modules of a package.

    Args:
        package: the package.
        watched: the name of the other package, whose patches are looked for.
    """

    def __init__(self, package: Package, watched: str) -> None:
        super().__init__(watched)
        self._source = package
        self._packages = {name.rpartition(".")[0] for name in package.names}
        self._scopes: dict[str, Scope] = {}
        self._tired: set[str] = set()

    def read(self, step: Callable[[int, int], object] | None = None) -> Reading:
        """Go through all modules that have to do with the other package, and those that they use."""
        done = 0
        enabled = gc.isenabled()
        # Millions of nodes are made, and none of them is garbage.
        gc.disable()
        try:
            todo = [name for name in self._source.names if self._source.speaks_of(name, self.package)]
            while todo:
                for index, name in enumerate(todo, start=done):
                    if step is not None:
                        step(index, done + len(todo))
                    self.module_scope(name)
                done += len(todo)
                todo = self._users()
        finally:
            if enabled:
                gc.enable()
        self._found.findings.sort(key=lambda each: (each.place.file, each.place.line))
        self._found.troubles += self._source.unread
        return self._found

    def _users(self) -> list[str]:
        """Return modules that do not name the other package, and may have something of it from one that does."""
        handed_on = {
            name: [own for own, values in scope.names.items() if any(True for _ in outsides(values, self.package))]
            for name, scope in self._scopes.items()
        }
        return [
            name
            for name in self._source.names
            if name not in self._scopes
            and any(
                self._source.mentions(name, module.rpartition(".")[2])
                and any(self._source.mentions(name, own) for own in names)
                for module, names in handed_on.items()
            )
            and self._source.module(name) is not None
        ]

    def is_package(self, module: str) -> bool:
        return module in self._packages

    def module_scope(self, name: str) -> Scope | None:
        if name in self._scopes:
            return self._scopes[name]
        module = self._source.module(name)
        if module is None:
            return Scope(name) if name in self._packages or name in self._source.names else None
        if name not in self._scopes:
            self._scopes[name] = scope = Scope(name)
            later, self._later = self._later, []
            steps, self._steps = self._steps, 0
            self._frames.append(Frame(module))
            self._block(module.tree.body, scope)
            while self._later:
                self._by_itself(*self._later.pop(0))
            self._frames.pop()
            self._later, self._steps = later, steps
        return self._scopes[name]

    def _owner(self, function: Local) -> Module:
        module = self._source.module(function.module)
        assert module is not None, "the function was read from it"
        return module

    def _block(self, body: Many[ast.stmt], scope: Scope) -> None:
        for statement in body:
            self._steps += 1
            if self._steps > STEPS:
                self._give_up()
                return
            self._statement(statement, scope)

    def _give_up(self) -> None:
        file = self._frame.module.file
        if file not in self._tired:
            self._tired.add(file)
            self._found.troubles.append(f"{file} was not read to its end: it calls itself in too many ways.")

    def _branch(self, node: ast.AST, index: int, text: str, body: Many[ast.stmt], scope: Scope) -> None:
        frame = self._frame
        before = frame.branches
        frame.branches = (*before, Branch(id(node), index, text))
        self._block(body, scope)
        frame.branches = before

    def _statement(self, node: ast.stmt, scope: Scope) -> None:
        method = getattr(self, f"_on_{type(node).__name__.lower()}", None)
        if method is not None:
            method(node, scope)

    def _on_expr(self, node: ast.Expr, scope: Scope) -> None:
        self.evaluate(node.value, scope)

    def _on_import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            parts = tuple(alias.name.split("."))
            self.loaded.update(parts[:count] for count in range(1, len(parts) + 1))
            self._bind(scope, alias.asname or name, self.imported(name))

    def _on_importfrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        origin = absolute(node, self._frame.module.package)
        for alias in node.names:
            if alias.name == "*":
                other = self.module_scope(origin)
                for name, values in (other.names if other is not None else {}).items():
                    if not name.startswith("_"):
                        self._bind(scope, name, values)
                continue
            if self.module_scope(origin) is not None:
                values = self.of_module(origin, alias.name)
            else:
                parts = tuple(origin.split("."))
                values = (Outside((*parts, alias.name), len(parts)),) if all(parts) else ()
            self._bind(scope, alias.asname or alias.name, values)

    def _on_global(self, node: ast.Global, scope: Scope) -> None:
        scope.elsewhere.update(dict.fromkeys(node.names, scope.top()))

    def _on_nonlocal(self, node: ast.Nonlocal, scope: Scope) -> None:
        for name in node.names:
            found = scope.parent.find(name) if scope.parent is not None else None
            if found is not None:
                scope.elsewhere[name] = found

    def _on_if(self, node: ast.If, scope: Scope) -> None:
        self.evaluate(node.test, scope)
        text = shortened(node.test)
        if dotted(node.test)[-1:] != ["TYPE_CHECKING"]:
            self._branch(node, 0, text, node.body, scope)
        else:
            # Annotations and casts name what is imported there; nothing of it runs.
            self._block([each for each in node.body if isinstance(each, (ast.Import, ast.ImportFrom))], scope)
        self._branch(node, 1, f"not ({text})", node.orelse, scope)

    def _on_try(self, node: ast.Try, scope: Scope) -> None:
        self._branch(node, 0, "", [*node.body, *node.orelse], scope)
        for index, handler in enumerate(node.handlers, start=1):
            what = shortened(handler.type) if handler.type is not None else "any exception"
            self._branch(node, index, f"except {what}", handler.body, scope)
        self._block(node.finalbody, scope)

    _on_trystar = _on_try

    def _on_with(self, node: ast.With, scope: Scope) -> None:
        for item in node.items:
            values = self.evaluate(item.context_expr, scope)
            if item.optional_vars is not None:
                self.unpack(item.optional_vars, values, scope, also=False)
        self._block(node.body, scope)

    _on_asyncwith = _on_with

    def _on_while(self, node: ast.While, scope: Scope) -> None:
        self.evaluate(node.test, scope)
        self._branch(node, 0, "", [*node.body, *node.orelse], scope)

    def _on_for(self, node: ast.For, scope: Scope) -> None:
        every = self._all_modules(node)
        items = iter([every]) if every else self.items(self.evaluate(node.iter, scope))
        for values in itertools.islice(items if items is not None else iter([()]), _ROUNDS):
            self.unpack(node.target, values, scope, also=False)
            self._branch(node, 0, "", node.body, scope)
        self._block(node.orelse, scope)

    _on_asyncfor = _on_for

    def _all_modules(self, node: ast.For) -> Values:
        """Return what a loop over sys.modules goes through, if it picks those of the other package."""
        text = ast.unparse(node.iter)
        if "sys.modules" not in text:
            return ()
        named = any(isinstance(each, ast.Constant) and self.package in str(each.value) for each in ast.walk(node))
        if not named:
            return ()
        module: Values = (Outside((self.package, EVERY), 2),)
        return (Sequence(((), module)),) if ".items()" in text else module if ".values()" in text else ()

    def _on_match(self, node: ast.Match, scope: Scope) -> None:
        self.evaluate(node.subject, scope)
        for index, case in enumerate(node.cases):
            self._branch(node, index, f"case {ast.unparse(case.pattern)}", case.body, scope)

    def _on_return(self, node: ast.Return, scope: Scope) -> None:
        self._frame.returns.append(self.evaluate(node.value, scope))

    def _on_assert(self, node: ast.Assert, scope: Scope) -> None:
        self.evaluate(node.test, scope)

    def _on_assign(self, node: ast.Assign, scope: Scope) -> None:
        values = self.evaluate(node.value, scope)
        for target in node.targets:
            self._store(target, values, node.value, scope)

    def _on_annassign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self._store(node.target, self.evaluate(node.value, scope), node.value, scope)

    def _on_augassign(self, node: ast.AugAssign, scope: Scope) -> None:
        values = self.evaluate(node.value, scope)
        if isinstance(node.target, ast.Name):
            owners = scope.get(node.target.id)
            self._bind(scope, node.target.id, union([owners, values]))
            # A number that was imported is another one then; a list is the same.
            if not any(isinstance(value, (Sequence, Mapping)) for value in values):
                return
        else:
            owners = self.evaluate(node.target, scope)
        for each in self._mine(owners):
            self._emit("entry", each, node, "augmented assignment", values, node.value, owners)

    def _on_delete(self, node: ast.Delete, scope: Scope) -> None:
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                owners = self.evaluate(target.value, scope)
                for each in self._mine(owners):
                    self._emit("remove", each.member(target.attr), node, "del", (), None, owners)
            elif isinstance(target, ast.Subscript):
                self._on_entry(target, (), None, scope, node, "remove")

    def _on_classdef(self, node: ast.ClassDef, scope: Scope) -> None:
        path = (*scope.path, node.name)
        inner = Scope(scope.module, path, scope)
        inner.is_class = True
        cls = Local(node, scope.module, path, inner)
        for base in node.bases:
            self.evaluate(base, scope)
        self._bind(scope, node.name, (cls,))
        frame = self._frame
        within, frame.within = frame.within, ".".join(path)
        self._block(node.body, inner)
        frame.within = within
        self._merged(cls, scope)
        self._subclass_hook(cls, scope)
        self._decorate(node, cls, scope)

    def _on_functiondef(self, node: Function, scope: Scope) -> None:
        path = (*scope.path, node.name)
        function = Local(node, scope.module, path, Scope(scope.module, (*path, "<locals>"), scope))
        for default in (*node.args.defaults, *node.args.kw_defaults):
            self.evaluate(default, scope)
        self._bind(scope, node.name, (function,))
        self._later.append((function, replace(self._frame, returns=[])))
        self._decorate(node, function, scope)

    _on_asyncfunctiondef = _on_functiondef

    def _decorate(self, node: Function | ast.ClassDef, made: Local, scope: Scope) -> None:
        values: Values = (made,)
        for decorator in reversed(node.decorator_list):
            callee = self.evaluate(decorator.func if isinstance(decorator, ast.Call) else decorator, scope)
            mine = [each for each in self._mine(callee) if calls.registers(each.parts)]
            if mine:
                for each in mine:
                    self._register(each, decorator, scope, values, None)
                continue
            known = [each for each in callee if isinstance(each, Outside) and ".".join(each.parts) in calls.WRAPT]
            if known and isinstance(decorator, ast.Call):
                self._wrapt(decorator, ".".join(known[0].parts), scope, values)
                continue
            applied = self.evaluate(decorator, scope) if isinstance(decorator, ast.Call) else callee
            results = [
                self._apply(each, [values], {}, decorator) for each in applied if isinstance(each, (Local, Bound))
            ]
            values = union(results) or values
        if values != (made,) and not any(isinstance(value, Outside) for value in values):
            self._bind(scope, node.name, values)

    def _subclass_hook(self, cls: Local, scope: Scope) -> None:
        node = cls.node
        assert isinstance(node, ast.ClassDef)
        keywords = {each.arg: self.evaluate(each.value, scope) for each in node.keywords if each.arg}
        if any(outsides(values, self.package) for values in keywords.values()):
            for base in self.bases(cls):
                hooks = self._member(base, "__init_subclass__", cls) if isinstance(base, Local) else ()
                for hook in hooks:
                    if isinstance(hook, Bound):
                        self._apply(hook, [], keywords, node)

    def _merged(self, cls: Local, scope: Scope) -> None:
        """See whether the body of a class goes to another class or module: class X(Patch[Target])."""
        node = cls.node
        assert isinstance(node, ast.ClassDef)
        for base in node.bases:
            if not isinstance(base, ast.Subscript) or not self._merges(base.value, scope):
                continue
            targets = [each for each in self.evaluate(base.slice, scope) if isinstance(each, Outside)]
            for target in self._mine(tuple(targets)):
                self._kept = {name: values for name, values in cls.scope.names.items() if any(self._mine(values))}
                for statement, _ in statements(node.body):
                    if isinstance(statement, (ast.Import, ast.ImportFrom)):
                        continue
                    for name in bound_names(statement):
                        if name not in _NOT_MEMBERS:
                            values = cls.scope.names.get(name, ())
                            given = getattr(statement, "value", None)
                            by = "class body"
                            self._emit("attribute", target.member(name), statement, by, values, given, tuple(targets))
                            self._stash(values, given, statement)
                self._kept = {}

    def _merges(self, base: ast.expr, scope: Scope) -> bool:
        for value in self.evaluate(base, scope):
            if isinstance(value, Local) and isinstance(value.node, ast.ClassDef):
                bodies = [ast.dump(each.node) for each in self.line(value)]
                if any("'setattr'" in body for body in bodies):
                    return True
            elif isinstance(value, Outside) and "patch" in value.parts[-1].lower():
                return value.parts[0] not in (self.package, "typing", "builtins")
        return False
