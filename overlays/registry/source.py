"""The class of a model, seen without importing it: what vLLM would meet in it, as far as that is certain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ascend_overlay.errors import did_you_mean
from ascend_overlay.source.absence import absent
from ascend_overlay.source.classes import Lineage, lineage
from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import Environment, Missing
from ascend_overlay.source.sources import LOADABLE

_NN_MODULE = {"torch.nn:Module", "torch.nn.modules:Module", "torch.nn.modules.module:Module"}
_PLAIN = ("typing", "typing_extensions", "abc", "builtins", "collections.abc")
_NEUTRAL = ("vllm", "typing", "typing_extensions")
"""Packages whose decorators keep a class and its methods."""

_FAR = 16
"""Modules may import one another in a circle; no name is handed on this often."""

_EVERYBODY = Environment(aliases=True)


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


def find(module: str) -> Found | Missing:
    """Locate `module` without importing it or its packages."""
    return _EVERYBODY.find(module)


def look(module: str, name: str) -> ClassView | str | None:
    """View the class `name` of `module`.

    Returns:
        The view; the sentence that it does not exist; or None where only importing would tell.
    """
    package = _package(module)
    for _ in range(_FAR):
        source = LOADABLE.module(module)
        if source is None:
            return None
        if name not in source.names:
            known = absent(module, name)
            return None if known is None else no_such_class(module, name, known)
        binding = source.names.only(name)
        if binding is None or binding.kind != "import":
            return _view(lineage(LOADABLE, module, name, package))
        if not binding.original or _package(binding.module) != package:
            return None
        module, name = binding.module, binding.original
    return None


def no_such_class(module: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence that `module` does not define `name`."""
    hint = did_you_mean(name, known)
    return f"the module {module!r} has no class {name!r}.{hint}"


def _package(module: str) -> str:
    return module.partition(".")[0]


def _view(found: Lineage | None) -> ClassView | None:
    if found is None:
        return None
    if found.label in _NN_MODULE:
        return ClassView(found.label, True)
    if found.label.partition(":")[0] in _PLAIN:
        return ClassView(found.label, False)
    if found.node is None or found.module is None:
        return None
    bases = [_view(base) for base in found.bases]
    certain = all(base is not None and base.complete for base in bases)
    strangers = bool(found.node.keywords) or any(_package(home) not in _NEUTRAL for home in found.decorators())
    is_module: bool | None
    if any(base is not None and base.is_module for base in bases):
        is_module = True
    else:
        is_module = False if certain and not strangers else None
    names = found.own_members.union(*(base.names for base in bases if base))
    pooling = "is_pooling_model" in found.own_members or any(base.is_pooling for base in bases if base)
    return ClassView(found.label, is_module, names, certain and not strangers and not found.module.makes_names, pooling)
