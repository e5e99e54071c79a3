"""Who makes a registration: read from the call stack."""

from __future__ import annotations

import functools
import os
import sys
from importlib import metadata

from ascend_overlay import api

_PASSED_THROUGH = ("wrapt", "ascend_overlay", "vllm.model_executor.models.registry", "functools", "importlib")


def registrant(architecture: str) -> str:
    """Return who registers `architecture` right now: an overlay, or a module with its distribution."""
    frame = sys._getframe(1)
    through_overlay = False
    while frame.f_back is not None:
        frame = frame.f_back
        module = str(frame.f_globals.get("__name__", "?"))
        through_overlay = through_overlay or module == "ascend_overlay.patches.registries"
        if not _is_below(module, _PASSED_THROUGH):
            break
    return (_overlay_of(architecture) if through_overlay else None) or _described(module, frame.f_code.co_filename)


def _overlay_of(architecture: str) -> str | None:
    for entry in api.entries_of(architecture):
        if entry.kind == "model" and entry.state in ("pending", "applied"):
            version = f"{entry.distribution} {entry.version}".strip() or f"plugin {entry.plugin}"
            return f"the overlay {entry.overlay} ({version})"
    return None


def _described(module: str, file: str) -> str:
    if module in ("__main__", "__mp_main__"):
        return f"the program ({os.path.basename(file)})"
    if _is_below(module, ("vllm",)):
        return f"vLLM ({module})"
    distribution = _distribution(module.partition(".")[0])
    return f"{module} ({distribution})" if distribution else module


@functools.cache
def _distribution(package: str) -> str:
    # The entry points of vLLM's plugins come first: looking through all installed files takes much longer.
    for entry_point in metadata.entry_points(group="vllm.general_plugins"):
        if entry_point.dist is not None and entry_point.module.partition(".")[0] == package:
            return f"{entry_point.dist.name} {entry_point.dist.version}"
    for name in metadata.packages_distributions().get(package, ()):
        return f"{name} {metadata.version(name)}"
    return ""


def _is_below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
