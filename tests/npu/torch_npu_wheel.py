"""The genuine torch_npu on a machine without CANN: its wheel, unpacked, and libraries that stand in for CANN's.

torch_npu needs some 80 C functions of CANN to be imported. The stand-ins define each as one that returns an error; they
are loaded before torch_npu, with their symbols visible to it. Nothing is installed.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

VERSION = "2.13.0"
_LIBRARIES = ("hccl", "ascendcl", "acl_op_compiler", "ge_runner", "graph", "acl_tdt_channel")
_NEEDY = ("lib/libtorch_npu.so", "lib/libtensorpipe.so", "lib/libnpu_profiler.so", "_C.*.so")

# All others return an error code.
_DEFINITIONS = {
    "aclrtGetDeviceCount": "int aclrtGetDeviceCount(unsigned *count) { *count = 0; return 0; }",
    "aclGetRecentErrMsg": 'const char *aclGetRecentErrMsg(void) { return "there is no CANN here"; }',
    "aclrtGetSocName": "const char *aclrtGetSocName(void) { return 0; }",
}


def import_torch_npu() -> None:
    """Import torch_npu as `Wheel.environment` says, in a process that has not imported torch yet."""
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    for library in sorted(Path(os.environ["CANN_STAND_IN"]).glob("*.so")):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    sys.path.append(os.environ["TORCH_NPU_WHEEL"])
    importlib.import_module("torch_npu")


class Wheel:
    """torch_npu unpacked in `folder`, with its stand-ins for CANN."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unpacked = folder / "wheel"
        self.libraries = folder / "cann"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a process that calls `import_torch_npu`."""
        return {"CANN_STAND_IN": str(self.libraries), "TORCH_NPU_WHEEL": str(self.unpacked)}

    def fetch(self) -> None:
        """Download and unpack the wheel; skip the test where that is not possible."""
        for tool in ("gcc", "readelf"):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is needed to build what stands in for CANN, and is not installed")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run(
            [*command, "--dest", str(self.folder), f"torch_npu=={VERSION}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        wheels = list(self.folder.glob("torch_npu-*.whl"))
        if not wheels:
            reason = " ".join(done.stderr.split())[-300:]
            pytest.skip(f"torch_npu {VERSION} cannot be downloaded for this machine: {reason}")
        with zipfile.ZipFile(wheels[0]) as archive:
            archive.extractall(self.unpacked)

    def build_stand_ins(self) -> int:
        """Build the libraries; return how many functions they define."""
        torch = Path(str(importlib.util.find_spec("torch").origin)).parent  # type: ignore[union-attr]
        package = self.unpacked / "torch_npu"
        needy = [path for pattern in _NEEDY for path in package.glob(pattern)]
        bundled = [*(torch / "lib").glob("*.so*"), *self.unpacked.glob("torch_npu.libs/*")]
        provided = {name for path in [*needy, *bundled] for name in _symbols(path)[1]}
        needed = {name for path in needy for name in _symbols(path)[0]}
        process = ctypes.CDLL(None)
        missing = sorted(name for name in needed - provided if not hasattr(process, name))
        self.libraries.mkdir()
        source = self.libraries / "stand_in.c"
        source.write_text(
            "".join(_DEFINITIONS.get(name, f"int {name}(void) {{ return 1; }}") + "\n" for name in missing)
        )
        empty = self.libraries / "empty.c"
        empty.touch()
        for library in _LIBRARIES:
            name = f"lib{library}.so"
            target = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", str(self.libraries / name)]
            subprocess.run(["gcc", *target, str(source if library == "ascendcl" else empty)], check=True)
        return len(missing)


def _symbols(library: Path) -> tuple[set[str], set[str]]:
    """Return what a shared library needs, versioned names of the system aside, and what it provides."""
    table = subprocess.run(["readelf", "-W", "--dyn-syms", str(library)], capture_output=True, text=True, check=True)
    needed, provided = set(), set()
    for line in table.stdout.splitlines():
        parts = line.split()
        if len(parts) < 8 or not parts[0].rstrip(":").isdigit():
            continue
        if parts[6] != "UND":
            provided.add(parts[7].partition("@")[0])
        elif parts[4] == "GLOBAL" and "@" not in parts[7]:
            needed.add(parts[7])
    return needed, provided
