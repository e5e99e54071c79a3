"""Calls by which patches are made: setattr, wrapt, mock, methods of containers, registries, files that are written."""

from __future__ import annotations

import ast

from ascend_overlay.scans import calls
from ascend_overlay.scans.entering import Entering
from ascend_overlay.scans.finding import shortened
from ascend_overlay.scans.noting import UNKNOWN_NAME
from ascend_overlay.scans.values import (
    Bound,
    Const,
    Instance,
    Local,
    Made,
    Mapping,
    Outside,
    Scope,
    Sequence,
    Values,
    inner_texts,
    located,
    texts,
    union,
)
from ascend_overlay.source.statements import dotted


class Patching(Entering):
    """Knows what calls of functions that are not the package's own change."""

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
        return union(results) or ((Made(callee, union([*_callee_parts(callee), every])),) if callee or every else ())

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


def _callee_parts(callee: Values) -> list[Values]:
    """Return what a callee was made of: a method of something made of an original is made of it as well."""
    return [value.arguments for value in callee if isinstance(value, Made)]
