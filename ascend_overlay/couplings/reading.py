"""Reading what a module takes from a package: imports, bases, overrides, calls, attributes, patches, names in strings.

A use is what leads to something in a state of the package that is at hand (an Atlas), so that what the reader concludes
wrongly about a type does not become one.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterable, Iterator

from ascend_overlay.couplings.meanings import Meaning, Meanings, Named, Object, Scope, Super, attribute_of, below
from ascend_overlay.couplings.uses import Call, Kind, Use
from ascend_overlay.source.atlas import Atlas, Gone, Thing, kind_of
from ascend_overlay.source.families import Family, Step
from ascend_overlay.source.module import Module, absolute
from ascend_overlay.source.signatures import on_object
from ascend_overlay.source.statements import Function, bound_names, statements

_REGISTERING = re.compile(r"(?:\A|_)regist(?:er|ry)")
_FALLBACKS = {"ImportError", "ModuleNotFoundError", "AttributeError", "Exception", "BaseException", "KeyError"}
_REFUSALS = {"TypeError", "Exception", "BaseException"}
_ASKING = {"hasattr", "getattr"}
_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?::[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)?\Z")
_NOBODYS = frozenset(dir(object)) - {"__init__", "__new__"}


def uses(module: Module, atlas: Atlas, *, of: str) -> list[Use]:
    """Return what `module` takes from the package `of`, each once, in the order of the source.

    Args:
        module: a module of another package.
        atlas: knows both packages.
        of: the package.
    """
    reader = _Reader(module, atlas, of)
    reader.read()
    found: dict[tuple[object, ...], Use] = {}
    for use in reader.found:
        key = (use.kind, use.target, use.by, use.call, use.guarded, use.sets, use.tolerant)
        found.setdefault(key, use)
    return sorted(found.values(), key=lambda use: (use.line, use.kind, use.target))


class _Reader(Meanings):
    def __init__(self, module: Module, atlas: Atlas, of: str) -> None:
        super().__init__(module, atlas)
        self.of = of
        self.found: list[Use] = []
        self._guards = 0
        self._tolerance = 0
        self._asks = any(word in module.text for word in (*_ASKING, "signature"))
        self._scopes.append(Scope(asked=self._asked_in(module.tree)))

    def read(self) -> None:
        self._body(self.module.tree.body)
        self._starred()

    # ---- statements

    def _body(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.ClassDef():
                self._class(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for decorator in node.decorator_list:
                    self._expression(decorator)
                self._function(node, None)
            case ast.Try():
                caught = [_caught(handler.type) for handler in node.handlers]
                self._guarded(node.body, frozenset().union(*caught))
                for handler in node.handlers:
                    if handler.type is not None:
                        self._expression(handler.type)
                    self._body(handler.body)
                self._body([*node.orelse, *node.finalbody])
            case ast.With(items=[ast.withitem(context_expr=ast.Call(args=caught, func=func))]) if self._is(
                self._meaning(func), "contextlib:suppress"
            ):
                self._guarded(node.body, frozenset().union(*(_caught(each) for each in caught)))
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._expression(item.context_expr)
                    if isinstance(item.optional_vars, ast.Name):
                        self._bind(item.optional_vars.id, self._entered(item.context_expr))
                    elif item.optional_vars is not None:
                        self._assigned(item.optional_vars, ast.Constant(None))
                self._body(node.body)
            case ast.For() | ast.AsyncFor():
                self._expression(node.iter)
                self._assigned(node.target, ast.Constant(None))
                self._bind_all(self._each(node.target, node.iter))
                self._body([*node.body, *node.orelse])
            case ast.If():
                self._expression(node.test)
                words = ast.unparse(node.test)
                guarded = "TYPE_CHECKING" in words or "version" in words.lower()
                self._guards += guarded
                with self._known(self._said(node.test)):
                    self._body(node.body)
                self._body(node.orelse if guarded and "TYPE_CHECKING" not in words else ())
                self._guards -= guarded
                if not guarded or "TYPE_CHECKING" in words:
                    self._body(node.orelse)
                if isinstance(node.test, ast.UnaryOp) and isinstance(node.body[-1], _LEAVING) and not node.orelse:
                    # What goes on after it is what the test refused.
                    self._bind_all(self._said(node.test.operand))
            case ast.Assert():
                self._others(node)
                self._bind_all(self._said(node.test))
            case ast.Assign():
                self._expression(node.value)
                for target in node.targets:
                    self._assigned(target, node.value)
            case ast.AnnAssign():
                self._expression(node.annotation)
                if node.value is not None:
                    self._expression(node.value)
                    self._assigned(node.target, node.value)
                if isinstance(node.target, ast.Name) and (said := self._annotation(node.annotation)) is not None:
                    self._bind(node.target.id, said)
            case _:
                self._others(node)

    def _guarded(self, body: Iterable[ast.stmt], caught: frozenset[str]) -> None:
        """Read what goes on in another way where one of these errors is raised."""
        guards, tolerance = bool(caught & _FALLBACKS), bool(caught & _REFUSALS)
        self._guards += guards
        self._tolerance += tolerance
        self._body(body)
        self._guards -= guards
        self._tolerance -= tolerance

    def _others(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._statement(child)
            elif isinstance(child, ast.expr):
                self._expression(child)
            else:
                if isinstance(child, ast.MatchClass):
                    self._matched(child)
                self._others(child)

    def _matched(self, pattern: ast.MatchClass) -> None:
        """Note the attributes that a pattern asks an object for."""
        made = self._made(pattern.cls)
        for name in pattern.kwd_attrs if made is not None else ():
            self._on_object(attribute_of(pattern.cls, name, pattern), made, None)  # type: ignore[arg-type]

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if self._theirs(alias.name):
                    self._use("import", alias.name, node)
                top = alias.name.partition(".")[0]
                self._bind(alias.asname or top, Named(alias.name if alias.asname else top))
            return
        origin = absolute(node, self.module.package)
        for alias in node.names:
            if alias.name == "*":
                if self._theirs(origin):
                    self._use("import", origin, node)
                continue
            label = f"{origin}:{alias.name}"
            if self._theirs(origin):
                self._use("import", label, node)
            self._bind(alias.asname or alias.name, Named(label))

    def _class(self, node: ast.ClassDef) -> None:
        for each in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self._expression(each)
        scope = self._scopes[-1]
        path = (*(scope.path if len(self._scopes) > 1 else ()), node.name)
        family = self.atlas.family(self.module, path, node)
        step = family.steps[0]
        for base in node.bases:
            meaning = self._meaning(base.value if isinstance(base, ast.Subscript) else base)
            if isinstance(meaning, Named) and self._leads_to_theirs(meaning.label):
                self._use("base", meaning.label, base, by=".".join(path))
        theirs = tuple(each for each in family.steps if self._theirs(each.module.name))
        if theirs:
            self._overrides(step, family)
        self._scopes.append(Scope(path, {}, step, family, self._asked))
        for statement in node.body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for decorator in statement.decorator_list:
                    self._expression(decorator)
                self._function(statement, step)
            else:
                self._statement(statement)
        self._scopes.pop()

    def _overrides(self, step: Step, family: Family) -> None:
        above = family.steps[1:]
        for name, member in step.members.items():
            if member.kind == "attribute" or name in _NOBODYS:
                continue
            holder = next((each for each in above if name in each.members), None)
            if holder is None or not self._theirs(holder.module.name):
                continue
            node = member.nodes[-1]
            offers = on_object(node) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None
            # What a constructor takes is for those who call it to know.
            self._use("override", f"{holder.label}.{name}", node, by=f"{'.'.join(step.path)}.{name}", offers=offers)

    def _function(self, node: Function, step: Step | None) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for each in (*arguments, node.args.vararg, node.args.kwarg):
            if each is not None and each.annotation is not None:
                self._expression(each.annotation)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self._expression(default)
        outer = self._scopes[-1]
        path = (*(outer.path if len(self._scopes) > 1 else ()), node.name)
        scope = Scope(path, {}, step or outer.cls, outer.family, self._asked | self._asked_in(node))
        for argument in arguments:
            scope.names[argument.arg] = self._annotation(argument.annotation)
        if step is not None and arguments and kind_of(node) != "staticmethod":
            scope.names[arguments[0].arg] = (
                Named(step.label) if kind_of(node) == "classmethod" else Object(step.label, sure=True)
            )
        for each in (node.args.vararg, node.args.kwarg):
            if each is not None:
                scope.names[each.arg] = None
        # What it binds anywhere is its own everywhere, whatever the module has under that name.
        for name in _bound_in(node):
            scope.names.setdefault(name, None)
        self._scopes.append(scope)
        self._body(node.body)
        self._scopes.pop()

    # ---- expressions

    def _expression(self, node: ast.expr) -> None:
        match node:
            case ast.Call():
                self._call(node)
            case ast.Attribute():
                self._attribute(node)
            case ast.Constant(value=str(text)):
                self._string(text, node)
            case ast.Lambda():
                self._scopes.append(
                    Scope(self._scopes[-1].path, {a.arg: None for a in node.args.args}, *self._within())
                )
                self._expression(node.body)
                self._scopes.pop()
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                stored = (each for part in node.generators for each in ast.walk(part.target))
                names: dict[str, Meaning] = {each.id: None for each in stored if isinstance(each, ast.Name)}
                self._scopes.append(Scope(self._scopes[-1].path, names, *self._within()))
                for part in node.generators:
                    names.update(self._each(part.target, part.iter))
                self._others(node)
                self._scopes.pop()
            case ast.BoolOp(op=ast.And()):
                with contextlib.ExitStack() as known:
                    for each in node.values:
                        self._expression(each)
                        known.enter_context(self._known(self._said(each)))
            case ast.Subscript() if (named := self._by_key(node)) is not None:
                self._attribute(named)
            case ast.NamedExpr(target=ast.Name(id=name)):
                self._expression(node.value)
                self._bind(name, self._meaning(node.value))
            case _:
                self._others(node)

    def _within(self) -> tuple[Step | None, Family | None, frozenset[str]]:
        scope = self._scopes[-1]
        return scope.cls, scope.family, scope.asked

    def _call(self, node: ast.Call) -> None:
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self._expression(argument)
        func = node.func
        match func:
            case ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=str(name))]):
                func = attribute_of(of, name, func)
        meaning = self._meaning(func)
        self._by_name(node, meaning)
        if isinstance(meaning, Object):
            self._on_object(attribute_of(func, "__call__", node), meaning, Call.of(node, on_object=True))
        on_object = False
        if isinstance(func, ast.Attribute):
            base = self._meaning(func.value)
            self._expression(func.value)
            if isinstance(base, Super):
                self._super_call(node, func.attr, base)
                return
            if isinstance(base, Object):
                self._on_object(func, base, Call.of(node, on_object=True))
                return
            holder = self.atlas.look(base.label) if isinstance(base, Named) else None
            on_object = isinstance(holder, Thing) and holder.kind not in ("class", "module")
        elif not isinstance(func, ast.Name):
            self._expression(func)
        if isinstance(meaning, Named) and self._leads_to_theirs(meaning.label):
            thing = self.atlas.look(meaning.label)
            kind: Kind = "call"
            if isinstance(thing, Thing):
                kind = "construct" if thing.kind == "class" else "call"
                if kind == "call" and _REGISTERING.search(thing.home.rpartition(":")[2].rpartition(".")[2]):
                    kind = "registration"
            if isinstance(thing, Thing) and thing.is_enum:
                self._by_value(node, meaning.label, thing)
            asked = isinstance(func, ast.Attribute) and func.attr in self._asked
            self._use(kind, meaning.label, node, call=Call.of(node, on_object=on_object), guarded=asked)
        elif isinstance(meaning, Named):
            self._made_of_ours(node, meaning.label)

    def _by_value(self, node: ast.Call, label: str, thing: Thing) -> None:
        """Note the member of an enumeration that is asked for by its value."""
        given = node.args[0] if len(node.args) == 1 else None
        for name, member in thing.family.steps[0].members.items() if thing.family is not None else ():
            same = isinstance(given, ast.Constant) and isinstance(member.value, ast.Constant)
            if same and member.value.value == given.value:  # type: ignore[union-attr]
                self._use("attribute", f"{label}.{name}", node)
                return

    def _made_of_ours(self, node: ast.Call, label: str) -> None:
        """Note how a class of this package is made, where a class of the other one has the constructor."""
        family = self.atlas.class_at(label)
        for step in family.steps if family is not None else ():
            if self._theirs(step.module.name):
                # What `cls` is may have a constructor of its own.
                sure = not isinstance(node.func, ast.Name) or node.func.id != "cls"
                self._use("construct", step.label, node, call=Call.of(node), sure=sure)
                return
            if {"__init__", "__new__"} & step.members.keys() or step.node.keywords:
                return
            if step.node.decorator_list:
                # A dataclass of ours takes the fields of theirs, among others.
                for keyword in node.keywords:
                    if keyword.arg is not None:
                        self._on_object(attribute_of(node.func, keyword.arg, node), Object(label), None)
                return

    def _by_name(self, node: ast.Call, meaning: Meaning) -> None:
        """Note the attributes that getattr(), setattr() and dataclasses.replace() take by name."""
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=str(name))]):
                self._attribute(attribute_of(of, name, node))
            case ast.Call(func=ast.Name(id="setattr"), args=[of, ast.Constant(value=str(name)), value]):
                self._assigned(attribute_of(of, name, node), value)
            case ast.Call(args=[function, *rest]) if self._is(meaning, "functools:partial"):
                # More arguments come with the call that is made of it.
                stars = ast.Starred(ast.Tuple([], ast.Load()), ast.Load())
                self._call(ast.copy_location(ast.Call(function, [*rest, stars], node.keywords), node))
            case ast.Call(args=[of]) if self._is(meaning, "dataclasses:replace"):
                self._replaced(node, of)
            case ast.Call(func=ast.Attribute(value=of, attr="_replace" | "__replace__")):
                self._replaced(node, of)

    def _replaced(self, node: ast.Call, of: ast.expr) -> None:
        base = self._meaning(of)
        for keyword in node.keywords:
            if keyword.arg is not None and isinstance(base, Object):
                self._on_object(attribute_of(of, keyword.arg, node), base, None)

    def _super_call(self, node: ast.Call, name: str, base: Super) -> None:
        holder = next((step for step in base.steps if name in step.members), None)
        if holder is None or not self._theirs(holder.module.name) or name in _NOBODYS:
            return
        self._use("super call", f"{holder.label}.{name}", node, call=Call.of(node, on_object=True))

    def _attribute(self, node: ast.Attribute) -> None:
        base = self._meaning(node.value)
        self._expression(node.value)
        if isinstance(node.ctx, ast.Del):
            return
        if isinstance(base, Object):
            self._on_object(node, base, None)
        elif isinstance(base, Named) and self._leads_to_theirs(base.label):
            label = below(base.label, node.attr, self.atlas)
            found = self.atlas.look(label) if label is not None else None
            # A class may have more than its source says: from a metaclass, say.
            known = isinstance(found, Thing) and found.kind != "module"
            if label is not None and (known or (isinstance(found, Gone) and found.certain)):
                self._use("attribute", label, node, guarded=node.attr in self._asked)

    def _on_object(self, node: ast.Attribute, base: Object, call: Call | None, *, sets: bool = False) -> None:
        """Note what an attribute of an object is, if its class has it from the package."""
        family = self.atlas.class_at(base.cls)
        if family is None or node.attr in _NOBODYS:
            return
        own = [step for step in family.steps if not self._theirs(step.module.name)]
        if any(node.attr in step.members for step in own):
            return
        member = family.find(node.attr)
        if member is None or not self._theirs(member.owner.module.name):
            return
        kind: Kind = "call" if call is not None and member.kind == "function" else "attribute"
        label = f"{member.owner.label}.{node.attr}"
        self._use(
            kind,
            label,
            node,
            call=call if kind == "call" else None,
            guarded=node.attr in self._asked,
            sure=base.sure,
            sets=sets,
        )

    def _string(self, text: str, node: ast.expr) -> None:
        if not self._theirs(text.partition(":")[0]) or not _TARGET.match(text) or "." not in text:
            return
        label = text if ":" in text else self._dotted(text)
        if label is not None and isinstance(self.atlas.look(label), Thing):
            self._use("string", label, node)

    def _dotted(self, text: str) -> str | None:
        """Return the label that a dotted name means, which may be a module, or a name in one."""
        parts = text.split(".")
        for length in range(len(parts), 0, -1):
            label = ".".join(parts[:length]) + (":" + ".".join(parts[length:]) if length < len(parts) else "")
            if isinstance(self.atlas.look(label), Thing):
                return label
        return None

    def _starred(self) -> None:
        """Note which names of a star import the module uses, each once."""
        stars = [star for star, _ in reversed(self.module.stars) if self._theirs(star)]
        names = {each.id: each for each in reversed(self.module.nodes) if isinstance(each, ast.Name)} if stars else {}
        for name in names.keys() - self.module.names.keys():
            thing = self.atlas.look(f"{self.module.name}:{name}")
            there = (f"{star}:{name}" for star in stars)
            label = next((each for each in there if isinstance(self.atlas.look(each), Thing)), None)
            if isinstance(thing, Thing) and label is not None:
                self._use("import", label, names[name])

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._bind(target.id, self._meaning(value))
        elif isinstance(target, ast.Attribute):
            base = self._meaning(target.value)
            self._expression(target.value)
            if isinstance(base, Named) and self._leads_to_theirs(base.label):
                label = below(base.label, target.attr, self.atlas)
                if label is not None:
                    self._use("patch", label, target, offers=self._signature(value))
            elif isinstance(base, Object):
                self._on_object(target, base, None, sets=True)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for each in target.elts:
                self._assigned(each, ast.Constant(None))
        else:
            self._others(target)

    # ---- what is found

    @property
    def _asked(self) -> frozenset[str]:
        return self._scopes[-1].asked

    def _asked_in(self, tree: ast.AST) -> frozenset[str]:
        """Return what hasattr(), and getattr() with a default, name; "name()" of what is asked for its signature."""
        return frozenset(_names_asked(tree)) if self._asks else frozenset()

    def _theirs(self, module: str) -> bool:
        return module.partition(":")[0].partition(".")[0] == self.of

    def _leads_to_theirs(self, label: str) -> bool:
        if self._theirs(label):
            return True
        thing = self.atlas.look(label)
        return isinstance(thing, Thing) and self._theirs(thing.home)

    def _through(self, label: str) -> str:
        """Return the label of an attribute that is set on what a name of this package leads to."""
        above, _, name = label.rpartition(".")
        thing = self.atlas.look(above) if ":" in above else None
        return f"{thing.home}.{name}" if isinstance(thing, Thing) else label

    def _use(
        self,
        kind: Kind,
        target: str,
        node: ast.AST,
        *,
        by: str = "",
        call: Call | None = None,
        offers: object = None,
        guarded: bool = False,
        sure: bool = True,
        sets: bool = False,
    ) -> None:
        thing = self.atlas.look(target)
        if not self._theirs(target):
            target = thing.home if isinstance(thing, Thing) else self._through(target)
        path = by or ".".join(self._scopes[-1].path)
        self.found.append(
            Use(
                kind,
                target,
                f"{self.module.name}:{path}" if path else self.module.name,
                self.module.file,
                getattr(node, "lineno", 1),
                call,
                offers,  # type: ignore[arg-type]
                guarded or self._guards > 0,
                sure,
                sets,
                self._tolerance > 0 or f"{target.rpartition(':')[2].rpartition('.')[2]}()" in self._asked,
            )
        )


def _bound_in(function: Function) -> frozenset[str]:
    """Return the names that a function binds for itself."""
    body = [statement for statement, _ in statements(function.body)]
    outer = {name for each in body if isinstance(each, (ast.Global, ast.Nonlocal)) for name in each.names}
    return frozenset(name for each in body for name in bound_names(each)) - outer


def _last(node: ast.expr) -> str:
    """Return the last word of a dotted name; "" of another expression."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _names_asked(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=word), args=[_, ast.Constant(value=str(name)), *rest]) if word in _ASKING:
                if word == "hasattr" or rest:
                    yield name
            case ast.Call(func=ast.Name(id="signature") | ast.Attribute(attr="signature"), args=[of]):
                yield f"{_last(of)}()"


def _caught(errors: ast.expr | None) -> frozenset[str]:
    """Return the names of the errors that a handler catches; one that names none catches all."""
    if errors is None:
        return frozenset({"BaseException"})
    return frozenset(node.id for node in ast.walk(errors) if isinstance(node, ast.Name))
