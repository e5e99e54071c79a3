"""Which NPU operators a module calls, and with which arguments, read from its source."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from ascend_overlay.source.module import absolute


@dataclass(frozen=True)
class Call:
    """A call of an operator of torch.ops.npu.

    Attributes:
        operator: its name, without the namespace; "NAME.out" for that overload.
        positional: how many arguments are passed by position.
        keywords: the names of those that are passed by keyword.
        unpacks: something is unpacked in it, so that it may pass more.
        filled: the names of those that are passed by keyword as a list or number that stands there, and so never None.
        line: where it is.
    """

    operator: str
    positional: int = 0
    keywords: frozenset[str] = frozenset()
    unpacks: bool = False
    line: int = 0
    filled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Uses:
    """What one module does with NPU operators.

    Attributes:
        calls: its calls.
        loads: the operators that it loads with ``npu.load``.
        imports: the modules that it imports, here and in its functions, and the names that may be modules.
    """

    calls: tuple[Call, ...] = ()
    loads: tuple[str, ...] = ()
    imports: frozenset[str] = field(default_factory=frozenset)


def uses(source: str, module: str = "") -> Uses:
    """Read the `source` of `module`, whose name relative imports count from.

    Understood are ``torch.ops.npu.NAME(...)``, ``torch.ops.npu.NAME.default(...)`` and ``torch.ops.npu.NAME.out(...)``,
    also where a part of that has been given a name of its own by an assignment.
    """
    tree = ast.parse(source)
    aliases = _aliases(tree)
    calls: list[Call] = []
    loads: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        path = _path(node.func, aliases)
        if path[-2:] == ("npu", "load"):
            loads += [
                item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)
            ]
        elif operator := _operator(path):
            keywords = frozenset(keyword.arg for keyword in node.keywords if keyword.arg is not None)
            starred = any(isinstance(item, ast.Starred) for item in node.args)
            unpacks = starred or any(keyword.arg is None for keyword in node.keywords)
            filled = frozenset(keyword.arg for keyword in node.keywords if keyword.arg and _is_filled(keyword.value))
            calls.append(Call(operator, len(node.args), keywords, unpacks, node.lineno, filled))
    calls.sort(key=lambda call: call.line)
    return Uses(tuple(calls), tuple(dict.fromkeys(loads)), _imports(tree, module))


def _is_filled(value: ast.AST) -> bool:
    return isinstance(value, ast.List) or (isinstance(value, ast.Constant) and value.value is not None)


def _aliases(tree: ast.AST) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            path = _path(node.value, found)
            if path[:3] == ("torch", "ops", "npu"):
                found[node.targets[0].id] = path
    return found


def _path(node: ast.AST, aliases: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if isinstance(node, ast.Attribute):
        inner = _path(node.value, aliases)
        return (*inner, node.attr) if inner else ()
    if isinstance(node, ast.Name):
        return aliases.get(node.id, (node.id,))
    return ()


def _operator(path: tuple[str, ...]) -> str | None:
    if path[:3] != ("torch", "ops", "npu") or len(path) < 4:
        return None
    if path[4:] in ((), ("default",)):
        return path[3]
    return f"{path[3]}.out" if path[4:] == ("out",) else None


def _imports(tree: ast.AST, module: str) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module.rpartition(".")[0])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(found)
