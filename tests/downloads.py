"""What the tests download: the genuine torch_npu, and vLLM's own tests."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.genuine import source
from ascend_overlay.npu.genuine.source import TorchNpu
from ascend_overlay.npu.schemas import HOME as RELEASE
from ascend_overlay.npu.software import build


def unavailable(reason: str) -> NoReturn:
    """Skip the test; under tox, which downloads everything else as well, it fails: nothing there is left out unseen."""
    if "TOX_ENV_NAME" in os.environ:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def for_the_software_npu() -> TorchNpu:
    """Return a torch_npu, fetched where it is not installed, on a machine that can build the software NPU for it."""
    try:
        found = source.find() or source.find(RELEASE)
    except ConfigError as error:
        unavailable(str(error))
    assert found is not None
    for tool in build.TOOLS:
        if shutil.which(tool) is None:
            unavailable(f"{tool} is not there to build the software NPU.")
    return found
