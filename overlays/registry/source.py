"""Modules and classes seen without importing them: found on the path, parsed, never executed."""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ascend_overlay.errors import did_you_mean
from ascend_overlay.source.absence import absent

_NN_MODULE = {"torch.nn:Module", "torch.nn.modules:Module", "torch.nn.modules.module:Module"}
_PLAIN = ("typing", "typing_extensions", "abc", "builtins", "collections.abc")
_DYNAMIC_CALLS = {"globals", "exec", "vars", "setattr"}


@dataclass(frozen=True)
class Found:
    """Where a module is; `source` is None where it has no Python source."""

    source: Path | None
    search: tuple[str, ...] | None


@dataclass(frozen=True)
class ClassView:
    """What is known of a class.

    Attributes:
        label: "module:Class".
        is_module: whether it derives from torch.nn.Module; None where that cannot be told.
        names: attributes that it and its known bases define, those of torch.nn.Module left out.
        complete: whether `names` are all, so that another name is certainly missing.
        is_pooling: it calls itself a pooling model.
    """

    label: str
    is_module: bool | None
    names: frozenset[str] = frozenset()
    complete: bool = True
    is_pooling: bool = False


@dataclass
class _Scope:
    """The names that a module binds at its top level."""

    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)  # "module:name", or "module" alone
    others: set[str] = field(default_factory=set)
    ambiguous: set[str] = field(default_factory=set)
    dynamic: bool = False
    added: dict[str, set[str]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """All of them."""
        return {*self.classes, *self.imports, *self.others}


def find(module: str) -> Found | str | None:
    """Locate `module` without importing it or its packages.

    Returns:
        Where it is; the sentence that it does not exist; or None where only importing would tell.
    """
    search: tuple[str, ...] | None = None
    found: Found | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        loaded = sys.modules.get(name)
        if loaded is not None:
            search = tuple(getattr(loaded, "__path__", None) or ())
            found = Found(_python_file(getattr(loaded, "__file__", None)), search)
            continue
        spec = _ask_finders(name, search)
        if spec is None:
            parent = ".".join(parts[: depth - 1])
            if not parent:
                return f"the module {module!r} does not exist here: the package {name!r} is not installed."
            known = [f"{parent}.{info.name}" for info in pkgutil.iter_modules(search or ())]
            hint = did_you_mean(name, known)
            return f"the module {module!r} does not exist: {parent!r} has no such module.{hint}"
        search = tuple(spec.submodule_search_locations or ())
        found = Found(_python_file(spec.origin) if spec.has_location else None, search)
    return found


def look(module: str, name: str) -> ClassView | str | None:
    """View the class `name` of `module`.

    Returns:
        The view; the sentence that it does not exist or is no class; or None where only importing would tell.
    """
    scope = _scope(module)
    if scope is None:
        return None
    if name not in scope.names:
        known = absent(module, name)
        return None if known is None else no_such_class(module, name, known)
    if name in scope.imports and name not in scope.ambiguous:
        origin, _, original = scope.imports[name].partition(":")
        if original and _package(origin) == _package(module) and isinstance(find(origin), Found):
            return look(origin, original)
        return None
    return _class(module, name, _package(module), frozenset())


def no_such_class(module: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence that `module` does not define `name`."""
    hint = did_you_mean(name, known)
    return f"the module {module!r} has no class {name!r}.{hint}"


def _ask_finders(name: str, search: tuple[str, ...] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        # wrapt's finder, asked about a module with a hook, imports its packages.
        if type(finder).__module__.startswith("wrapt") or not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(name, None if search is None else list(search))
        if spec is not None:
            return spec
    return None


def _python_file(origin: str | None) -> Path | None:
    path = Path(origin) if origin else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def _package(module: str) -> str:
    return module.partition(".")[0]


def _class(module: str, name: str, within: str, seen: frozenset[str]) -> ClassView | None:
    """View a class; its bases are followed as long as they are in the package `within`."""
    label = f"{module}:{name}"
    if label in _NN_MODULE:
        return ClassView(label, True)
    if module in _PLAIN:
        return ClassView(label, False)
    if _package(module) != within or label in seen:
        return None
    scope = _scope(module)
    if scope is None or name in scope.ambiguous:
        return None
    if name in scope.imports:
        origin, _, original = scope.imports[name].partition(":")
        return _class(origin, original, within, seen | {label}) if original else None
    node = scope.classes.get(name)
    if node is None:
        return None
    return _merged(label, node, scope, [_base(base, module, scope, within, seen | {label}) for base in node.bases])


def _merged(label: str, node: ast.ClassDef, scope: _Scope, bases: list[ClassView | None]) -> ClassView:
    own = set(_names_in(node.body)) | scope.added.get(node.name, set())
    names = frozenset(own.union(*(base.names for base in bases if base)))
    certain = all(base is not None and base.complete for base in bases)
    strangers = bool(node.keywords) or not all(_is_neutral(decorator, scope) for decorator in node.decorator_list)
    is_module: bool | None
    if any(base is not None and base.is_module for base in bases):
        is_module = True
    else:
        is_module = False if certain and not strangers else None
    pooling = "is_pooling_model" in own or any(base.is_pooling for base in bases if base)
    return ClassView(label, is_module, names, certain and not strangers and not scope.dynamic, pooling)


def _base(node: ast.expr, module: str, scope: _Scope, within: str, seen: frozenset[str]) -> ClassView | None:
    if isinstance(node, ast.Subscript):
        node = node.value
    path = _dotted(node)
    if not path:
        return None
    first, *rest = path
    if not rest:
        if first in scope.names:
            return _class(module, first, within, seen)
        return ClassView("builtins:object", False) if first == "object" else None
    if first in scope.ambiguous or first not in scope.imports:
        return None
    origin, _, name = scope.imports[first].partition(":")
    return _class(".".join(filter(None, [origin, name, *rest[:-1]])), rest[-1], within, seen)


def _is_neutral(decorator: ast.expr, scope: _Scope) -> bool:
    """Tell whether a decorator keeps the class and its methods, as those of vLLM and of typing do."""
    path = _dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
    if not path or path[0] not in scope.imports:
        return False
    return _package(scope.imports[path[0]].partition(":")[0]) in ("vllm", "typing", "typing_extensions")


def _dotted(node: ast.expr) -> list[str]:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _scope(module: str) -> _Scope | None:
    found = find(module)
    if not isinstance(found, Found) or found.source is None:
        return None
    package = module if found.source.name == "__init__.py" else module.rpartition(".")[0]
    return _parsed(str(found.source), found.source.stat().st_mtime_ns, package)


@functools.lru_cache(maxsize=256)
def _parsed(path: str, _changed: int, package: str) -> _Scope | None:
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError):
        return None
    scope = _Scope()
    for statement in _statements(tree.body):
        _bind(statement, scope, package)
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
        scope.dynamic |= called in _DYNAMIC_CALLS
    scope.dynamic |= "__getattr__" in scope.others
    return scope


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a body does, those in branches included."""
    for statement in body:
        if isinstance(statement, ast.If) and _dotted(statement.test)[-1:] == ["TYPE_CHECKING"]:
            yield from _statements(statement.orelse)
            continue
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)


def _bind(statement: ast.stmt, scope: _Scope, package: str) -> None:
    before = scope.names
    fresh: set[str] = set()
    if isinstance(statement, ast.ClassDef):
        scope.classes[statement.name] = statement
        fresh = {statement.name}
    elif isinstance(statement, ast.Import):
        for alias in statement.names:
            name = alias.asname or alias.name.partition(".")[0]
            scope.imports[name] = alias.name if alias.asname else name
    elif isinstance(statement, ast.ImportFrom):
        origin = _absolute(statement, package)
        for alias in statement.names:
            scope.dynamic |= alias.name == "*"
            scope.imports[alias.asname or alias.name] = f"{origin}:{alias.name}"
        fresh = {alias.asname or alias.name for alias in statement.names}
    else:
        fresh = set(_names_in([statement]))
        scope.others |= fresh
        for target in getattr(statement, "targets", []):
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                scope.added.setdefault(target.value.id, set()).add(target.attr)
    scope.ambiguous |= fresh & before


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    parts = package.split(".")
    kept = parts[: len(parts) - statement.level + 1]
    return ".".join([*kept, *filter(None, [statement.module])])


def _names_in(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that the statements of a class or module body bind."""
    for statement in _statements(body):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield from (node.id for node in ast.walk(statement.target) if isinstance(node, ast.Name))
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in statement.names)
