"""Which NPU operators each overlay loads and calls, read from the sources of its modules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ascend_overlay.npu import calls
from ascend_overlay.npu.calls import Call, Uses
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Ref
from ascend_overlay.source.sources import LOADABLE

_OURS = "ascend_overlay"
_FOLLOWED = ("ascend_overlay.overlays.", "ascend_overlay.npu.")
_NOT_FOLLOWED = tuple(
    f"ascend_overlay.npu.{name}"
    for name in ("agreement", "calls", "cases", "contract", "genuine", "kernel", "reference", "registration", "schemas")
)


@dataclass(frozen=True)
class Usage:
    """What an overlay does with NPU operators.

    Attributes:
        loads: operators that its modules load.
        calls: its calls, with the module that each is in.
    """

    loads: frozenset[str]
    calls: tuple[tuple[str, Call], ...]


def of(overlay: Overlay) -> Usage:
    """Return what the modules of an overlay do: that which declares it, those that its patches name, and what they
    import of the same package."""
    seen: set[str] = set()
    todo = list(dict.fromkeys(_modules(overlay)))
    loads: set[str] = set()
    found: list[tuple[str, Call]] = []
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        uses = _uses(module)
        if uses is None:
            continue
        loads.update(uses.loads)
        found += [(module, call) for call in uses.calls]
        todo += [name for name in sorted(uses.imports) if _belongs(name, overlay)]
    return Usage(frozenset(loads), tuple(found))


def _modules(overlay: Overlay) -> Iterator[str]:
    yield overlay.declared_in
    for patch in overlay.patches:
        for field in dataclasses.fields(patch):
            yield from _named(getattr(patch, field.name), overlay)


def _named(value: Any, overlay: Overlay) -> Iterator[str]:
    if isinstance(value, Ref):
        yield value.text.partition(":")[0]
        return
    module = value.partition(":")[0] if isinstance(value, str) else getattr(value, "__module__", None)
    if isinstance(module, str) and _belongs(module, overlay):
        yield module


def _belongs(module: str, overlay: Overlay) -> bool:
    home = overlay.declared_in.partition(".")[0]
    if home != _OURS:
        return module == home or module.startswith(f"{home}.")
    if any(module == name or module.startswith(f"{name}.") for name in _NOT_FOLLOWED):
        return False
    return module.startswith(_FOLLOWED)


@functools.cache
def _uses(module: str) -> Uses | None:
    """Return what a module does; None if there is no such module, or no source of it."""
    source = LOADABLE.module(module)
    if source is None:
        return None
    return calls.uses(source.text, f"{module}.__init__" if source.package == module else module)
