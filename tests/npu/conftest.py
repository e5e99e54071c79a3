"""The reference kernels are registered once for all tests of this folder."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("npu_kit")


@pytest.fixture(scope="session", autouse=True)
def compiler_loaded() -> None:
    """Have torch.compile's own modules loaded: a test with an engine of its own drops what it imports."""
    torch = pytest.importorskip("torch")
    torch.compile(lambda x: x + 1, fullgraph=True, backend="aot_eager")(torch.ones(1))
