"""What a process has, as it is shown to the one that started it; and what it lacks of what that one has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ascend_overlay import process, versions
from ascend_overlay.engine.plan import Unit
from ascend_overlay.errors import some_of
from ascend_overlay.ledgers import Entry

_ASKED = ("PYTHONPATH", "VLLM_PLUGINS", "TORCH_DEVICE_BACKEND_AUTOLOAD", "ASCEND_OVERLAY", "ASCEND_OVERLAY_PLUGINS")
"""Variables that decide whether a process has overlays, and which."""
_OUT = ("failed", "reverted")


def shown(units: Iterable[Unit], past: Iterable[Entry]) -> dict[str, Any]:
    """Return what this process has, as plain data.

    Args:
        units: the overlays that are enabled.
        past: ledger entries of what is not.

    Returns:
        pid, role, vllm (its version), overlays (name -> whose it is) and out (overlay or plugin -> why it is out).
    """
    there, out = {}, {}
    for unit in units:
        if (why := _why_out(unit)) is None:
            there[unit.name] = f"{unit.origin.distribution} {unit.origin.version}".strip()
        else:
            out[unit.name] = why
    for entry in past:
        if entry.overlay:
            out.setdefault(entry.overlay, entry.reason)
        elif entry.distribution:
            out.setdefault(entry.distribution, entry.reason)
    found = {"pid": os.getpid(), "role": process.role(), "vllm": versions.release("vllm") or ""}
    return {**found, "overlays": there, "out": out}


def surroundings() -> dict[str, str]:
    """Return where this process looks for overlays, by name."""
    return {"interpreter": sys.executable, **{name: os.environ[name] for name in _ASKED if name in os.environ}}


def lacking(owed: Mapping[str, Any], has: Mapping[str, Any]) -> dict[str, str]:
    """Return what a process lacks of what another shows: overlay -> a phrase that says how.

    Args:
        owed: what the process that started it shows.
        has: what it shows itself; "overlays" is None where it has no ascend_overlay in use.
    """
    there, found = has["overlays"], {}
    for name, whose in owed["overlays"].items():
        of = f"{name} of {whose}" if whose else name
        if there is None:
            found[name] = of
        elif name not in there:
            why = has["out"].get(name) or has["out"].get(whose.partition(" ")[0]) or "no plugin contributes it there"
            found[name] = f"{of} ({why})"
        elif there[name] != whose:
            found[name] = f"{of} (there it is of {there[name] or 'no distribution'})"
    return found


def sentence(
    owed: Mapping[str, Any], has: Mapping[str, Any], around: Mapping[str, str], lacks: Mapping[str, str]
) -> str:
    """Return the sentence of an error on what a process lacks; `around`: its surroundings."""
    where = ", ".join(f"{name} {text!r}" for name, text in around.items())
    none = " It has no overlay at all." if has["overlays"] is None else ""
    return (
        f"the {has['role']} process {has['pid']} lacks overlays that the process which started it, {owed['role']} "
        f"{owed['pid']}, has: {some_of([*lacks.values()], '; ', limit=20)}.{none} It has {where}. Give it the "
        f"interpreter and the variables of that process, or leave these overlays out there: exclude= or "
        f"ASCEND_OVERLAY=-NAME."
    )


def _why_out(unit: Unit) -> str | None:
    """Return why an overlay is out in this process although it would be in another of the same environment, or None."""
    if any(item.entry.state not in ("skipped", *_OUT) for item in unit.items):
        return None
    for item in unit.items:
        # What a process plays, what a plugin vetoes in it and what conditions say may differ between two of them.
        if item.entry.state in _OUT or item.entry.cause == "release":
            return item.entry.reason
    return None
