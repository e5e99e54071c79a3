"""The built-in cases of layers: what must be among them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from ascend_overlay.commands.verify import gather
from ascend_overlay.quantization import ExpertsScheme, schemes
from ascend_overlay.settings import Settings


def _quantized() -> list[Any]:
    return [case for case in gather.gather(Settings()).layers if case.overlay == "quantization"]


def test_every_kind_of_linear_layer_has_a_quantized_case() -> None:
    assert {case.layer.rpartition(":")[2] for case in _quantized()} == {
        "ReplicatedLinear",
        "ColumnParallelLinear",
        "RowParallelLinear",
        "MergedColumnParallelLinear",
        "QKVParallelLinear",
        "ParallelLMHead",
        "RoutedExperts",
    }


def test_every_scheme_has_a_case_in_both_dtypes() -> None:
    found = {(case.layer.endswith(":RoutedExperts"), case.label.partition(",")[0], case.dtype) for case in _quantized()}
    assert found == {
        (kind is ExpertsScheme, type_, dtype) for kind, type_ in schemes() for dtype in ("bfloat16", "float16")
    }


def test_no_two_cases_are_called_alike() -> None:
    names = [(case.layer, case.overlay, case.dtype, case.label) for case in gather.gather(Settings()).layers]
    assert len(names) == len(set(names))
