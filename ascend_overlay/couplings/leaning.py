"""What the implementations of overlays take from a package, read from their modules and those that these import."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import fields
from types import FunctionType

from ascend_overlay import versions
from ascend_overlay.couplings import handmade
from ascend_overlay.couplings.reading import uses
from ascend_overlay.couplings.targets import target_of
from ascend_overlay.couplings.uses import Use
from ascend_overlay.errors import ConfigError
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches.base import Patch, Ref
from ascend_overlay.source.atlas import Atlas
from ascend_overlay.source.module import absolute

_LONGEST_NAME = 200
_LIBRARY, _IMPLEMENTING = "ascend_overlay", ("overlays", "npu", "quantization")


class Leaning:
    """What the implementations of overlays take from a package, read once.

    Args:
        atlas: the state of the package in which it is looked up.
        of: the package.
        overlays: all that there are: where another one is declared is nothing that one leans on.
    """

    def __init__(self, atlas: Atlas, of: str, overlays: Iterable[Overlay]) -> None:
        self._atlas, self._of = atlas, of
        # A module may declare several.
        self._declaring: dict[str, set[str | None]] = {}
        for overlay in overlays:
            self._declaring.setdefault(overlay.declared_in, set()).update(map(target_of, overlay.patches))
        self._uses: dict[str, list[Use]] = {}
        self._imports: dict[str, tuple[str, ...]] = {}
        self._handmade: dict[frozenset[str], list[Use]] = {}

    def of(self, overlay: Overlay, version: str = "") -> list[Use]:
        """Return what the modules of the implementations take, and those that they import from their own package.

        Args:
            overlay: the overlay.
            version: the release that is asked about, where what patches for others put in place is nothing to it.
        """
        modules = self._read_for(overlay, version)
        targets = self._declaring.get(overlay.declared_in, set())
        # What a patch names as its target is judged as that.
        found = [
            use
            for module in modules
            for use in self._uses_of(module)
            if use.kind != "string" or use.target not in targets
        ]
        known = {(use.target, use.file, use.line) for use in found if use.kind == "patch"}
        found += [use for use in self._made_by_hand(modules) if (use.target, use.file, use.line) not in known]
        return sorted(found, key=lambda use: (use.file, use.line))

    def heirs(self, overlay: Overlay, version: str = "") -> dict[str, set[str]]:
        """Return the classes of these modules that others of them derive from -> those that none derives from."""
        above: dict[str, set[str]] = {}
        for module in filter(None, map(self._atlas.sources.module, self._read_for(overlay, version))):
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef):
                    own, *bases = self._atlas.family(module, (node.name,), node).steps
                    above[own.label] = {base.label for base in bases}
        derived = set().union(*above.values())
        leaves = {label: bases for label, bases in above.items() if label not in derived}
        return {label: {leaf for leaf, bases in leaves.items() if label in bases} for label in above.keys() & derived}

    def _read_for(self, overlay: Overlay, version: str) -> list[str]:
        """Return the names of the modules of the implementations, and of what these import of their own package."""
        seen: list[str] = []
        there: dict[bool, set[str]] = {True: set(), False: set()}
        for patch in overlay.patches:
            in_range = not version or versions.in_range(patch.vllm, version, whose=patch.target)
            there[in_range].update(implementing(patch))
        # The declaration names them all.
        elsewhere = there[False] - there[True]
        todo = sorted({overlay.declared_in, *there[True]})
        while todo:
            module = todo.pop()
            foreign = module in self._declaring and module != overlay.declared_in
            if foreign or module in seen or module.partition(".")[0] == self._of or _is_library(module):
                continue
            seen.append(module)
            self._uses_of(module)
            todo += [name for name in self._imports[module] if module != overlay.declared_in or name not in elsewhere]
        return seen

    def _made_by_hand(self, names: Iterable[str]) -> list[Use]:
        key = frozenset(names)
        if key not in self._handmade:
            modules = [module for name in sorted(key) if (module := self._atlas.sources.module(name)) is not None]
            self._handmade[key] = handmade.patches(modules, self._atlas, of=self._of)
        return self._handmade[key]

    def _uses_of(self, module: str) -> list[Use]:
        if module not in self._uses:
            source = self._atlas.sources.module(module)
            top = module.partition(".")[0]
            inner: set[str] = set()
            for node in source.nodes if source is not None else ():
                if isinstance(node, ast.ImportFrom) and source is not None:
                    origin = absolute(node, source.package)
                    names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, (ast.Constant, ast.JoinedStr)):
                    names = [name for text in _spelled(node, module) for name in _module_in(text)]
                else:
                    continue
                inner |= {name for name in names if name.partition(".")[0] == top}
            self._imports[module] = tuple(
                sorted(name for name in inner if self._atlas.sources.module(name) is not None)
            )
            reads = source is not None and self._of in source.text
            try:
                self._uses[module] = uses(source, self._atlas, of=self._of) if source is not None and reads else []
            except RecursionError:
                raise ConfigError(
                    f"the source of {module} is nested deeper than can be followed; split the expression."
                ) from None
        return self._uses[module]


def _spelled(node: ast.Constant | ast.JoinedStr, module: str) -> Iterator[str]:
    """Yield what a string in `module` may be: of f"{HERE}.rest" what stands for HERE is the module, or its package."""
    match node:
        case ast.Constant(value=str(text)) if len(text) < _LONGEST_NAME:
            yield text
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(rest))]) if rest[:1] == ".":
            yield from (f"{module}{rest}", f"{module.rpartition('.')[0]}{rest}")


def _module_in(text: str) -> Iterator[str]:
    """Yield the module of "package.module:Class", or of "package.module.Class", as vLLM is given what it imports."""
    name, colon, _ = text.partition(":")
    above, _, last = name.rpartition(".")
    if colon or last[:1].isupper():
        yield name if colon else above


def _is_library(module: str) -> bool:
    """Tell whether a module is of the library, which every overlay uses, and not of what overlays put in place."""
    top, _, rest = module.partition(".")
    return top == _LIBRARY and rest.partition(".")[0] not in _IMPLEMENTING


def implementing(patch: Patch) -> Iterator[str]:
    """Yield the modules of what a patch puts in place."""
    for each in fields(patch):
        value = getattr(patch, each.name)
        if isinstance(value, Ref):
            yield value.text.partition(":")[0]
        elif isinstance(value, (type, FunctionType)) and value.__module__ != "builtins":
            yield value.__module__
        elif each.name == "implementation" and isinstance(value, str):
            yield value.partition(":")[0]
    if patch.kind == "call" and ":" not in patch.target:
        # It waits for one of ours.
        yield patch.target
