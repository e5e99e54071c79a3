"""Who imports a name by `from ... import`, and so has a copy of what is in place at that moment: read from text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

_IMPORT = re.compile(r"^[ \t]*from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)", re.MULTILINE)


def holders(module: str, name: str, sources: Sources, tree: Tree) -> list[str]:
    """Return the modules of a package that import `name`, which `module` defines, also by way of others.

    Args:
        module: the module that defines it.
        name: a name of the module's own.
        sources: the modules' texts.
        tree: the package to look in.
    """
    word = re.compile(rf"\b{re.escape(name)}\b")
    ours: dict[str, bool] = {}
    found = []
    for other in tree.modules():
        text = sources.text(other)
        if text is None or other == module or not word.search(text):
            continue
        for origin in _origins(text, name, other, sources):
            if origin not in ours:
                ours[origin] = origin == module or sources.origin(origin, name) == (module, name)
            if ours[origin]:
                found.append(other)
                break
    return found


def _origins(text: str, name: str, module: str, sources: Sources) -> Iterator[str]:
    """Yield the modules from which a text imports `name`."""
    for match in _IMPORT.finditer(text):
        names = re.sub(r"#[^\n]*", "", match[2]).strip("() \t\\").replace("\n", " ").split(",")
        if any(part.split()[:1] == [name] for part in names):
            yield _absolute(match[1], module, sources)


def _absolute(written: str, module: str, sources: Sources) -> str:
    level = len(written) - len(written.lstrip("."))
    if not level:
        return written
    found = sources.finder.find(module)
    parts = module.split(".") if isinstance(found, Found) and found.search is not None else module.split(".")[:-1]
    return ".".join(filter(None, [*parts[: len(parts) - level + 1], written[level:]]))
