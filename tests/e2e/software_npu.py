"""How a command is run with a software NPU. Nothing else of the tests knows it."""

from __future__ import annotations

import importlib.util
import sys

import pytest


def with_an_npu(*arguments: str, devices: int = 1) -> list[str]:
    """Return the command that runs Python with `arguments` where torch_npu has devices; skip where none can be had."""
    if importlib.util.find_spec("softnpu") is None or importlib.util.find_spec("torch_npu") is None:
        pytest.skip("there is no software NPU in this environment")
    return ["env", f"SOFTNPU_DEVICES={devices}", sys.executable, "-m", "softnpu", sys.executable, *arguments]
