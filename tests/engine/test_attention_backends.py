"""The kind attention backend, with vLLM's own registry."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConflictError, TargetError

pytestmark = pytest.mark.vllm

OURS = "vllm.v1.attention.backend:AttentionBackend"
"""The base of all will do: vLLM imports it where it is chosen."""


@pytest.fixture
def registry() -> Any:
    return pytest.importorskip("vllm.v1.attention.backends.registry")


def test_a_new_name_is_a_member_like_any_other_and_goes_with_the_overlay(offer: Any, registry: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.attention_backend("MINE", OURS)
    offer(overlay)
    names = registry.AttentionBackendEnum
    before = list(names)
    for _ in range(2):
        ascend_overlay.enable()
        member = names["MINE"]
        assert member is names.MINE
        assert [*before, member] == list(names)
        assert member.get_class().__name__ == "AttentionBackend"
        # The configuration goes to other processes by pickle.
        assert pickle.loads(pickle.dumps(member)) is member
        assert ascend_overlay.ledger().entries[0].detail == f"served by {OURS}"
        ascend_overlay.disable()
        assert list(names) == before
        assert not hasattr(names, "MINE")
        assert member.value not in [found.value for found in names]
        with pytest.raises(ValueError, match="Unknown attention backend: 'MINE'"):
            names["MINE"]


def test_a_name_that_vllm_has_is_overridden(offer: Any, registry: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.attention_backend("CPU_ATTN", OURS)
    overlay.attention_backend("CUSTOM", OURS)
    offer(overlay)
    names = registry.AttentionBackendEnum
    own = names.CPU_ATTN.get_path()
    ascend_overlay.enable()
    assert names.CPU_ATTN.get_path() == names.CUSTOM.get_path() == OURS.replace(":", ".")
    ascend_overlay.disable()
    assert names.CPU_ATTN.get_path() == own
    assert not names.CUSTOM.is_overridden()


def test_two_overlays_for_one_name_are_a_conflict(offer: Any, registry: Any) -> None:
    for name in ("one", "two"):
        overlay = Overlay(name, reason="a test")
        overlay.attention_backend("MINE", OURS)
        offer(overlay)
    with pytest.raises(ConflictError, match="attention backend MINE"):
        ascend_overlay.enable()
    assert "MINE" not in registry.AttentionBackendEnum.__members__


def test_a_module_that_does_not_exist_is_an_error(offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.attention_backend("MINE", "ascend_overlay.no_such_module:Backend")
    offer(overlay)
    with pytest.raises(TargetError, match=r"attention backend MINE: .*no_such_module"):
        ascend_overlay.enable()
