"""Assignments: to names, which are followed, and to attributes and entries of the other package, which are patches."""

from __future__ import annotations

import ast

from ascend_overlay.scans.finding import shortened
from ascend_overlay.scans.noting import UNKNOWN_NAME, Noting
from ascend_overlay.scans.values import (
    Const,
    Instance,
    Local,
    Mapping,
    Outside,
    OwnModule,
    Scope,
    Sequence,
    Values,
    texts,
    union,
)


class Storing(Noting):
    """Puts what an expression may be where a statement says."""

    def _bind(self, scope: Scope, name: str, values: Values) -> None:
        scope.bind(name, values, also=bool(self._frame.branches))

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
