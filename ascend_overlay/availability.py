"""Whether torch_npu and CANN are there; found out without importing torch, which may be what fails."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ascend_overlay import versions

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_LIBRARY = "libascendcl.so"
_TOOLKITS = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")


def torch_npu_installed() -> bool:
    """Tell whether torch_npu can be found."""
    if "torch_npu" in sys.modules:
        # None in its place keeps it from being imported.
        return sys.modules["torch_npu"] is not None
    return importlib.util.find_spec("torch_npu") is not None


def cann_found() -> bool:
    """Tell whether CANN's runtime library, libascendcl, is where the loader would find it."""
    if any((folder / _LIBRARY).exists() for folder in _folders()):
        return True
    # Preloaded, as a test does it that stands in for CANN.
    try:
        ctypes.CDLL(_LIBRARY, mode=getattr(os, "RTLD_NOLOAD", 0) | os.RTLD_LAZY)
    except OSError:
        return ctypes.util.find_library("ascendcl") is not None
    return True


def diagnosis() -> str | None:
    """Return why torch, and with it vLLM, cannot be imported, with the way out; None where it can.

    torch_npu registers itself as a backend that ``import torch`` loads, so on a machine without CANN its mere presence
    makes that import fail.
    """
    if "torch" in sys.modules or os.environ.get(AUTOLOAD) == "0" or not torch_npu_installed() or cann_found():
        return None
    version = versions.distribution_version("torch_npu")
    named = f"torch_npu {version}" if version else "torch_npu"
    return (
        f"{named} is installed, but CANN is not found ({_LIBRARY} is neither in LD_LIBRARY_PATH nor below "
        f"{' or '.join(_TOOLKITS)}). PyTorch loads torch_npu when it is imported, so `import torch` fails here. On a "
        f"machine with an NPU, source CANN's set_env.sh first; on one without, start with `ascend-overlay run --npu "
        f"software COMMAND`, or uninstall torch_npu, and the reference kernels take the place of the NPU's. Or set "
        f"{AUTOLOAD}=0, which is enough for torch, but not for vLLM: transformers imports torch_npu where it finds it."
    )


def _folders() -> Iterator[Path]:
    for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if part:
            yield Path(part)
    for name in _TOOLKITS:
        if home := os.environ.get(name):
            yield from (Path(home) / "lib64", Path(home) / "runtime" / "lib64", Path(home) / "lib")
