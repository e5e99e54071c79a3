"""Reading the patches of a package: its statements are gone through as if they ran, with what each name may mean."""

from __future__ import annotations

import ast
import gc
import itertools
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace

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
from ascend_overlay.scans.package import Package
from ascend_overlay.scans.values import (
    Bound,
    Const,
    Instance,
    Local,
    Made,
    Mapping,
    Outside,
    OwnModule,
    Scope,
    Sequence,
    Values,
    inner_texts,
    located,
    outsides,
    texts,
    union,
)
from ascend_overlay.source.module import Module, absolute
from ascend_overlay.source.statements import Function, bound_names, dotted, statements

UNKNOWN_NAME = "?"
"""Stands for a name that is worked out when the package runs."""
EVERY = "*"
"""Stands for each module that is loaded."""
_DEEPEST = 8
_ROUNDS = 96
_STEPS = 400_000
_NOT_MEMBERS = {"__module__", "__doc__", "__qualname__", "__slots__", "__annotations__", "__class_getitem__"}


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
class _Frame:
    """What is being gone through."""

    module: Module
    within: str = ""
    branches: tuple[Branch, ...] = ()
    call: Place | None = None
    depth: int = 0
    returns: list[Values] = field(default_factory=list)
    bound: bool = False


def read(package: Package, watched: str = "vllm") -> Reading:
    """Return the patches that `package` makes to the package `watched`."""
    return Reader(package, watched).read()


