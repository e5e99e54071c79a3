"""vLLM is imported once for all in-process tests of this folder, before any overlay is enabled."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("shape_kit")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

from shape_kit import one_rank  # noqa: E402


@pytest.fixture(scope="session")
def vllm_loaded() -> None:
    """Have vLLM loaded as far as a program that makes an LLM has it."""
    pytest.importorskip("vllm")
    from vllm import LLM  # noqa: F401


@pytest.fixture(scope="session")
def groups(vllm_loaded: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have vLLM's process groups of one rank."""
    with one_rank(tmp_path_factory.mktemp("groups")):
        yield
