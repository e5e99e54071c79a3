"""The native parts, built by the local compiler on first use: the runtime in place of CANN's libraries, the kernels."""

from __future__ import annotations

import hashlib
import importlib.machinery
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay import versions
from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.genuine import source, stand_in
from ascend_overlay.npu.genuine.source import TorchNpu
from ascend_overlay.npu.software import cache

_NATIVE = Path(__file__).parent / "native"
_RUNTIME_SOURCES = ("*.c", "runtime.h", "waits.h")
_KERNELS_SOURCES = ("*.cpp", "*.h")
_RUNTIME = "software_npu"
TOOLS = {"g++": "g++", "gcc": "gcc", "readelf": "binutils"}
"""What builds the native parts, and the packages that bring it."""

_NAMES_OF_CANN = ("ascendcl", "hccl", "acl_op_compiler", "ge_runner", "graph", "acl_tdt_channel", "opapi")
SANITIZE = "ASCEND_OVERLAY_NPU_SANITIZE"
"""The variable by which the native parts are built for GCC's address sanitizer, whose library must be preloaded."""

_PATIENCE = 1200
"""Seconds for one run of the compiler."""


@dataclass(frozen=True)
class Built:
    """Where the native parts are.

    Attributes:
        libraries: the folder of libraries with CANN's names, and of the runtime, which all of them need.
        kernels: the library with the kernels.
    """

    libraries: Path
    kernels: Path

    @property
    def runtime(self) -> Path:
        """The library that everything is in."""
        return self.libraries / f"lib{_RUNTIME}.so"


def built() -> Built:
    """Return the native parts for the torch and torch_npu of this environment; build them where that is not done yet.

    Raises:
        ConfigError: torch_npu is missing or does not fit torch, or there is no compiler, or it fails.
    """
    genuine = _genuine()
    libraries = cache.home() / f"runtime-{_key(genuine, _RUNTIME_SOURCES)}"
    kernels = cache.home() / f"kernels-{_key(genuine, _KERNELS_SOURCES)}"
    if not (libraries.is_dir() and kernels.is_dir()):
        _see_tools()
        print(
            f"ascend-overlay: building the software NPU for torch_npu {genuine.version}, once; it takes about a "
            f"minute.",
            file=sys.stderr,
            flush=True,
        )
    cache.made(libraries, lambda folder: _build_runtime(folder, genuine))
    cache.made(kernels, lambda folder: _build_kernels(folder, genuine, libraries))
    return Built(libraries, kernels / "kernels.so")


def obstacle() -> str | None:
    """Return why there can be no software NPU in this environment, as a sentence; None where there can."""
    try:
        _genuine()
        _see_tools()
    except ConfigError as error:
        return str(error)
    return None


def _genuine() -> TorchNpu:
    torch = versions.installed("torch")
    if torch is None:
        raise ConfigError("the software NPU needs torch, which is not installed here.")
    found = source.find()
    if found is None:
        series = ".".join(torch.split(".")[:2])
        raise ConfigError(
            f"the software NPU runs the genuine torch_npu, which is not installed in {sys.prefix}. Install the one of "
            f"torch {torch}: pip install --no-deps 'torch_npu=={series}.*'."
        )
    if reason := found.misfit():
        raise ConfigError(
            f"there can be no software NPU here: {reason} Install a torch_npu and a torch of the same release."
        )
    return found


def _see_tools() -> None:
    for tool, whose in TOOLS.items():
        if shutil.which(tool) is None:
            raise ConfigError(
                f"the software NPU is built on first use, and {tool} is not there to do it. Install {whose} (on "
                f"Debian and Ubuntu: apt install g++), and run the command again."
            )


