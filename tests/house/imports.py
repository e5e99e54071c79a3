"""The imports of all modules that get installed, read as text: who imports whom, where, and when it happens."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "ascend_overlay"
CHECKOUT = Path(__file__).parents[2]

AT_IMPORT, IN_A_FUNCTION, FOR_TYPES = "at import", "in a function", "for types"
"""When an import happens. Each counts as an arrow: what a function imports it needs, and a type is a promise, too."""


@dataclass(frozen=True)
class File:
    """A module as text.

    Attributes:
        path: where it is, for people.
        text: its source.
        package: whether it is the `__init__.py` of a folder.
    """

    path: str
    text: str
    package: bool

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of the source."""
        return ast.parse(self.text, self.path)


@dataclass(frozen=True)
class Arrow:
    """One import.

    Attributes:
        importer: the module that has it.
        imported: the module that it names, as exactly as the text tells; one of ours, or a foreign one.
        line: where.
        when: AT_IMPORT, IN_A_FUNCTION or FOR_TYPES.
    """

    importer: str
    imported: str
    line: int
    when: str


def installed_files(checkout: Path = CHECKOUT) -> dict[str, File]:
    """Return every module that setup.cfg installs, by its name; also those of folders that it forgets."""
    setup = configparser.ConfigParser()
    setup.read(checkout / "setup.cfg", encoding="utf-8")
    folders = dict(pair.split(" = ") for pair in setup["options"]["package_dir"].strip().splitlines())
    files = {}
    for package, folder in folders.items():
        for path in sorted((checkout / folder).rglob("*.py")):
            parts = path.relative_to(checkout / folder).with_suffix("").parts
            inside = parts[:-1] if parts[-1] == "__init__" else parts
            text = path.read_text(encoding="utf-8")
            files[".".join([package, *inside])] = File(str(path.relative_to(checkout)), text, path.stem == "__init__")
    return files


def installed_packages(checkout: Path = CHECKOUT) -> set[str]:
    """Return the packages that setup.cfg lists."""
    setup = configparser.ConfigParser()
    setup.read(checkout / "setup.cfg", encoding="utf-8")
    return set(setup["options"]["packages"].split())


def arrows(files: Mapping[str, File]) -> list[Arrow]:
    """Return the imports of all `files`, each once for a line."""
    found = []
    for module, file in files.items():
        reader = _Reader(module, file, files)
        reader.visit(file.tree)
        found.extend(dict.fromkeys(reader.found))
    return found


class _Reader(ast.NodeVisitor):
    """Collects the imports of one module."""

    def __init__(self, module: str, file: File, files: Mapping[str, File]) -> None:
        self.found: list[Arrow] = []
        self._module, self._file, self._files = module, file, files
        self._when = AT_IMPORT

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._base(node)
        for alias in node.names:
            # A name of a package may be a module of it.
            module = f"{base}.{alias.name}"
            self._add(module if module in self._files else base, node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self._add(name.value, node)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        test = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
        for part in node.body:
            self._within(FOR_TYPES if test == "TYPE_CHECKING" else self._when, part)
        for part in node.orelse:
            self.visit(part)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        for part in node.body:
            self._within(IN_A_FUNCTION, part)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _within(self, when: str, node: ast.AST) -> None:
        before, self._when = self._when, when
        self.visit(node)
        self._when = before

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self._module.split(".")
        up = node.level - 1 if self._file.package else node.level
        return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])

    def _add(self, imported: str, node: ast.stmt | ast.expr) -> None:
        # A module that is run as a program may ask for itself under its own name.
        if imported != self._module:
            self.found.append(Arrow(self._module, imported, node.lineno, self._when))


def executed(module: str, files: Mapping[str, File], found: list[Arrow]) -> Iterator[tuple[Arrow, ...]]:
    """Yield each foreign import that happens when `module` is imported, as the way that leads to it."""
    leaving: dict[str, list[Arrow]] = {}
    for arrow in found:
        if arrow.when == AT_IMPORT:
            leaving.setdefault(arrow.importer, []).append(arrow)
    seen, waiting = {module}, [(module, ())]
    while waiting:
        here, way = waiting.pop(0)
        for arrow in leaving.get(here, ()):
            if arrow.imported not in files:
                yield (*way, arrow)
            # Importing a module imports the packages that it is in.
            parts = arrow.imported.split(".")
            for name in (".".join(parts[: count + 1]) for count in range(len(parts))):
                if name in files and name not in seen:
                    seen.add(name)
                    waiting.append((name, (*way, arrow)))
