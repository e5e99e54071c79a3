"""Whether a torch_npu and a torch can share a process: read off versions and files, with nothing imported."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

from packaging.version import InvalidVersion, Version

_CLASHES = Version("2.13")
"""The first torch_npu that registers its options with PyTorch's own list, where those for CUDA are."""


def misfit(torch: str, torch_npu: str) -> str | None:
    """Return why they cannot be imported together, as a phrase with what to install; None where they can.

    Args:
        torch: the version of torch that is installed.
        torch_npu: the version of torch_npu.
    """
    try:
        ours, theirs = Version(torch), Version(torch_npu)
    except InvalidVersion:
        return None
    return _other_release(ours, theirs) or (_other_build(ours) if theirs >= _CLASHES else None)


def series(version: Version) -> str:
    """Return the first two numbers of a release, which torch and torch_npu have in common where they fit."""
    return ".".join(map(str, version.release[:2]))


def _other_release(torch: Version, torch_npu: Version) -> str | None:
    # It is compiled against one.
    if series(torch) == series(torch_npu):
        return None
    return (
        f"torch_npu {torch_npu} is for torch {series(torch_npu)}, and torch {torch} is installed: "
        f"pip install 'torch_npu=={series(torch)}.*'"
    )


def other_devices(torch: str) -> str | None:
    """Return which devices of others' the installed torch is built for, None where it is for CPUs.

    Args:
        torch: its version, whose label says it, if it has one.
    """
    label = torch.partition("+")[2]
    if label.startswith(("cu", "rocm", "xpu")):
        return label
    # Wheels for CUDA may be without a label.
    return "CUDA" if _has_cuda() else None


def _other_build(torch: Version) -> str | None:
    devices = other_devices(str(torch))
    if devices is None:
        return None
    return (
        f"torch {torch} is built for {devices}, and torch_npu needs torch for CPUs, since both register options of the "
        f"memory allocator under the same names: pip install torch=={torch.public} "
        f"--index-url https://download.pytorch.org/whl/cpu"
    )


def _has_cuda() -> bool:
    """Tell whether the installed torch has the library that registers the options of CUDA's allocator."""
    spec = importlib.machinery.PathFinder.find_spec("torch")
    folders = (spec and spec.submodule_search_locations) or ()
    return any((Path(folder) / "lib" / "libc10_cuda.so").exists() for folder in folders)
