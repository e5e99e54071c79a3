"""Finders on sys.meta_path: ours ask the others, and who looks for a module without importing it asks all but ours.

Every Python process of an activated environment may import this, before anything is imported that need not be.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def ask_others(
    finder: "object", fullname: "str", path: "Sequence[str] | None", target: "ModuleType | None"
) -> "ModuleSpec | None":
    """Return what the finders on sys.meta_path beside `finder` find, or None."""
    # The list may change meanwhile, and the import system, in the middle of it, would skip a finder.
    for other in list(sys.meta_path):
        find = getattr(other, "find_spec", None)
        if other is not finder and find is not None and (spec := find(fullname, path, target)):
            return spec  # type: ignore[no-any-return]
    return None


def find(fullname: "str", path: "Sequence[str] | None" = None) -> "ModuleSpec | None":
    """Return where a module is by the finders that are known to import nothing for it, or None.

    Args:
        fullname: its name.
        path: where its package has its submodules, in which whoever asks has looked itself; None for a module of the
            top level.
    """
    import importlib.machinery

    known = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, importlib.machinery.PathFinder)
    # Those of setuptools, meson-python, scikit-build-core, hatchling and pdm have it in the names of their modules.
    editables = [finder for finder in list(sys.meta_path) if "editable" in _module_of(finder)]
    return found_by((*(known if path is None else ()), *editables), fullname, path)


def found_by(finders: "Iterable[Any]", fullname: "str", path: "Sequence[str] | None" = None) -> "ModuleSpec | None":
    """Return where a module is by the first of `finders` that knows it, or None."""
    for finder in finders:
        try:
            spec: ModuleSpec | None = finder.find_spec(fullname, path)
        except Exception:
            # It may stand for other things than modules. What is wrong with it, an import says.
            continue
        if spec is not None:
            return spec
    return None


def others(*, ours: "bool" = False) -> "Iterator[object]":
    """Yield the finders that `find` does not ask: of nobody here knows what they do when they are asked.

    Args:
        ours: yield those of this library, too.
    """
    passed_over = {"_frozen_importlib", "_frozen_importlib_external"}
    # wrapt's finder, asked about a module with a hook, imports its packages.
    passed_over |= {"wrapt"} if ours else {"wrapt", "ascend_overlay"}
    for finder in list(sys.meta_path):
        module = _module_of(finder)
        known = module.partition(".")[0] in passed_over or "editable" in module
        if not known and hasattr(finder, "find_spec"):
            yield finder


def _module_of(finder: "object") -> "str":
    return str(getattr(finder if isinstance(finder, type) else type(finder), "__module__", ""))
