"""The reference kernels are registered once for all tests of this folder."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("npu_kit")
