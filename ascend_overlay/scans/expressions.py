"""What an expression may mean: names, attributes, calls that are understood; the others are handed on."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from ascend_overlay.scans import calls
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
    Value,
    Values,
    located,
    outsides,
    texts,
    union,
)

_TEXT_METHODS = {
    "split",
    "rsplit",
    "partition",
    "rpartition",
    "strip",
    "removeprefix",
    "removesuffix",
    "format",
    "lower",
}
_LISTS = {"list", "tuple", "set", "frozenset", "sorted", "iter", "reversed"}
_LONGEST = 400


class Expressions:
    """Evaluates expressions as far as source tells.

    Args:
        package: the name of the package whose patches are looked for.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self.loaded: set[tuple[str, ...]] = set()
        """The ways that an import statement says to be modules."""

    def called(self, node: ast.Call, callee: Values, scope: Scope) -> Values:
        """Return what a call gives; whoever walks statements knows more of it."""
        raise NotImplementedError

    def module_scope(self, name: str) -> Scope | None:
        """Return the scope of a module of the package; None where it has no such module."""
        raise NotImplementedError

    def evaluate(self, node: ast.expr | None, scope: Scope) -> Values:
        """Return what an expression may mean; nothing where nobody knows."""
        if node is None:
            return ()
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        return method(node, scope) if method is not None else self._others(node, scope)

    def attribute(self, values: Values, name: str) -> Values:
        """Return the attribute `name` of what `values` may be."""
        return union(self._attribute_of(value, name) for value in values)

    def items(self, values: Values) -> Iterator[Values] | None:
        """Return what a loop over one of `values` goes through; None where that is not known."""
        found: list[Values] = []
        for value in values:
            if isinstance(value, Sequence):
                found.extend(value.items)
            elif isinstance(value, Mapping):
                found.extend(key for key, _ in value.pairs)
            else:
                return None
        return iter(found[:_LONGEST]) if values else None

    def _others(self, node: ast.expr, scope: Scope) -> Values:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.evaluate(child, scope)
        return ()

    def _name(self, node: ast.Name, scope: Scope) -> Values:
        found = scope.find(node.id)
        if found is not None:
            return found.names[node.id]
        return (Outside(("builtins", node.id), 1),)

    def _constant(self, node: ast.Constant, scope: Scope) -> Values:
        return (Const(node.value),)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Values:
        return self.attribute(self.evaluate(node.value, scope), node.attr)

    def _attribute_of(self, value: Value, name: str) -> Values:
        if isinstance(value, Outside):
            member = value.member(name)
            return (Outside(member.parts, len(member.parts)) if member.parts in self.loaded else member,)
        if isinstance(value, OwnModule):
            return self.of_module(value.name, name)
        if isinstance(value, Instance):
            if name == "__class__":
                return (value.cls,)
            if name in value.attributes:
                return value.attributes[name]
            return self._member(value.cls, name, value)
        if isinstance(value, Local):
            if name == "__dict__" and isinstance(value.node, ast.ClassDef):
                return (self._members(value),)
            if name == "__name__":
                return (Const(value.path[-1]),)
            return self._member(value, name, value) if isinstance(value.node, ast.ClassDef) else ()
        if isinstance(value, Made):
            if name in ("fget", "func", "__func__", "__wrapped__"):
                return value.arguments[:1]
            # The folder of a file of the package is still in it.
            return (value,) if located((value,), self.package) else ()
        return ()

    def of_module(self, module: str, name: str) -> Values:
        """Return what `name` of a module of the package may be; a module below it, where nothing else is known."""
        scope = self.module_scope(module)
        found = scope.names.get(name, ()) if scope is not None else ()
        if not found and self.module_scope(f"{module}.{name}") is not None:
            return (OwnModule(f"{module}.{name}"),)
        return found

    def bases(self, cls: Local) -> Values:
        """Return the bases of a class of the package."""
        node = cls.node
        assert isinstance(node, ast.ClassDef)
        outer = cls.scope.parent or cls.scope
        return union(self.evaluate(base, outer) for base in node.bases)

    def line(self, cls: Local, depth: int = 8) -> list[Local]:
        """Return a class of the package and the classes of the package that it is derived from."""
        found = [cls]
        for base in self.bases(cls) if depth else ():
            if isinstance(base, Local) and isinstance(base.node, ast.ClassDef) and base.node is not cls.node:
                found += self.line(base, depth - 1)
        return found

    def _member(self, cls: Local, name: str, owner: Instance | Local) -> Values:
        for each in self.line(cls):
            if name in each.scope.names:
                return tuple(
                    Bound(value, owner)
                    if isinstance(value, Local) and not isinstance(value.node, ast.ClassDef) and not _static(value)
                    else value
                    for value in each.scope.names[name]
                )
        return ()

    def _members(self, cls: Local) -> Mapping:
        return Mapping(
            tuple(((Const(name),), values) for name, values in cls.scope.names.items() if not name.startswith("__"))
        )

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Values:
        container = self.evaluate(node.value, scope)
        index = self.evaluate(node.slice, scope)
        return union(self._entry(value, key) for value in container for key in index or (None,))

    def _entry(self, value: Value, key: Value | None) -> Values:
        if isinstance(value, Outside):
            if value.parts == ("sys", "modules"):
                return self.imported(key.value) if isinstance(key, Const) and isinstance(key.value, str) else ()
            return (value.entry(key.value),) if isinstance(key, Const) and isinstance(key.value, (str, int)) else ()
        if isinstance(value, Sequence):
            if (
                isinstance(key, Const)
                and isinstance(key.value, int)
                and -len(value.items) <= key.value < len(value.items)
            ):
                return value.items[key.value]
            return union(value.items)
        if isinstance(value, Mapping):
            known = [item for name, item in value.pairs if key is not None and key in name]
            return union(known or [item for _, item in value.pairs])
        if isinstance(value, Local) and isinstance(value.node, ast.ClassDef):
            return (value,)
        return ()

    def imported(self, name: str) -> Values:
        """Return the module of that name."""
        if self.module_scope(name) is not None:
            return (OwnModule(name),)
        parts = tuple(name.partition(":")[0].split("."))
        return (Outside(parts, len(parts)),) if all(parts) else ()

    def _lambda(self, node: ast.Lambda, scope: Scope) -> Values:
        inner = Scope(scope.module, (*scope.path, "<lambda>"), scope)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            inner.bind(argument.arg, (), also=False)
        self.evaluate(node.body, inner)
        return (Local(node, scope.module, inner.path, inner),)

    def _ifexp(self, node: ast.IfExp, scope: Scope) -> Values:
        self.evaluate(node.test, scope)
        return union([self.evaluate(node.body, scope), self.evaluate(node.orelse, scope)])

    def _boolop(self, node: ast.BoolOp, scope: Scope) -> Values:
        return union([self.evaluate(value, scope) for value in node.values])

    def _namedexpr(self, node: ast.NamedExpr, scope: Scope) -> Values:
        values = self.evaluate(node.value, scope)
        scope.bind(node.target.id, values, also=True)
        return values

    def _await(self, node: ast.Await, scope: Scope) -> Values:
        return self.evaluate(node.value, scope)

    def _starred(self, node: ast.Starred, scope: Scope) -> Values:
        return self.evaluate(node.value, scope)

    def _elements(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope) -> Values:
        items: list[Values] = []
        for element in node.elts:
            values = self.evaluate(element, scope)
            inner = self.items(values) if isinstance(element, ast.Starred) else None
            items.extend(inner if inner is not None else [values])
        return (Sequence(tuple(items)),)

    _list = _tuple = _set = _elements

    def _dict(self, node: ast.Dict, scope: Scope) -> Values:
        pairs: list[tuple[Values, Values]] = []
        for key, value in zip(node.keys, node.values, strict=True):
            values = self.evaluate(value, scope)
            if key is not None:
                pairs.append((self.evaluate(key, scope), values))
            else:
                pairs += [pair for inner in values if isinstance(inner, Mapping) for pair in inner.pairs]
        return (Mapping(tuple(pairs)),)

    def _joinedstr(self, node: ast.JoinedStr, scope: Scope) -> Values:
        choices: list[list[str]] = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                choices.append([str(part.value)])
                continue
            assert isinstance(part, ast.FormattedValue)
            known = [value.value for value in self.evaluate(part.value, scope) if isinstance(value, Const)]
            choices.append([str(value) for value in known] or [f"{{{ast.unparse(part.value)}}}"])
        made = itertools.islice(itertools.product(*choices), 32)
        return tuple(Const("".join(each)) for each in made)

    def _binop(self, node: ast.BinOp, scope: Scope) -> Values:
        left, right = self.evaluate(node.left, scope), self.evaluate(node.right, scope)
        if isinstance(node.op, ast.Add):
            sums = [Const(one + other) for one in texts(left) for other in texts(right)]
            lists = [
                Sequence((*one.items, *other.items))
                for one in left
                for other in right
                if isinstance(one, Sequence) and isinstance(other, Sequence)
            ]
            made: Values = (*sums, *lists)
            return made[:32]
        if isinstance(node.op, ast.BitOr):
            pairs = [pair for value in (*left, *right) if isinstance(value, Mapping) for pair in value.pairs]
            return (Mapping(tuple(pairs)),) if pairs else ()
        # A path below a module's file stays one of that package.
        return (Made(left, (*left, *right)),) if any(outsides((*left, *right), self.package)) else ()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, scope: Scope) -> Values:
        found = [self.evaluate(node.elt, inner) for inner in self._rounds(node.generators, scope)]
        return (Sequence(tuple(found[:_LONGEST])),)

    _listcomp = _setcomp = _generatorexp = _comprehension

    def _dictcomp(self, node: ast.DictComp, scope: Scope) -> Values:
        rounds = self._rounds(node.generators, scope)
        return (Mapping(tuple((self.evaluate(node.key, s), self.evaluate(node.value, s)) for s in rounds)),)

    def _rounds(self, generators: list[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        if not generators:
            yield scope
            return
        first, *rest = generators
        items = self.items(self.evaluate(first.iter, scope))
        for values in itertools.islice(items if items is not None else iter([()]), 64):
            inner = Scope(scope.module, scope.path, scope)
            self.unpack(first.target, values, inner, also=False)
            for test in first.ifs:
                self.evaluate(test, inner)
            yield from self._rounds(rest, inner)

    def unpack(self, target: ast.expr, values: Values, scope: Scope, *, also: bool) -> None:
        """Bind the names of `target`; attributes and entries are somebody else's."""
        if isinstance(target, ast.Name):
            scope.bind(target.id, values, also=also)
        elif isinstance(target, ast.Starred):
            self.unpack(target.value, (), scope, also=also)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for index, element in enumerate(target.elts):
                inner = [
                    value.items[index] for value in values if isinstance(value, Sequence) and index < len(value.items)
                ]
                self.unpack(element, union(inner), scope, also=also)

    def _call(self, node: ast.Call, scope: Scope) -> Values:
        callee = self.evaluate(node.func, scope)
        understood = self._understood(node, callee, scope)
        return understood if understood is not None else self.called(node, callee, scope)

    def _understood(self, node: ast.Call, callee: Values, scope: Scope) -> Values | None:
        """Return what a call of a well-known function gives; None where it is none."""
        arguments = node.args
        if isinstance(node.func, ast.Attribute) and node.func.attr in {
            *_TEXT_METHODS,
            "items",
            "values",
            "keys",
            "get",
            "copy",
        }:
            owner = self.evaluate(node.func.value, scope)
            inside = self._of_container(owner, node, scope)
            if inside:
                return inside
        for value in callee:
            if not isinstance(value, Outside):
                continue
            name = ".".join(value.parts[1:] if value.parts[0] == "builtins" else value.parts)
            found = self._well_known(name, arguments, scope)
            if found is not None:
                return found
        return None

    def _well_known(self, name: str, arguments: list[ast.expr], scope: Scope) -> Values | None:
        known = name in _KNOWN or name.rpartition(".")[2] in _RESOLVERS
        given = [self.evaluate(each, scope) for each in arguments] if known else []
        if name == "getattr" and len(given) >= 2:
            named = union(self.attribute(given[0], text) for text in texts(given[1]))
            return union([named, *given[2:]])
        if name in calls.IMPORTERS and given:
            package = scope.module if self.is_package(scope.module) else scope.module.rpartition(".")[0]
            return union(self.imported(_absolute(text, package)) for text in texts(given[0]))
        if name == "vars" and len(given) == 1:
            return self.attribute(given[0], "__dict__")
        if name in ("dir", "inspect.getmembers") and given:
            inside = [value for value in self.attribute(given[0], "__dict__") if isinstance(value, Mapping)]
            pairs = [pair for value in inside for pair in value.pairs]
            rows: list[Values] = [pair[0] if name == "dir" else (Sequence(pair),) for pair in pairs]
            return (Sequence(tuple(rows)),)
        if name in _LISTS and given:
            items = self.items(given[0])
            return (Sequence(tuple(items)),) if items is not None else ()
        if name == "enumerate" and given:
            items = self.items(given[0])
            return (Sequence(tuple((Sequence(((), each)),) for each in items)),) if items is not None else ()
        if name == "zip":
            columns = [self.items(values) for values in given]
            known_columns = [column for column in columns if column is not None]
            if len(known_columns) < len(columns):
                return ()
            zipped = zip(*known_columns, strict=False)
            return (Sequence(tuple((Sequence(tuple(row)),) for row in zipped)),)
        if name == "dict" and not given:
            return (Mapping(()),)
        if name in calls.TRANSPARENT and calls.TRANSPARENT[name] >= 0 and len(given) > calls.TRANSPARENT[name]:
            return given[calls.TRANSPARENT[name]]
        if name in ("importlib.util.find_spec", "find_spec", "importlib.resources.files") and given:
            return tuple(Outside((*text.split("."), "__file__"), len(text.split("."))) for text in texts(given[0]))
        if name in ("inspect.getfile", "inspect.getsourcefile") and given:
            return self.attribute(given[0], "__file__")
        if name == "type" and len(given) == 1:
            return self.attribute(given[0], "__class__") if any(isinstance(v, Instance) for v in given[0]) else ()
        if name.rpartition(".")[2] in _RESOLVERS and given:
            return union(self._resolved(text) for text in texts(given[0]))
        return None

    def _resolved(self, text: str) -> Values:
        module, _, path = text.partition(":")
        parts = tuple(f"{module}.{path}".strip(".").split("."))
        return (Outside(parts, len(module.split(".")) if path else 1),) if all(parts) else ()

    def is_package(self, module: str) -> bool:
        """Tell whether a module of the package has modules below it."""
        raise NotImplementedError

    def _of_container(self, owner: Values, node: ast.Call, scope: Scope) -> Values:
        method = node.func.attr  # type: ignore[attr-defined]
        found: list[Value] = []
        for value in owner:
            if isinstance(value, Mapping) and method in ("items", "values", "keys", "copy"):
                if method == "copy":
                    found.append(value)
                    continue
                rows = {
                    "items": tuple((Sequence(pair),) for pair in value.pairs),
                    "values": tuple(item for _, item in value.pairs),
                    "keys": tuple(key for key, _ in value.pairs),
                }
                found.append(Sequence(rows[method]))
            elif isinstance(value, Mapping) and method == "get" and node.args:
                keys = self.evaluate(node.args[0], scope) or (None,)
                found += [each for key in keys for each in self._entry(value, key)]
            elif isinstance(value, Outside) and value.parts[-1] == "__dict__" and method == "get" and node.args:
                found += [value.member(text) for text in texts(self.evaluate(node.args[0], scope))]
            elif isinstance(value, Const) and isinstance(value.value, str) and method in _TEXT_METHODS:
                found += self._of_text(value.value, method, node, scope)
        return tuple(found)

    def _of_text(self, text: str, method: str, node: ast.Call, scope: Scope) -> Values:
        given = [self.evaluate(each, scope) for each in node.args]
        if node.keywords or not all(len(each) == 1 and isinstance(each[0], Const) for each in given):
            return ()
        try:
            made = getattr(text, method)(*(each[0].value for each in given))  # type: ignore[union-attr]
        except Exception:
            return ()
        if isinstance(made, (list, tuple)):
            return (Sequence(tuple((Const(part),) for part in made)),)
        return (Const(made),)


_RESOLVERS = {"resolve_obj_by_qualname", "import_from_string", "locate", "resolve_name"}
_KNOWN = {
    "getattr",
    "vars",
    "dir",
    "inspect.getmembers",
    "inspect.getfile",
    "inspect.getsourcefile",
    "importlib.util.find_spec",
    "find_spec",
    "importlib.resources.files",
    "enumerate",
    "zip",
    "dict",
    "type",
    *_LISTS,
    *calls.IMPORTERS,
    *calls.TRANSPARENT,
}


def _absolute(name: str, package: str) -> str:
    if not name.startswith("."):
        return name
    level = len(name) - len(name.lstrip("."))
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], name.lstrip(".")])


def _static(function: Local) -> bool:
    decorators = getattr(function.node, "decorator_list", [])
    return any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in decorators)
