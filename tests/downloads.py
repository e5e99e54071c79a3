"""What the tests download: the genuine torch_npu, and vLLM's own tests."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skip the test; under tox, which downloads everything else as well, it fails: nothing there is left out unseen."""
    if "TOX_ENV_NAME" in os.environ:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
