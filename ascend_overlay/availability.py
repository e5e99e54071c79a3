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


def diagnosis(*, of_vllm: bool = True) -> str | None:
    """Return why torch, or vLLM, cannot be imported, with the way out; None where it can.

    torch_npu registers itself as a backend that ``import torch`` loads, so on a machine without CANN its mere presence
    makes that import fail. Where that is switched off, transformers still imports it, and with it vLLM.

    Args:
        of_vllm: vLLM is going to be imported, rather than torch alone.
    """
    if not torch_npu_installed() or "torch_npu" in sys.modules or cann_found():
        return None
    off = os.environ.get(AUTOLOAD) == "0"
    if (off and not of_vllm) or (not off and "torch" in sys.modules):
        return None
    version = versions.distribution_version("torch_npu")
    named = f"torch_npu {version}" if version else "torch_npu"
    what = (
        f"{AUTOLOAD}=0 keeps PyTorch from loading torch_npu, but transformers, which vLLM imports, loads it all the "
        f"same, so vLLM cannot be imported here."
        if off
        else "PyTorch loads torch_npu when it is imported, so `import torch` fails here."
    )
    more = (
        ""
        if off
        else f" Or set {AUTOLOAD}=0, which is enough for torch, but not for vLLM: transformers imports torch_npu where "
        f"it finds it."
    )
    return (
        f"{named} is installed, but CANN is not found ({_LIBRARY} is neither in LD_LIBRARY_PATH nor below "
        f"{' or '.join(_TOOLKITS)}{_where()}). {what} On a machine with an NPU, source CANN's set_env.sh first; "
        f"on one without, start with `ascend-overlay run --npu software COMMAND`, or uninstall torch_npu, and the "
        f"reference kernels take the place of the NPU's.{more}"
    )


def _where() -> str:
    spec = importlib.util.find_spec("torch_npu")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return f"; torch_npu is in {folders[0]}" if folders else ""


def _folders() -> Iterator[Path]:
    for part in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if part:
            yield Path(part)
    for name in _TOOLKITS:
        if home := os.environ.get(name):
            yield from (Path(home) / "lib64", Path(home) / "runtime" / "lib64", Path(home) / "lib")
