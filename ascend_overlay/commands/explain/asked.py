"""What a user means by TARGET: a place in a module, a tree of modules, a name that is registered."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ascend_overlay.errors import TargetError, did_you_mean
from ascend_overlay.places.target import Target
from ascend_overlay.source.definitions import Absent, Definition, at_home, definition
from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import Missing
from ascend_overlay.source.sources import Sources

_KINDS = {"ClassDef": "class", "FunctionDef": "function", "AsyncFunctionDef": "function"}


@dataclass(frozen=True)
class Original:
    """The place of what a target names, as the source has it.

    Attributes:
        kind: "class", "function", or "value".
        file: the file; None where the module has no Python source.
        line: the line of the statement, from 1.
        inherited: the class that has it, "module:Class", where the target's class does not have it itself.
    """

    kind: str
    file: str | None
    line: int
    inherited: str = ""


@dataclass(frozen=True)
class Asked:
    """What is asked about.

    Attributes:
        text: as the user wrote it.
        module: the module or package; "" for a registered name.
        path: the names in it that lead to the target; none for a whole tree, or a registered name.
        home: the target where it is defined, "module:Name"; `text` for a tree or a registered name.
        original: where that is; None where the source does not tell.
        by_way_of: the module that only imports it, where TARGET names that one.
        alias: the module that TARGET names and vLLM does not have; an overlay serves its import.
        unspelled: a sentence where the source does not spell the name, but may make it.
    """

    text: str
    module: str
    path: tuple[str, ...] = ()
    home: str = ""
    original: Original | None = None
    by_way_of: str = ""
    alias: str = ""
    unspelled: str = ""

    @property
    def is_tree(self) -> bool:
        """Whether a module or package is asked about as a whole."""
        return bool(self.module) and not self.path


def asked(
    text: str, sources: Sources, *, names: Collection[str] = (), aliases: Mapping[str, str] | None = None
) -> Asked:
    """Return what `text` means.

    Args:
        text: "package.module:Name", "package.module.Name", "package.module", or a name that patches register.
        sources: where modules are looked up; nothing is imported.
        names: the targets of patches that are no places: "AscendForCausalLM".
        aliases: the modules that overlays serve and vLLM does not have, and by which modules.

    Raises:
        TargetError: there is no such thing.
    """
    if text in names:
        return Asked(text, "", home=text)
    if (served := _served(text, sources, aliases or {})) is not None:
        return served
    module, path = _split(text, sources)
    found = sources.finder.find(module)
    if isinstance(found, Missing):
        raise TargetError(f"{found.sentence()}{'' if '.' in text else did_you_mean(text, names)}")
    if not path:
        return Asked(text, module, home=module)
    return _located(Asked(text, module, path), sources)


def _split(text: str, sources: Sources) -> tuple[str, tuple[str, ...]]:
    """Return the module and the path of what is written with a colon or, as in an import, with a dot."""
    if ":" in text:
        target = Target.parse(text)
        return target.module, target.path
    parts = text.split(".")
    if not all(part.isidentifier() for part in parts):
        raise TargetError(
            f"{text!r} is not a target; write it as 'package.module:Qualified.name', or name a module or a package."
        )
    if isinstance(sources.finder.find(parts[0]), Missing):
        return text, ()
    module = next(name for name in _upwards(text) if not isinstance(sources.finder.find(name), Missing))
    path = tuple(parts[module.count(".") + 1 :])
    if path and not _may_have(module, path[0], sources):
        # The sentence on the module is the better one: it has the nearest modules.
        return text, ()
    return module, path


def _may_have(module: str, name: str, sources: Sources) -> bool:
    source = sources.module(module)
    return source is None or name in source.names or any(True for _ in source.stars)


def _served(text: str, sources: Sources, aliases: Mapping[str, str]) -> Asked | None:
    """Return what `text` means where it is in a module that an overlay serves; None where it is in none."""
    dotted = text.partition(":")[0] if ":" in text else text
    alias = next((name for name in _upwards(dotted) if name in aliases), None)
    if alias is None or not isinstance(sources.finder.find(alias), Missing):
        return None
    rest = text[len(alias) :].replace(":", ".").strip(".")
    if not rest:
        return Asked(text, alias, home=alias, alias=alias)
    by_way_of = aliases[alias]
    below = f"{by_way_of}.{rest}"
    is_module = ":" not in text and isinstance(sources.finder.find(below), Found)
    served = asked(_handed_out(by_way_of, rest, sources) or (below if is_module else f"{by_way_of}:{rest}"), sources)
    return replace(served, text=text, by_way_of=by_way_of, alias=alias)


def _handed_out(module: str, rest: str, sources: Sources) -> str | None:
    """Return the target of a name that a module hands out on demand, where a table in it says so."""
    source, (name, _, more) = sources.module(module), rest.partition(".")
    if source is None or name in source.names:
        return None
    for node in source.nodes:
        for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
            match key, value:
                case ast.Constant(value=str(word)), ast.Constant(value=str(target)) if word == name and ":" in target:
                    return ".".join(filter(None, [target, more]))
    return None


def _upwards(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _located(found: Asked, sources: Sources) -> Asked:
    home = at_home(f"{found.module}:{'.'.join(found.path)}", sources)
    module = home.partition(":")[0]
    by_way_of = found.module if module != found.module else ""
    defined = definition(sources, found.module, found.path)
    if isinstance(defined, Absent):
        name = found.path[defined.index]
        source = sources.module(module) if not defined.index else None
        known = [*defined.known, *(source.names if source is not None else ())]
        inside = f"{found.module}:{'.'.join(found.path[: defined.index])}" if defined.index else found.module
        raise TargetError(
            f"the target {found.module}:{'.'.join(found.path)} does not exist: {inside} has no {name!r}."
            f"{did_you_mean(name, known)}"
        )
    if defined is None:
        return replace(found, home=home, by_way_of=by_way_of, unspelled=_unspelled(home, sources))
    return replace(found, home=home, by_way_of=by_way_of, original=_original(defined, sources))


def _unspelled(home: str, sources: Sources) -> str:
    module, _, qualified = home.partition(":")
    source, name = sources.module(module), qualified.partition(".")[0]
    if source is None or name in source.names:
        return ""
    return f"{module} does not spell {name!r}, and may make it all the same.{did_you_mean(name, source.names)}"


def _original(found: Definition, sources: Sources) -> Original:
    source = sources.module(found.module)
    return Original(
        kind=_KINDS.get(type(found.node).__name__, "value"),
        file=source.file if source is not None else None,
        line=found.node.lineno,
        inherited=f"{found.module}:{'.'.join(found.path[:-1])}" if found.inherited else "",
    )
