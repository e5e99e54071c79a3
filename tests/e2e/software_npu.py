"""How a command is run with a software NPU. Nothing else of the end-to-end tests knows it."""

from __future__ import annotations

import os
import shutil
import sys

from downloads import unavailable

from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.genuine import source
from ascend_overlay.npu.schemas import HOME as RELEASE
from ascend_overlay.npu.software import build


def with_an_npu(*arguments: str, devices: int = 1, asked: str = "") -> tuple[list[str], dict[str, str]]:
    """Return the command that runs Python with `arguments` where torch_npu has devices, and variables that it needs.

    Nobody asks for overlays, or for none, unless `asked` does, the value of ASCEND_OVERLAY. torch_npu is fetched where
    it is not installed; see `downloads` where that or a compiler cannot be had.
    """
    try:
        found = source.find() or source.find(RELEASE)
    except ConfigError as error:
        unavailable(str(error))
    assert found is not None
    for tool in build.TOOLS:
        if shutil.which(tool) is None:
            unavailable(f"{tool} is not there to build the software NPU.")
    options = ["--no-overlays", "--npu", "software", "--npu-devices", str(devices)]
    overlays = [f"ASCEND_OVERLAY={asked}"] if asked else ["-u", "ASCEND_OVERLAY"]
    python = ["env", *overlays, sys.executable, *arguments]
    command = [sys.executable, "-m", "ascend_overlay", "run", *options, *python]
    return command, {"PYTHONPATH": os.fspath(found.folder)}
