"""Devices of the software NPU, their memory, streams, events and generators, and what is refused."""

from __future__ import annotations

import pytest
from software_kit import cases_of

CASES = "inside_devices.py"
OPTIONS = {"options": ("--npu-devices", "2", "--npu-memory", "64MiB")}


@pytest.mark.parametrize("name", cases_of(CASES))
def test_devices(results: dict[str, str | None], name: str) -> None:
    assert results[name] is None
