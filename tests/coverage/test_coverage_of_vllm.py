"""The coverage of the real vLLM: what is read from its source is what it registers, and the page is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def found() -> Any:
    """The rows of the installed vLLM."""
    from ascend_overlay.commands.coverage.command import coverage
    from ascend_overlay.settings import Settings

    return coverage(None, Settings())


def test_what_vllm_registers_is_found(found: Any) -> None:
    import vllm.model_executor.layers.activation
    import vllm.model_executor.layers.fused_moe
    import vllm.model_executor.layers.layernorm
    import vllm.model_executor.layers.mla
    import vllm.model_executor.layers.rotary_embedding  # noqa: F401
    from vllm.ir.op import IrOp
    from vllm.model_executor.custom_op import CustomOp, PluggableLayer, op_registry

    by_target = {row.layer.target: row.layer for row in found}
    for name, cls in op_registry.items():
        if f"{cls.__module__}".startswith("vllm.") and issubclass(cls, (CustomOp, PluggableLayer)):
            assert by_target[f"{cls.__module__}:{cls.__name__}"].registered == name
    assert {f"vllm.ir.ops:{name}" for name in IrOp.registry} == {
        target for target in by_target if target.startswith("vllm.ir.ops:")
    }


def test_every_layer_was_looked_at(found: Any) -> None:
    assert [row.layer.target for row in found if row.state == "not looked at"] == []


def test_every_reason_is_about_a_layer(found: Any) -> None:
    import fnmatch

    from ascend_overlay.overlays.left_to_vllm import REASONS

    targets = [row.layer.target for row in found]
    assert [pattern for pattern in REASONS if not fnmatch.filter(targets, pattern)] == []


def test_the_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ascend_overlay", "coverage", "--markdown"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in PAGE.read_text(encoding="utf-8"), (
        "write the output of `ascend-overlay coverage --markdown` into docs/coverage.md"
    )
