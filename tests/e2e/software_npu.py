"""How a command is run with a software NPU. Nothing else of the end-to-end tests knows it."""

from __future__ import annotations

import os
import sys

from downloads import for_the_software_npu


def with_an_npu(*arguments: str, devices: int = 1, asked: str = "") -> tuple[list[str], dict[str, str]]:
    """Return the command that runs Python with `arguments` where torch_npu has devices, and variables that it needs.

    Nobody asks for overlays, or for none, unless `asked` does, the value of ASCEND_OVERLAY. torch_npu is fetched where
    it is not installed; see `downloads` where that or a compiler cannot be had.
    """
    found = for_the_software_npu()
    options = ["--no-overlays", "--npu", "software", "--npu-devices", str(devices)]
    overlays = [f"ASCEND_OVERLAY={asked}"] if asked else ["-u", "ASCEND_OVERLAY"]
    python = ["env", *overlays, sys.executable, *arguments]
    command = [sys.executable, "-m", "ascend_overlay", "run", *options, *python]
    return command, {"PYTHONPATH": os.fspath(found.folder)}
