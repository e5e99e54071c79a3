"""Who imports a name by `from ... import`, and so has a copy of what is in place at that moment: read from text."""

from __future__ import annotations

from collections.abc import Collection

from ascend_overlay.source.folders import Found
from ascend_overlay.source.imports import imported
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources


def holders(homes: Collection[str], sources: Sources, tree: Tree) -> dict[str, list[str]]:
    """Return the modules of a package that import names, also by way of others, for each "module:name".

    Args:
        homes: names of modules' own, where they are defined.
        sources: the modules' texts.
        tree: the package to look in.
    """
    wanted = {home.partition(":")[2] for home in homes}
    leads: dict[tuple[str, str], str] = {}
    found: dict[str, list[str]] = {home: [] for home in homes}
    for other in tree.modules() if wanted else ():
        text = sources.text(other)
        if text is None or not any(name in text for name in wanted):
            continue
        for written, name in imported(text, wanted):
            origin = _absolute(written, other, sources)
            if (origin, name) not in leads:
                leads[origin, name] = ":".join(sources.origin(origin, name))
            holding = found.get(leads[origin, name])
            if holding is not None and other not in holding[-1:]:
                holding.append(other)
    return {home: [each for each in modules if each != home.partition(":")[0]] for home, modules in found.items()}


def _absolute(written: str, module: str, sources: Sources) -> str:
    level = len(written) - len(written.lstrip("."))
    if not level:
        return written
    found = sources.finder.find(module)
    parts = module.split(".") if isinstance(found, Found) and found.search is not None else module.split(".")[:-1]
    return ".".join(filter(None, [*parts[: len(parts) - level + 1], written[level:]]))
