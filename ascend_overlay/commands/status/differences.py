"""Where the processes of a run differ: in versions, settings, overlays; those of one role, in their patches, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ascend_overlay.errors import some_of
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.ledgers.demands import named
from ascend_overlay.ledgers.entries import ASKING

_OF_A_PROCESS = ("ASCEND_OVERLAY_RUN",)
_NOTHING = "(none)"


def differences(ledgers: Sequence[Ledger]) -> list[str]:
    """Return what is not alike in all processes, a sentence each, and what asks for attention, first."""
    return [*_asking(ledgers), *_versions(ledgers), *_settings(ledgers), *_overlays(ledgers), *_patches(ledgers)]


def _asking(ledgers: Sequence[Ledger]) -> Iterator[str]:
    for state in ASKING:
        said: dict[str, list[Ledger]] = {}
        for ledger in ledgers:
            for entry in ledger:
                if entry.state == state:
                    what = f"{entry.overlay or entry.plugin}: {entry.target}: {entry.why() or 'nobody says why'}"
                    said.setdefault(what, []).append(ledger)
        for what, there in said.items():
            yield f"{state}: {what} [{_who(there, ledgers)}]"


def _versions(ledgers: Sequence[Ledger]) -> Iterator[str]:
    yield from _unlike(ledgers, "versions", "has version")


def _settings(ledgers: Sequence[Ledger]) -> Iterator[str]:
    yield from _unlike(ledgers, "settings", "is")


def _unlike(ledgers: Sequence[Ledger], table: str, verb: str) -> Iterator[str]:
    tables = [found if isinstance(found := ledger.process.get(table), dict) else {} for ledger in ledgers]
    for key in sorted({str(key) for found in tables for key in found}):
        if key in _OF_A_PROCESS:
            continue
        values: dict[str, list[Ledger]] = {}
        for ledger, found in zip(ledgers, tables, strict=True):
            values.setdefault(str(found.get(key, _NOTHING)), []).append(ledger)
        if len(values) > 1:
            parts = [f"{value} in {_who(there, ledgers)}" for value, there in values.items()]
            yield f"{key} {verb} {', '.join(parts)}"


def _overlays(ledgers: Sequence[Ledger]) -> Iterator[str]:
    """Yield which overlays are known to some processes only, or come from different distributions."""
    origins: dict[str, dict[str, list[Ledger]]] = {}
    for ledger in ledgers:
        for overlay, origin in {entry.overlay: _origin(entry) for entry in ledger if entry.overlay}.items():
            origins.setdefault(overlay, {}).setdefault(origin, []).append(ledger)
    for overlay, by_origin in origins.items():
        there = [ledger for found in by_origin.values() for ledger in found]
        out = [ledger for ledger in ledgers if not any(ledger is other for other in there)]
        if out:
            yield f"the overlay {overlay} is not known in {_who(out, ledgers)}"
        if len(by_origin) > 1:
            parts = [f"{origin} in {_who(found, ledgers)}" for origin, found in by_origin.items()]
            yield f"the overlay {overlay} comes from {', '.join(parts)}"


def _patches(ledgers: Sequence[Ledger]) -> Iterator[str]:
    """Yield the patches whose state is another in processes of one role: another role imports other modules."""
    for role in dict.fromkeys(str(ledger.process["role"]) for ledger in ledgers):
        alike = [ledger for ledger in ledgers if ledger.process["role"] == role]
        states: dict[tuple[str, str, str, str], dict[str, list[Ledger]]] = {}
        for ledger in alike:
            for entry in ledger:
                key = entry.overlay, entry.kind, entry.target, entry.detail
                states.setdefault(key, {}).setdefault(entry.state, []).append(ledger)
        alike_in: dict[tuple[str, str], list[str]] = {}
        for (overlay, kind, target, _), found in states.items():
            if len(found) > 1:
                parts = ", ".join(f"{state} in {_who(there, ledgers)}" for state, there in found.items())
                alike_in.setdefault((overlay, parts), []).append(f"{kind} of {target}")
        for (overlay, parts), patches in alike_in.items():
            number = "1 patch is" if len(patches) == 1 else f"{len(patches)} patches are"
            yield f"{overlay}: {number} {parts}: {some_of(patches, limit=2)}"


def _origin(entry: Entry) -> str:
    return f"{entry.distribution or f'plugin {entry.plugin}'} {entry.version}".strip()


def _who(there: Iterable[Ledger], everybody: Sequence[Ledger]) -> str:
    found = list(there)
    if len(found) == len(everybody):
        return "every process" if len(found) > 1 else named(found[0])
    return some_of([named(ledger) for ledger in found], limit=8)
