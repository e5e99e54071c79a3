"""Processes with the native parts built for GCC's address sanitizer, and what it reports of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_LEAKS = Path(__file__).with_name("leaks.txt")
_OURS = re.compile(r"npu/software/native/|\b(kernels|libsoftware_npu)\.so\b")
"""A frame of ours: by its source, or by its library where there is none."""
_THEIRS = re.compile(r"#1 .*(libtorch_npu\.so|native/memory\.c)")
"""The frame that asked for the memory: torch_npu itself, or the device's memory, which it asks for."""

BUILT = {"ASCEND_OVERLAY_NPU_SANITIZE": "address"}
"""Variables for what builds the native parts."""

APART = {"PYTORCH_NO_NPU_MEMORY_CACHING": "1"}
"""Variables that make each tensor a piece of memory of its own, so that the sanitizer knows its end."""


def variables(folder: Path) -> dict[str, str]:
    """Return variables for a Python process that is looked at, whose reports go to files in `folder`."""
    # PyTorch's libraries have no frame pointers; unwound by them, a leak in there would have no frame of ours.
    options = f"detect_leaks=1:log_path={folder / 'report'}:fast_unwind_on_malloc=0:malloc_context_size=24:exitcode=0"
    return {
        # Both come first: what throws must be there when the sanitizer starts.
        "LD_PRELOAD": f"{_library('libasan.so')} {_library('libstdc++.so.6')}",
        "ASAN_OPTIONS": options,
        "LSAN_OPTIONS": f"suppressions={_LEAKS}:max_leaks=0:print_suppressions=0",
    }


def _library(name: str) -> str:
    return subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def reported(folder: Path, *, pools: bool = False) -> list[str]:
    """Return what the reports in `folder` say of the native parts: each error, and each leak with a frame of ours.

    Args:
        folder: where they are.
        pools: leave out what torch_npu allocated when one of ours asked it for a tensor: it loses sight of the pool of
            each capture that is refused, with the device's memory in it. A tensor that is lost is seen elsewhere.

    Raises:
        AssertionError: a report is missing, or has not all leaks.
    """
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("report.*"))]
    # Python itself leaves so much that a process without a report was not looked at.
    assert texts, "the sanitizer has not reported; see that it is loaded"
    found = []
    for text in texts:
        assert "Too many leaks" not in text, "not all leaks are reported: give leaks.txt further names"
        leaks = [block for block in re.split(r"\n\s*\n", text) if "leak of" in block and _OURS.search(block)]
        found += [leak for leak in leaks if not (pools and _THEIRS.search(leak))]
        found += [text[at.start() : at.start() + 3000] for at in re.finditer("ERROR: AddressSanitizer", text)]
    return found
