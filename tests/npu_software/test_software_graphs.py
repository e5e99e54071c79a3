"""torch.npu.NPUGraph and torch.npu.graph on the software NPU."""

from __future__ import annotations

import pytest
from software_kit import Software, cases_of

CASES = "inside_graphs.py"
OPTIONS = {"env": {"ASCEND_OVERLAY_NPU_PATIENCE": "2"}}


@pytest.mark.parametrize("name", cases_of(CASES))
def test_graphs(results: dict[str, str | None], name: str) -> None:
    assert results[name] is None


def test_graphs_read_nothing_that_was_not_written(software: Software) -> None:
    found = software.results(CASES, env={"ASCEND_OVERLAY_NPU_POISON": "1", **OPTIONS["env"]})
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
