"""What must hold: the overlays in force show at every use, the others nowhere, and nobody's change is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .scenes import Probe

if TYPE_CHECKING:
    from .history import History, Sight

OUT = ("", "pending", "skipped", "failed", "reverted")
"""States in which a patch shows nowhere."""

Finding = tuple[str, str]


def compare(history: History, entries: Sequence[Any], now: Sight, stock: Sight) -> Iterator[Finding]:
    """Yield what is wrong in the middle of a history."""
    for probe in history.probes():
        expression = probe.held + probe.use
        if stock.kin[expression] == ["None"] or stock.outcomes[expression] == "absent":
            continue
        yield from _of_probe(history, probe, entries, now, stock)


def _of_probe(history: History, probe: Probe, entries: Sequence[Any], now: Sight, stock: Sight) -> Iterator[Finding]:
    scene, expression = history.scene, probe.held + probe.use
    outcome, usual = now.outcomes[expression], stock.outcomes[expression]
    shown, told = _parts(outcome), f"{expression} gives {outcome}, without overlays {usual}"
    ours = [part for part in shown if part in scene.overlays]
    if len(set(ours)) < len(ours):
        yield "twice in force", told
    for target in probe.targets:
        first = scene.primary(target)
        followed = stock.kin[first.held + first.use][0] in stock.kin[expression]
        for overlay in [name for name, targets in scene.overlays.items() if target in targets]:
            entry = _entry(entries, overlay, target)
            state = entry.state if entry else ""
            stale = entry is not None and any(word in text for word in probe.words for text in entry.stale)
            if state == "applied" and followed and not stale and overlay not in ours:
                what = "the target" if probe is first else "a copy"
                yield f"applied, not in force: {what}", f"{told}; the ledger says that {overlay} is applied to {target}"
            if state in OUT and overlay in ours and not stale:
                yield "in force, not applied", f"{told}; the ledger says of {overlay}: {state or 'nothing'}"
        yield from _order(history, ours, shown, target, told)
    yield from _others(history, probe, ours, shown, _parts(usual), told)


def _order(history: History, ours: list[str], shown: list[str], target: str, told: str) -> Iterator[Finding]:
    if any(part.startswith("foreign") for part in shown):
        return
    ranks = [history.scene.rank(name) for name in ours if history.scene.overlays[name].get(target) is False]
    if ranks != sorted(ranks, reverse=True):
        yield "order", told


def _others(
    history: History, probe: Probe, ours: list[str], shown: list[str], usual: list[str], told: str
) -> Iterator[Finding]:
    """See that what is not ours is what it is without us, down to where an overlay decides."""
    scene = history.scene
    rest = [part for part in shown if part not in ours]
    deciders = [name for name in ours if any(scene.overlays[name].get(target) for target in probe.targets)]
    if not deciders:
        if rest != usual:
            yield "not the same below the overlays", told
        return
    if rest != usual[: len(rest)]:
        yield "not the same around the overlays", told
    for part in usual[len(rest) :]:
        if (made := re.fullmatch(r"foreign(\d+)", part)) and int(made[1]) > history.since.get(deciders[0], 0):
            yield "a foreign change is lost", told


def _entry(entries: Sequence[Any], overlay: str, target: str) -> Any:
    """Return the ledger's entry on a patch; of several, the one that claims most."""
    place, _, key = target.partition("[")
    found = [
        entry
        for entry in entries
        if entry.overlay == overlay and entry.target == place and (not key or f"[{key[:-1]!r}]" in entry.detail)
    ]
    return next((entry for entry in found if entry.state not in OUT), found[-1] if found else None)


def _parts(outcome: str) -> list[str]:
    """Return "a(b(c))" as its parts, the outermost first."""
    return outcome.rstrip(")").split("(") if re.fullmatch(r"[\w. -]+(\([\w. -]+)*\)*", outcome) else [outcome]


def same_world(history: History, entries: Sequence[Any], now: Sight, stock: Sight) -> Iterator[Finding]:
    """Yield what is not, after everything was disabled, what it is without overlays."""
    stale = [text for entry in entries for text in entry.stale]
    for probe in history.probes():
        expression = probe.held + probe.use
        usual, outcome = stock.outcomes[expression], now.outcomes[expression]
        if outcome == usual or stock.kin[expression] == ["None"] or outcome in history.program.constants:
            continue
        # A class that was given away cannot step aside.
        if not any(word in text for word in probe.words for text in stale):
            yield "other behaviour at the end", f"{expression} gives {outcome}, not {usual}"
    copies, spared = history.out_of_reach() if history.since else (), history.labels.given
    for path in dict.fromkeys([*stock.world, *now.world]):
        before, after = stock.world.get(path, "nothing"), now.world.get(path, "nothing")
        if before in (after, f"{after}, the same") or path in spared or any(name in path for name in copies):
            continue
        yield "not put back", f"{path} is {after}, not {before}"
    for name in dict.fromkeys([*stock.environment, *now.environment]):
        before, after = stock.environment.get(name, "unset"), now.environment.get(name, "unset")
        if before != after:
            yield "os.environ", f"{name} is {after!r}, not {before!r}"
