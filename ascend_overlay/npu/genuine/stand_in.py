"""Libraries that stand in for CANN's, so that torch_npu can be imported on a machine without CANN.

torch_npu needs some 80 C functions of CANN to be imported. The stand-ins define each as one that returns an error; they
are loaded before torch_npu, with their symbols visible to it. Nothing is installed.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ascend_overlay.availability import AUTOLOAD
from ascend_overlay.errors import ConfigError

LIBRARIES_VARIABLE = "CANN_STAND_IN"
"""Names the folder of the stand-ins to `import_torch_npu`; not set where CANN is."""
FOLDER_VARIABLE = "TORCH_NPU_WHEEL"
"""Names the folder to import torch_npu from."""

TOOLS = ("gcc", "readelf")

_LIBRARIES = ("hccl", "ascendcl", "acl_op_compiler", "ge_runner", "graph", "acl_tdt_channel")
_NEEDY = ("lib/libtorch_npu.so", "lib/libtensorpipe.so", "lib/libnpu_profiler.so", "_C.*.so")

# All others return an error code.
_DEFINITIONS = {
    "aclrtGetDeviceCount": "int aclrtGetDeviceCount(unsigned *count) { *count = 0; return 0; }",
    "aclGetRecentErrMsg": 'const char *aclGetRecentErrMsg(void) { return "there is no CANN here"; }',
    "aclrtGetSocName": "const char *aclrtGetSocName(void) { return 0; }",
}


def import_torch_npu() -> None:
    """Import torch_npu as the two variables say, in a process that has not imported torch yet."""
    os.environ[AUTOLOAD] = "0"
    if folder := os.environ.get(LIBRARIES_VARIABLE):
        for library in sorted(Path(folder).glob("*.so")):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, os.environ[FOLDER_VARIABLE])
    importlib.import_module("torch_npu")


def obstacle() -> str | None:
    """Return why nothing can be built here, as a sentence; None where it can."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return (
                f"torch_npu needs CANN, and what stands in for CANN cannot be built: {tool} is not installed. "
                f"Install gcc and binutils."
            )
    return None


def build(folder: Path, libraries: Path) -> int:
    """Build the libraries that the torch_npu in `folder` needs; return how many functions they define.

    Args:
        folder: holds the package torch_npu.
        libraries: the folder to build in; made here.

    Raises:
        ConfigError: a tool is missing, or fails.
    """
    if reason := obstacle():
        raise ConfigError(reason)
    missing = missing_functions(folder)
    libraries.mkdir()
    source = libraries / "stand_in.c"
    source.write_text("".join(_DEFINITIONS.get(name, f"int {name}(void) {{ return 1; }}") + "\n" for name in missing))
    empty = libraries / "empty.c"
    empty.touch()
    for library in _LIBRARIES:
        name = f"lib{library}.so"
        target = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", str(libraries / name)]
        _output("gcc", *target, str(source if library == "ascendcl" else empty))
    return len(missing)


def missing_functions(folder: Path) -> list[str]:
    """Return the C functions that the torch_npu in `folder` must find and that nothing here has: those of CANN.

    Raises:
        ConfigError: torch is not there, or readelf fails.
    """
    spec = importlib.machinery.PathFinder.find_spec("torch")
    if spec is None or spec.origin is None:
        raise ConfigError("torch_npu cannot be imported without torch, which is not installed.")
    package = folder / "torch_npu"
    needy = [path for pattern in _NEEDY for path in package.glob(pattern)]
    bundled = [*(Path(spec.origin).parent / "lib").glob("*.so*"), *folder.glob("torch_npu.libs/*")]
    symbols = {path: _symbols(path) for path in (*needy, *bundled)}
    provided = {name for _, defined in symbols.values() for name in defined}
    needed = {name for path in needy for name in symbols[path][0]}
    process = ctypes.CDLL(None)
    return sorted(name for name in needed - provided if not hasattr(process, name))


def _symbols(library: Path) -> tuple[set[str], set[str]]:
    """Return what a shared library needs, versioned names of the system aside, and what it provides."""
    needed, provided = set(), set()
    for line in _output("readelf", "-W", "--dyn-syms", str(library)).splitlines():
        parts = line.split()
        if len(parts) < 8 or not parts[0].rstrip(":").isdigit():
            continue
        if parts[6] != "UND":
            provided.add(parts[7].partition("@")[0])
        elif parts[4] == "GLOBAL" and "@" not in parts[7]:
            needed.add(parts[7])
    return needed, provided


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(
            f"what stands in for CANN cannot be built: {' '.join(command)} ended with status {done.returncode}: "
            f"{done.stderr.strip()[-300:]}"
        )
    return done.stdout
