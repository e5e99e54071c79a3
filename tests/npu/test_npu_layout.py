"""npu_format_cast copies, and the setting weight_nz decides which weights go through it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import OPERATORS, assert_checked_by_torch, assert_compiles, tensor, torch

import ascend_overlay
from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.layout import cast_weight, wants_nz

NZ = 29


@given(
    shape=st.lists(st.integers(0, 5), min_size=2, max_size=4),
    dtype=st.sampled_from([torch.int8, torch.float16, torch.bfloat16, torch.float32]),
    layout=st.sampled_from([2, NZ]),
)
def test_the_values_stay_and_the_memory_is_new(shape: list[int], dtype: Any, layout: int) -> None:
    x = tensor(1, *shape, scale=20).to(dtype).transpose(0, 1)
    y = OPERATORS.npu_format_cast(x, layout)
    assert y.dtype == dtype
    assert y.is_contiguous()
    assert torch.equal(y, x)
    assert y.numel() == 0 or y.data_ptr() != x.data_ptr()


def test_torch_accepts_the_operator() -> None:
    x = tensor(1, 6, 4)
    for layout in (x, x.t(), x[:, ::2]):
        assert_checked_by_torch(OPERATORS.npu_format_cast, layout, NZ)
    assert_compiles(lambda x: OPERATORS.npu_format_cast(x, NZ), x.t())


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (torch.ones(2, 2), {"acl_format": 3}, "acl_format is 3"),
        (torch.ones(2), {"acl_format": NZ}, "at least 2"),
        (torch.ones(2, 2, dtype=torch.int64), {"acl_format": NZ}, "int64"),
        (torch.ones(2, 2), {"acl_format": NZ, "customize_dtype": 1}, "customize_dtype"),
    ],
)
def test_what_has_no_tiles_is_refused(x: Any, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_format_cast(x, **arguments)


@pytest.mark.parametrize(
    ("policy", "cast"),
    [("off", set()), ("quantized", {torch.int8}), ("all", {torch.int8, torch.float16, torch.bfloat16})],
)
def test_the_setting_says_which_weights_are_cast(engine: Any, offer: Any, policy: str, cast: set[Any]) -> None:
    with ascend_overlay.enabled(weight_nz=policy, propagate=False):
        for dtype in (torch.int8, torch.float16, torch.bfloat16, torch.float32):
            weight = torch.ones(4, 4).to(dtype)
            assert wants_nz(weight) == (dtype in cast)
            assert (cast_weight(weight) is not weight) == (dtype in cast)
        assert not wants_nz(torch.ones(4, 4, dtype=torch.int8, device="meta"))
        assert not wants_nz(torch.ones(4, dtype=torch.int8))


def test_another_word_is_refused(engine: Any) -> None:
    with pytest.raises(ConfigError, match=r"weight_nz is 'some'; it takes off, quantized, all\."):
        ascend_overlay.enable(weight_nz="some")


@pytest.mark.parametrize(
    ("there", "policy", "allowed"), [(True, "quantized", True), (True, "off", False), (False, "quantized", False)]
)
def test_an_npu_is_told_to_store_tiles_where_a_weight_is_cast(
    engine: Any, offer: Any, monkeypatch: pytest.MonkeyPatch, there: bool, policy: str, allowed: bool
) -> None:
    device = SimpleNamespace(is_available=lambda: there, config=SimpleNamespace())
    monkeypatch.setattr(torch, "npu", device, raising=False)
    with ascend_overlay.enabled(weight_nz=policy, propagate=False):
        cast_weight(torch.ones(4, 4, dtype=torch.int8))
    assert vars(device.config) == ({"allow_internal_format": True} if allowed else {})
