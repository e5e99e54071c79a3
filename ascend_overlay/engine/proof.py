"""What a process has, as it is shown to the one that started it; and what it lacks of what that one has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ascend_overlay import process, versions
from ascend_overlay import settings as settings_module
from ascend_overlay.engine.plan import Unit
from ascend_overlay.errors import some_of
from ascend_overlay.ledgers import Entry

_ASKED = ("PYTHONPATH", "VLLM_PLUGINS", "TORCH_DEVICE_BACKEND_AUTOLOAD", "ASCEND_OVERLAY", "ASCEND_OVERLAY_PLUGINS")
"""Variables that decide whether a process has overlays, and which."""
_OUT = ("failed", "reverted")
_COMPUTED = ("weight_nz", "fused_qkv", "fused_quant", "fused_experts")
"""Settings by which processes of one model would compute differently."""
VLLM = "vLLM"


def shown(units: Iterable[Unit], past: Iterable[Entry]) -> dict[str, Any]:
    """Return what this process has, as plain data.

    Args:
        units: the overlays that are enabled.
        past: ledger entries of what is not.

    Returns:
        pid, host, role, vllm (its version), settings (those that decide what is computed), overlays (name -> whose it
        is), out (overlay or plugin -> why it is out) and off (by what all of them are; empty where they are not).
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
    settings = settings_module.current()
    found = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "role": process.role(),
        "vllm": versions.release("vllm") or "",
        "settings": {name: getattr(settings, name) for name in _COMPUTED},
    }
    is_off = not there and settings_module.declined()
    off = f"ASCEND_OVERLAY={os.environ[settings_module.PREFIX]} switches all off there" if is_off else ""
    return {**found, "overlays": there, "out": out, "off": off}


def surroundings() -> dict[str, str]:
    """Return where this process looks for overlays, by name."""
    return {"interpreter": sys.executable, **{name: os.environ[name] for name in _ASKED if name in os.environ}}


def lacking(owed: Mapping[str, Any], has: Mapping[str, Any]) -> dict[str, str]:
    """Return what a process lacks of what another shows: overlay, setting or vLLM -> a phrase that says how.

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
            why = has["out"].get(name) or has["out"].get(whose.partition(" ")[0]) or has.get("off")
            why = why or "no plugin contributes it there"
            found[name] = f"{of} ({why})"
        elif there[name] != whose:
            found[name] = f"{of} (there it is of {there[name] or 'no distribution'})"
    ours, theirs = owed.get("settings", {}), has.get("settings", {})
    for name, value in ours.items():
        if name in theirs and theirs[name] != value:
            found[name] = f"the setting {name}={value!r} (there it is {theirs[name]!r})"
    if "vllm" in owed and "vllm" in has and has["vllm"] != owed["vllm"]:
        found[VLLM] = f"vLLM {owed['vllm']} (there it is {has['vllm'] or 'of no version'})"
    return found


def sentence(
    owed: Mapping[str, Any], has: Mapping[str, Any], around: Mapping[str, str], lacks: Mapping[str, str]
) -> str:
    """Return the sentence of an error on what a process lacks; `around`: its surroundings."""
    return (
        f"the {has['role']} process {has['pid']} lacks what the process which started it, {owed['role']} "
        f"{owed['pid']}, has: {_told(has, lacks)} It has {_where(around)}. Give it the interpreter and the variables "
        f"of that process, or leave these overlays out there: {settings_module.advice('exclude', 'NAME')}."
    )


def of_peers(
    has: Mapping[str, Any], around: Mapping[str, str], lacks: Mapping[str, str], *, whose: str, here: str
) -> str:
    """Return the sentence of an error on what `whose` process lacks of `here`, this process, which did not start it."""
    process = f", {has['role']} {has['pid']} of {has.get('host', 'another machine')}," if "pid" in has else ""
    where = f" It has {_where(around)}." if around else ""
    return (
        f"{whose}{process} lacks what {here}, this process, has: {_told(has, lacks)}{where} Start it with the same "
        f"overlays, plugins and settings, in an environment like this one; or leave them out here: "
        f"{settings_module.advice('exclude', 'NAME')}."
    )


def _told(has: Mapping[str, Any], lacks: Mapping[str, str]) -> str:
    none = " It has no overlay at all." if has["overlays"] is None else ""
    return f"{some_of([*lacks.values()], '; ', limit=20)}.{none}"


def _where(around: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text!r}" for name, text in around.items())


def _why_out(unit: Unit) -> str | None:
    """Return why an overlay is out in this process although it would be in another of the same environment, or None."""
    if any(item.entry.state not in ("skipped", *_OUT) for item in unit.items):
        return None
    for item in unit.items:
        # What a process plays, what a plugin vetoes in it and what conditions say may differ between two of them.
        if item.entry.state in _OUT or item.entry.cause == "release":
            return item.entry.reason
    return None
