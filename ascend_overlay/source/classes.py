"""Classes and what they are derived from, followed through the modules of a package without importing any."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ascend_overlay.source.module import Module
from ascend_overlay.source.sources import Sources
from ascend_overlay.source.statements import dotted


@dataclass(frozen=True)
class Lineage:
    """A class and its bases.

    Attributes:
        label: "module:Class".
        node: its statement; None for a class that was not followed.
        module: the module that defines it; None for a class that was not followed.
        bases: its bases, in their order; None for one that cannot be told.
    """

    label: str
    node: ast.ClassDef | None = None
    module: Module | None = None
    bases: tuple[Lineage | None, ...] = ()

    @property
    def own_members(self) -> frozenset[str]:
        """The names that its body binds, and those that its module sets on it afterwards."""
        if self.node is None or self.module is None:
            return frozenset()
        members = self.module.members_of(self.node)
        return frozenset(members) | self.module.added.get(self.node.name, frozenset())

    @property
    def changes_itself(self) -> bool:
        """Whether a metaclass, an argument of the class statement or a decorator may change what the class has."""
        return self.node is not None and bool(self.node.keywords or self.node.decorator_list)

    def decorators(self) -> Iterator[str]:
        """Yield the module of each decorator; "" for one that is no imported name."""
        for decorator in self.node.decorator_list if self.node is not None else ():
            path = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
            found = self.module.names.get(path[0], ()) if path and self.module is not None else ()
            yield found[-1].module if found and found[-1].kind == "import" else ""


def lineage(sources: Sources, module: str, name: str, within: str) -> Lineage | None:
    """Return the class `name` of `module`, followed as long as its bases are in the package `within`.

    None where that cannot be told: the name is bound more than once, or to something else than a class.
    """
    return _lineage(sources, module, name, within, frozenset())


def _lineage(sources: Sources, module: str, name: str, within: str, seen: frozenset[str]) -> Lineage | None:
    label = f"{module}:{name}"
    if module.partition(".")[0] != within:
        return Lineage(label)
    source = sources.module(module) if label not in seen else None
    binding = source.names.only(name) if source is not None else None
    if source is None or binding is None:
        return None
    seen |= {label}
    if binding.kind == "import":
        return _lineage(sources, binding.module, binding.original, within, seen) if binding.original else None
    if not isinstance(binding.node, ast.ClassDef):
        return None
    bases = [base_of(source, base) for base in binding.node.bases]
    followed = [_lineage(sources, *base, within, seen) if base is not None else None for base in bases]
    return Lineage(label, binding.node, source, tuple(followed))


def mro(cls: Lineage) -> list[Lineage] | None:
    """Return the class and its bases in the order in which attributes are looked up; None where that is not known."""
    if any(base is None for base in cls.bases):
        return None
    known = [base for base in cls.bases if base is not None]
    lines = [mro(base) for base in known]
    if any(line is None for line in lines):
        return None
    todo = [*(line for line in lines if line), known]
    merged = [cls]
    while todo := [line for line in todo if line]:
        tails = {each.label for line in todo for each in line[1:]}
        head = next((line[0] for line in todo if line[0].label not in tails), None)
        if head is None:
            return None
        merged.append(head)
        todo = [line[1:] if line[0].label == head.label else line for line in todo]
    return merged


def base_of(module: Module, base: ast.expr) -> tuple[str, str] | None:
    """Return the module and name that the expression of a base class in `module` means; None where that is open."""
    path = dotted(base.value if isinstance(base, ast.Subscript) else base)
    if not path:
        return None
    first, *rest = path
    if first not in module.names:
        return ("builtins", "object") if path == ["object"] else None
    if not rest:
        return module.name, first
    binding = module.names.only(first)
    if binding is None or binding.kind != "import":
        return None
    return ".".join(filter(None, [binding.module, binding.original, *rest[:-1]])), rest[-1]
