"""Whether what a package puts somewhere can be used as what was there: its kind, and how it is called."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from inspect import Signature

from ascend_overlay.patches import flavours, signatures
from ascend_overlay.scans.finding import Replacement
from ascend_overlay.scans.releases import Target
from ascend_overlay.scans.values import Local
from ascend_overlay.source.signatures import binding_of, signature
from ascend_overlay.source.skeletons import OPEN, function
from ascend_overlay.source.statements import Function

Misfit = tuple[str, str]
"""What kind of fault it is, "kind" or "signature", and why."""

_READ = ("property", "cached_property")


@dataclass(frozen=True)
class _Put:
    """What is put somewhere.

    Attributes:
        node: the function.
        binding: what a class makes of it: "method", the name of a descriptor, or "bound": it has its object already.
    """

    node: Function
    binding: str

    @property
    def signature(self) -> Signature:
        """How it is called once it is there, with an object that is bound to it first."""
        found = signature(self.node)
        if self.binding != "bound":
            return found
        return found.replace(parameters=[*found.parameters.values()][1:])


def misfit(target: Target, replacement: Replacement, *, calls_it: bool) -> Misfit | None:
    """Return why what is put in place of a target does not fit; None where it does, or source does not tell.

    Args:
        target: what is there.
        replacement: what is put there.
        calls_it: it calls what was there, and may return what that returns.
    """
    local, theirs = replacement.local, target.node
    if local is None or theirs is None:
        return None
    if isinstance(theirs, ast.ClassDef):
        return _of_classes(theirs, local.node) if isinstance(local.node, ast.ClassDef) else None
    if not isinstance(theirs, (ast.FunctionDef, ast.AsyncFunctionDef)) or isinstance(local.node, ast.ClassDef):
        return None
    member = len(target.path) == 2
    ours = _put(local, replacement, member=member)
    if ours is None:
        return None
    may_return_any = calls_it or isinstance(local.node, ast.Lambda)
    return _of_functions(theirs, ours, member=member, may_return_any=may_return_any)


def _put(local: Local, replacement: Replacement, *, member: bool) -> _Put | None:
    node = local.node
    assert not isinstance(node, ast.ClassDef)
    if isinstance(node, ast.Lambda):
        return _Put(ast.FunctionDef("<lambda>", node.args, [ast.Pass()], [], None), replacement.shell or "method")
    binding = binding_of(node)
    if binding is None:
        return None
    if replacement.bound or (binding == "classmethod" and _is_in_class(local)):
        return _Put(node, "bound")
    if binding == "staticmethod" and _is_in_class(local):
        # By the name of its class, it is the plain function.
        binding = "method"
    if node.decorator_list and not member and binding != "method":
        return None
    return _Put(node, replacement.shell or binding)


def _is_in_class(local: Local) -> bool:
    return len(local.path) > 1 and local.path[-2] != "<locals>"


def _of_functions(
    theirs: Function, ours: _Put, *, member: bool, may_return_any: bool, narrowing: bool = False
) -> Misfit | None:
    there = binding_of(theirs) if member else "method"
    if there is None or (not member and theirs.decorator_list):
        return None
    taken = signature(theirs)
    if ours.binding == "bound" and there == "method" and member:
        # Nothing binds it a second time.
        taken = taken.replace(parameters=[*taken.parameters.values()][1:])
    elif member and there != ours.binding and ours.binding != "bound":
        if {there, ours.binding} <= {*_READ}:
            return None
        return "kind", f"a {there} is replaced by a {ours.binding}"
    if there in _READ:
        return None
    if (why := _of_flavours(theirs, ours.node, may_return_any=may_return_any)) is not None:
        return "kind", why
    narrow = signatures.mismatch(taken, ours.signature, narrowing=narrowing)
    return ("signature", narrow) if narrow is not None else None


def _of_flavours(theirs: Function, ours: Function, *, may_return_any: bool) -> str | None:
    there, here = (function(node) for node in (theirs, ours))
    if there is OPEN or here is OPEN or flavours.mismatch(there, here) is None:
        return None
    if may_return_any and flavours.of(here) == flavours.PLAIN:
        return None
    return f"{_a(flavours.of(there))} is replaced by {_one(flavours.of(here), flavours.of(there))}"


def _a(flavour: str) -> str:
    noun = "plain function" if flavour == flavours.PLAIN else flavour
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _one(flavour: str, there: str) -> str:
    both = flavour.endswith("function") and there.endswith("function")
    return _a(flavour).replace(" function", " one") if both else _a(flavour)


def _of_classes(theirs: ast.ClassDef, ours: ast.ClassDef) -> Misfit | None:
    """Return which method of a class that is derived from what is there does not fit the one that it overrides."""
    known = {node.name: node for node in theirs.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    derived = any(theirs.name == getattr(base, "attr", getattr(base, "id", "")) for base in ours.bases)
    for node in ours.body if derived else ():
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name not in known:
            continue
        binding = binding_of(node)
        if binding is None:
            continue
        found = _of_functions(known[node.name], _Put(node, binding), member=True, may_return_any=True, narrowing=True)
        if found is not None:
            kind, why = found
            return kind, f"its {node.name} overrides {theirs.name}.{node.name}, and {why}"
    return None