def _key(genuine: TorchNpu, sources: Sequence[str]) -> str:
    """Return a name that is another one for other sources, another torch or another torch_npu."""
    content = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for pattern in sources for path in _NATIVE.glob(pattern)):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    torch = versions.installed("torch")
    content.update(f"{torch} {genuine.version} {genuine.package} {_torch_folder()} {_sanitizer()}".encode())
    return f"{torch}-{genuine.version}-{content.hexdigest()[:16]}"


def _sanitizer() -> list[str]:
    asked = os.environ.get(SANITIZE, "")
    if not asked:
        return []
    if asked != "address":
        raise ConfigError(f"{SANITIZE} is {asked!r}; it takes 'address'.")
    return ["-fsanitize=address", "-fno-omit-frame-pointer", "-g"]


def _torch_folder() -> Path:
    # Without importing torch, which is what this may be called by.
    spec = importlib.machinery.PathFinder.find_spec("torch")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _build_runtime(folder: Path, genuine: TorchNpu) -> None:
    """Build one library with all that is there, and empty ones of CANN's names that need it: so there is one state."""
    flags = ["-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-Wl,-rpath,$ORIGIN"]
    refusals = folder / "refusals.c"
    refusals.write_text(_refusals(genuine))
    runtime = folder / f"lib{_RUNTIME}.so"
    sources = [*sorted(_NATIVE.glob("*.c")), refusals]
    _compile("gcc", [*flags, f"-Wl,-soname,{runtime.name}", "-o", runtime, *sources, "-pthread"])
    empty = folder / "empty.c"
    empty.touch()
    for name in _NAMES_OF_CANN:
        library = folder / f"lib{name}.so"
        needs = ["-Wl,--no-as-needed", f"-L{folder}", f"-l{_RUNTIME}"]
        _compile("gcc", [*flags, f"-Wl,-soname,{library.name}", "-o", library, empty, *needs])


def _refusals(genuine: TorchNpu) -> str:
    """Return a definition of each function that torch_npu must find and the runtime does not have: it fails by name."""
    written = " ".join(path.read_text() for path in _NATIVE.glob("*.c"))
    lines = ["int software_npu_refuse(const char *function);"]
    for name in stand_in.missing_functions(genuine.folder):
        if f" {name}(" not in written and f"*{name}(" not in written and f"({name})" not in written:
            lines.append(f'int {name}(void) {{ return software_npu_refuse("{name}"); }}')
    return "\n".join([*lines, ""])


def _build_kernels(folder: Path, genuine: TorchNpu, runtime: Path) -> None:
    torch, package = _torch_folder(), genuine.package
    include = [torch / "include", torch / "include" / "torch" / "csrc" / "api" / "include", package / "include"]
    include.append(package / "include" / "third_party" / "acl" / "inc")
    libraries = {torch / "lib": ("c10", "torch", "torch_cpu"), package / "lib": ("torch_npu",), runtime: (_RUNTIME,)}
    arguments: list[str | Path] = ["-std=c++20", "-O1", "-fPIC", "-shared", "-w"]
    arguments += [f"-I{path}" for path in include]
    arguments += ["-o", folder / "kernels.so", _NATIVE / "module.cpp"]
    for path, names in libraries.items():
        arguments += [f"-L{path}", *(f"-l{name}" for name in names)]
    # What torch_npu needs of CANN it finds when it is loaded.
    _compile("g++", [*arguments, "-Wl,--unresolved-symbols=ignore-in-shared-libs"])


def _compile(compiler: str, arguments: Sequence[str | Path]) -> None:
    command = [compiler, *_sanitizer(), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE, env=os.environ | {"LC_ALL": "C"}
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{compiler} has not built the software NPU in {_PATIENCE} s; try again.") from error
    if done.returncode:
        raise ConfigError(
            f"the software NPU cannot be built: {' '.join(command[:1])} ended with status {done.returncode}:\n"
            f"{_first_errors(done.stderr)}"
        )


def _first_errors(output: str) -> str:
    lines = [line for line in output.splitlines() if "error" in line.lower()] or output.splitlines()
    return "\n".join(lines[:5])