class Reader(Expressions):
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
        self._found = Reading()
        self._seen: set[tuple[object, ...]] = set()
        self._frames: list[_Frame] = []
        self._later: list[tuple[Local, _Frame]] = []
        self._running: list[ast.AST] = []
        self._summaries: dict[ast.AST, Values] = {}
        self._steps = 0
        self._tired: set[str] = set()
        self._kept: dict[str, Values] = {}

    def read(self) -> Reading:
        """Go through all modules that have to do with the other package, and those that they use."""
        enabled = gc.isenabled()
        # Millions of nodes are made, and none of them is garbage.
        gc.disable()
        try:
            todo = [name for name in self._source.names if self._source.speaks_of(name, self.package)]
            while todo:
                for name in todo:
                    self.module_scope(name)
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
            self._frames.append(_Frame(module))
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

    @property
    def _frame(self) -> _Frame:
        return self._frames[-1]

    # Statements

    def _block(self, body: Many[ast.stmt], scope: Scope) -> None:
        for statement in body:
            self._steps += 1
            if self._steps > _STEPS:
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

    def _bind(self, scope: Scope, name: str, values: Values) -> None:
        scope.bind(name, values, also=bool(self._frame.branches))

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

    # Functions and classes of the package

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

    def _by_itself(self, function: Local, defined: _Frame) -> None:
        """Go through a function as if somebody called it with arguments that nobody knows."""
        if function.node in self._summaries or self._steps > _STEPS:
            return
        self._summaries[function.node] = ()
        self._summaries[function.node] = self._enter(function, {}, replace(defined, returns=[], bound=False))

    def _enter(self, function: Local, given: dict[str, Values], frame: _Frame) -> Values:
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
                defined = _Frame(self._owner(function), depth=self._frame.depth + 1)
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
        frame = _Frame(
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

    # Assignments

    def _mine(self, values: Values) -> Iterator[Outside]:
        for value in values:
            if isinstance(value, Outside) and value.parts[0] == self.package:
                yield value

    def _store(self, target: ast.expr, values: Values, given: ast.expr, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            self._bind(scope, target.id, values)
            self._stash(values, given, target)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for index, element in enumerate(target.elts):
                inner = [
                    value.items[index] for value in values if isinstance(value, Sequence) and index < len(value.items)
                ]
                part = (
                    given.elts[index] if isinstance(given, (ast.Tuple, ast.List)) and index < len(given.elts) else given
                )
                self._store(element, union(inner), part, scope)
        elif isinstance(target, ast.Attribute):
            owners = self.evaluate(target.value, scope)
            for owner in owners:
                if isinstance(owner, Instance):
                    owner.attributes[target.attr] = union([owner.attributes.get(target.attr, ()), values])
                elif isinstance(owner, Local) and isinstance(owner.node, ast.ClassDef):
                    names = owner.scope.names
                    names[target.attr] = union([names.get(target.attr, ()), values])
                elif isinstance(owner, OwnModule):
                    other = self.module_scope(owner.name)
                    if other is not None:
                        other.bind(target.attr, values, also=True)
            for each in self._mine(owners):
                self._emit("attribute", each.member(target.attr), target, "assignment", values, given, owners)
            if not any(True for _ in self._mine(owners)):
                self._stash(values, given, target)
        elif isinstance(target, ast.Subscript):
            self._on_entry(target, values, given, scope, target, "item")

    def _stash(self, values: Values, given: ast.expr | None, node: ast.AST) -> None:
        """Note that an original is kept."""
        if isinstance(given, (ast.Attribute, ast.Call, ast.Subscript)):
            for each in self._mine(values):
                if len(each.parts) > 2:
                    self._found.stashes.append((each, Place(self._frame.module.file, getattr(node, "lineno", 0))))

    def _on_entry(
        self, target: ast.Subscript, values: Values, given: ast.expr | None, scope: Scope, node: ast.AST, kind: str
    ) -> None:
        owners = self.evaluate(target.value, scope)
        keys = self.evaluate(target.slice, scope)
        known = [key.value for key in keys if isinstance(key, Const)]
        for owner in owners:
            if isinstance(owner, Outside) and owner.parts == ("sys", "modules"):
                self._in_sys_modules(texts(keys), values, given, node, kind)
            elif isinstance(owner, Outside) and owner.parts[0] == self.package:
                if owner.parts[-1] == "__dict__":
                    for name in texts(keys) or [UNKNOWN_NAME]:
                        what = "attribute" if kind == "item" else kind
                        self._emit(what, owner.member(name), node, "__dict__", values, given, owners)
                    continue
                for key in known or [None]:
                    text = repr(key) if key is not None else shortened(target.slice)
                    self._emit(kind, owner, node, "entry", values, given, owners, key=text)
        if isinstance(target.value, ast.Name) and kind == "item":
            mappings = [value for value in owners if isinstance(value, Mapping)]
            if mappings:
                pairs = tuple(pair for value in mappings for pair in value.pairs)
                found = scope.find(target.value.id)
                if found is not None:
                    found.names[target.value.id] = (Mapping((*pairs, (keys, values))),)
            self._stash(values, given, target)

    def _in_sys_modules(
        self, names: list[str], values: Values, given: ast.expr | None, node: ast.AST, kind: str
    ) -> None:
        for name in names:
            parts = tuple(name.split("."))
            if parts[0] == self.package and all(parts):
                by = "del sys.modules[...]" if kind == "remove" else "sys.modules"
                self._emit("module", Outside(parts, len(parts)), node, by, values, given, (None,))

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
        local = local or bound
        text = shortened(given) if given is not None else (".".join(local.path) if local is not None else "")
        plain = literal(given) or (repr(constant.value) if constant is not None and local is None else "")
        own = next((value.name for value in values if isinstance(value, OwnModule)), "")
        return Replacement(text, local.name if local else own, local, None if local else outside, shell, plain)

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

    # Calls

    def called(self, node: ast.Call, callee: Values, scope: Scope) -> Values:
        arguments = [self.evaluate(each, scope) for each in node.args if not isinstance(each, ast.Starred)]
        for each in node.args:
            if isinstance(each, ast.Starred):
                items = self.items(self.evaluate(each.value, scope))
                arguments += list(items) if items is not None else []
        keywords = {each.arg or "": self.evaluate(each.value, scope) for each in node.keywords}
        results: list[Values] = []
        for value in callee:
            if isinstance(value, Outside):
                results.append(self._outside(value, node, arguments, scope))
            elif isinstance(value, (Local, Bound)):
                results.append(self._apply(value, arguments, keywords, node))
            elif isinstance(value, Instance):
                for method in self._member(value.cls, "__call__", value):
                    if isinstance(method, Bound):
                        results.append(self._apply(method, arguments, keywords, node))
            elif isinstance(value, Made):
                wraps = any(isinstance(each, Outside) and each.parts[-1] == "wraps" for each in value.callee)
                results.append(arguments[0] if wraps and arguments else ())
        self._writes(node, arguments, scope)
        self._changes_own(node, arguments, scope)
        every = union([*arguments, *keywords.values()])
        return union(results) or ((Made(callee, union([*callee_parts(callee), every])),) if callee or every else ())

    def _outside(self, value: Outside, node: ast.Call, arguments: list[Values], scope: Scope) -> Values:
        parts = value.parts[1:] if value.parts[0] == "builtins" else value.parts
        dotted_name = ".".join(value.parts)
        if parts in calls.SETTERS and len(arguments) >= 3:
            self._setattr(node, arguments, scope)
        elif parts in calls.DELETERS and len(arguments) >= 2:
            for each in self._mine(arguments[0]):
                for name in texts(arguments[1]) or [UNKNOWN_NAME]:
                    self._emit("remove", each.member(name), node, "delattr", (), None, arguments[0])
        elif dotted_name in calls.WRAPT:
            self._wrapt(node, dotted_name, scope, ())
        elif parts[-1] == "extend_enum" and len(arguments) >= 2:
            for each in self._mine(arguments[0]):
                for name in texts(arguments[1]):
                    given = node.args[2] if len(node.args) > 2 else None
                    values = arguments[2] if len(arguments) > 2 else ()
                    self._emit("member", each.member(name), node, "extend_enum", values, given, arguments[0])
        elif (parts[-1] == "patch" and "mock" in parts) or ("mock" in parts and parts[-2:-1] == ("patch",)):
            self._mock(parts[-1], node, arguments, scope)
        elif value.parts[:2] == ("sys", "modules") and len(value.parts) == 3:
            self._sys_modules_method(parts[-1], node, arguments)
        elif value.parts[0] == self.package:
            self._of_watched(value, node, arguments, scope)
        return ()

    def _setattr(self, node: ast.Call, arguments: list[Values], scope: Scope) -> None:
        owners, names, values = arguments[:3]
        given = node.args[2] if len(node.args) > 2 else None
        for each in self._mine(owners):
            for name in texts(names) or [UNKNOWN_NAME]:
                self._emit("attribute", each.member(name), node, "setattr", values, given, owners)
        for owner in owners:
            for name in texts(names):
                if isinstance(owner, Instance):
                    owner.attributes[name] = union([owner.attributes.get(name, ()), values])
        # monkeypatch.setattr("package.module.name", value)
        for text in texts(owners):
            if text.startswith(f"{self.package}."):
                self._emit("mock", self._named(text), node, "setattr", names, node.args[1], ())

    def _named(self, text: str) -> Outside:
        return Outside(tuple(text.replace(":", ".").split(".")), 1)

    def _wrapt(self, node: ast.Call, name: str, scope: Scope, decorated: Values) -> None:
        module, path, wrapper = calls.WRAPT[name]
        arguments = [self.evaluate(each, scope) for each in node.args]
        keywords = {each.arg: self.evaluate(each.value, scope) for each in node.keywords}
        owners = arguments[module] if module < len(arguments) else keywords.get("target", keywords.get("module", ()))
        names = arguments[path] if path < len(arguments) else keywords.get("name", ())
        values = decorated or (arguments[wrapper] if 0 <= wrapper < len(arguments) else keywords.get("wrapper", ()))
        given = node.args[wrapper] if 0 <= wrapper < len(node.args) else None
        owners = union([owners, *(self.imported(text) for text in texts(owners))])
        for each in self._mine(owners):
            for text in texts(names) or [UNKNOWN_NAME]:
                target = each
                for part in text.split("."):
                    target = target.member(part)
                self._emit("wrap", target, node, "wrapt", values, given, tuple(self._mine(owners)))

    def _mock(self, method: str, node: ast.Call, arguments: list[Values], scope: Scope) -> None:
        given = node.args[-1] if len(node.args) > 1 else None
        if method == "patch":
            for text in texts(arguments[0]) if arguments else ():
                if text.startswith(f"{self.package}."):
                    values = arguments[1] if len(arguments) > 1 else ()
                    self._emit("mock", self._named(text), node, "mock.patch", values, given)
        elif method == "object" and len(arguments) >= 2:
            for each in self._mine(arguments[0]):
                for name in texts(arguments[1]) or [UNKNOWN_NAME]:
                    values = arguments[2] if len(arguments) > 2 else ()
                    self._emit("mock", each.member(name), node, "mock.patch.object", values, given, arguments[0])
        elif method == "dict" and arguments:
            for text in texts(arguments[0]):
                if text.startswith(f"{self.package}."):
                    self._emit("mock", self._named(text), node, "mock.patch.dict", (), given)
            for each in self._mine(arguments[0]):
                self._emit("mock", each, node, "mock.patch.dict", (), given, arguments[0])

    def _sys_modules_method(self, method: str, node: ast.Call, arguments: list[Values]) -> None:
        given = node.args[-1] if node.args else None
        if method in ("pop", "__delitem__") and arguments:
            self._in_sys_modules(texts(arguments[0]), (), None, node, "remove")
        elif method in ("setdefault", "__setitem__") and len(arguments) == 2:
            self._in_sys_modules(texts(arguments[0]), arguments[1], given, node, "item")
        elif method == "update" and arguments:
            for value in arguments[0]:
                for keys, values in value.pairs if isinstance(value, Mapping) else ():
                    self._in_sys_modules(texts(keys), values, None, node, "item")

    def _of_watched(self, value: Outside, node: ast.Call, arguments: list[Values], scope: Scope) -> None:
        method = value.parts[-1]
        if method in ("__setattr__", "__delattr__") and len(arguments) >= 2:
            for name in texts(arguments[-2 if method == "__setattr__" else -1]):
                owner = Outside(value.parts[:-1], value.sure)
                self._emit("attribute", owner.member(name), node, method, arguments[-1], node.args[-1])
        elif calls.registers(value.parts):
            self._register(value, node, scope, (), arguments)
        elif method in calls.MUTATORS and len(value.parts) > 2 and not calls.is_class(value.parts[-2]):
            owner = Outside(value.parts[:-1], min(value.sure, len(value.parts) - 1))
            if owner.parts[-1] == "__dict__" and method == "update" and arguments:
                for each in arguments[0]:
                    for keys, values in each.pairs if isinstance(each, Mapping) else ():
                        for name in texts(keys):
                            self._emit("attribute", owner.member(name), node, "__dict__", values, None)
                return
            what = calls.MUTATORS[method]
            given = node.args[-1] if node.args else None
            values = arguments[-1] if arguments else ()
            key = shortened(node.args[0]) if node.args and method in ("setdefault", "pop", "insert") else ""
            self._emit(what, owner, node, f"{method}()", values, given, (), key=key)

    def _register(
        self, function: Outside, node: ast.expr, scope: Scope, decorated: Values, arguments: list[Values] | None
    ) -> None:
        call = node if isinstance(node, ast.Call) else None
        given = list(call.args) if call is not None else []
        keywords = {each.arg: each.value for each in call.keywords if each.arg} if call is not None else {}
        values = [self.evaluate(each, scope) for each in (*given, *keywords.values())]
        named = [
            texts(self.evaluate(keywords[word], scope)) for word in ("name", "key", "module_name") if word in keywords
        ]
        keys = next((found for found in named if found), None)
        if keys is None:
            keys = next((texts(each) for each in values if texts(each)), [])
        members = [member for each in values[:1] for member in self._mine(each)]
        if not keys and members and decorated == () and len(values) > 1:
            keys = [member.parts[-1] for member in members]
        locals_ = [value for each in (*values, decorated) for value in each if isinstance(value, Local)]
        second = [text for each in values[1:] for text in texts(each)]
        for key in keys or [""]:
            chosen: Values = tuple(locals_[:1])
            last = given[-1] if given else None
            if not chosen and second:
                chosen = (Const(second[0] if len(second) == 1 else ":".join(second[:2])),)
            self._emit(
                "registration",
                function,
                node,
                "call",
                chosen,
                last,
                (),
                key=repr(key) if key else "",
                function=function.parts[-1],
            )

    def _writes(self, node: ast.Call, arguments: list[Values], scope: Scope) -> None:
        """See whether a call writes a file of the other package."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        where: Values = ()
        if name in calls.WRITERS and isinstance(node.func, ast.Attribute):
            where = self.evaluate(node.func.value, scope)
        elif name == "open" and any(
            set(text) & set("wax+") and len(text) < 4
            for each in arguments[-1:] + [self.evaluate(k.value, scope) for k in node.keywords if k.arg == "mode"]
            for text in texts(each)
        ):
            where = arguments[0] if len(arguments) > 1 or node.keywords else ()
            if isinstance(node.func, ast.Attribute) and not located(where, self.package):
                where = self.evaluate(node.func.value, scope)
        elif ".".join(dotted(node.func)) in calls.COPIERS and len(arguments) > 1:
            where = arguments[1]
        for each in located(where, self.package)[:1]:
            base = each.parts[
                : next(
                    i
                    for i, part in enumerate(each.parts)
                    if part in ("__file__", "__path__", "origin", "submodule_search_locations")
                )
            ]
            inside = "/".join(text for text in inner_texts(where) if "/" in text or text.endswith(".py"))
            more = tuple(inside.removeprefix(f"{self.package}/").removesuffix(".py").split("/")) if inside else ()
            parts = (*base, *more) if all(part.isidentifier() for part in more) else base
            self._emit("file", Outside(parts, len(parts)), node, f"{name}()", (), node.args[-1] if node.args else None)

    def _changes_own(self, node: ast.Call, arguments: list[Values], scope: Scope) -> None:
        """Follow what is added to a list or dictionary of the package's own."""
        if not isinstance(node.func, ast.Attribute) or not isinstance(node.func.value, ast.Name) or not arguments:
            return
        name, method = node.func.value.id, node.func.attr
        found = scope.find(name)
        if found is None or method not in ("append", "add", "update", "extend", "insert"):
            return
        made: list[Values] = []
        for value in found.names[name]:
            if isinstance(value, Mapping) and method == "update":
                more = [pair for each in arguments[0] if isinstance(each, Mapping) for pair in each.pairs]
                made.append((Mapping((*value.pairs, *more)),))
            elif isinstance(value, Sequence):
                items = self.items(arguments[-1]) if method in ("update", "extend") else iter([arguments[-1]])
                made.append((Sequence((*value.items, *(items if items is not None else ()))[-400:]),))
            else:
                made.append((value,))
        found.names[name] = union(made)


def callee_parts(callee: Values) -> list[Values]:
    """Return what a callee was made of: a method of something made of an original is made of it as well."""
    return [value.arguments for value in callee if isinstance(value, Made)]


def _positional(node: Function | ast.Lambda) -> list[str]:
    return [each.arg for each in (*node.args.posonlyargs, *node.args.args)]


def _parameters(node: Function | ast.Lambda) -> Iterator[str]:
    yield from _positional(node)
    yield from (each.arg for each in node.args.kwonlyargs)
    for star in (node.args.vararg, node.args.kwarg):
        if star is not None:
            yield star.arg
