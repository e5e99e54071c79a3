"""vLLM's cache of inspected model classes. The torch.compile cache is in tests/e2e/test_compile.py."""

from __future__ import annotations

import pytest

import ascend_overlay

pytestmark = pytest.mark.vllm


def _file_of_opt() -> str:
    from vllm import ModelRegistry

    return str(ModelRegistry.models["OPTForCausalLM"]._get_cache_filename())


def test_what_was_inspected_is_kept_by_what_is_patched() -> None:
    stock = _file_of_opt()
    with ascend_overlay.enabled(only=["caches"]):
        alone = _file_of_opt()
        assert _file_of_opt() == alone, "the same patches, the same file"
        with ascend_overlay.enabled(only=["caches", "activation"]):
            assert _file_of_opt() not in (stock, alone)
        assert _file_of_opt() == alone
    assert alone != stock
    assert _file_of_opt() == stock
