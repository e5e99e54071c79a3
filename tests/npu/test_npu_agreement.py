"""What a release of torch_npu does not take is refused when it is loaded."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from npu_kit import torch

from ascend_overlay import npu
from ascend_overlay.errors import TargetError
from ascend_overlay.npu import ReferenceKernel, agreement, reference, registration
from ascend_overlay.npu.calls import Call

OLD = "npu_a_mover(Tensor x) -> Tensor"
NEW = "npu_a_mover(Tensor x, *, int by=1) -> Tensor"
OTHER = "npu_a_mover(Tensor x, int by) -> (Tensor, Tensor)"


def _move(x: Any, *, by: int = 1) -> Any:
    return x + by


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch, site: Any, offer: Any) -> Any:
    """Pretend that torch_npu 2.9.0 is here and defines the operator with a schema; load a module that calls it."""
    fresh = registration._Registry()
    monkeypatch.setattr(registration, "_registry", fresh)
    stub = ModuleType("torch_npu")
    stub.__version__ = "2.9.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_npu", stub)
    # What this process has registered of our own passes for theirs.
    monkeypatch.setattr(reference, "OPERATORS", {})
    genuine = torch.library.Library("npu", "FRAGMENT")
    kernel = ReferenceKernel(schema=NEW, cpu=_move, fake=lambda x, by=1: torch.empty_like(x), source="these tests")
    offer(kernels=lambda: [kernel])

    def load(schema: str | None, call: str) -> Any:
        if schema is not None:
            genuine.define(schema)
        text = (
            f"import torch\nfrom ascend_overlay import npu\nnpu.load('npu_a_mover')\ndef move(x):\n    return {call}\n"
        )
        site.write({"mover.py": text})
        import mover

        return mover

    yield load
    for library in (genuine, fresh._schemas, fresh._implementations):
        if library is not None:
            library._destroy()


def test_a_call_that_fits_runs_with_our_kernel_behind_the_other_schema(loading: Any) -> None:
    mover = loading(OLD, "torch.ops.npu.npu_a_mover(x)")
    assert torch.equal(mover.move(torch.zeros(2)), torch.ones(2))


def test_an_argument_that_the_release_does_not_have_is_refused_with_release_operator_and_place(loading: Any) -> None:
    with pytest.raises(TargetError) as caught:
        loading(OLD, "torch.ops.npu.npu_a_mover(x, by=3)")
    assert str(caught.value) == (
        "torch_npu 2.9.0 does not take a call of npu::npu_a_mover in mover, line 5: its operator has no argument 'by'. "
        "Install another torch_npu, or leave out the overlay that calls it."
    )


def test_an_operator_that_the_release_does_not_have_is_refused(loading: Any) -> None:
    with pytest.raises(TargetError, match=r"torch_npu 2\.9\.0 has no operator npu::npu_a_mover\."):
        loading(None, "torch.ops.npu.npu_a_mover(x)")


def test_another_schema_gets_no_kernel_of_ours_and_that_is_noted(loading: Any, engine: Any) -> None:
    with pytest.raises(TargetError, match="returns"):
        loading(OTHER, "torch.ops.npu.npu_a_mover(x)")
    assert any("runs without a CPU kernel" in text and "'by'" in text for _, text in engine.ledger().notes)
    assert not torch._C._dispatch_has_kernel_for_dispatch_key("npu::npu_a_mover", "CPU")


def test_releases_that_take_the_call_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = npu.kernels()["npu_mrope"].schema
    theirs = ours.replace(", str? cache_mode='default'", "").replace(', str? cache_mode="default"', "")
    assert theirs != ours
    caller = {"__name__": "ascend_overlay.overlays.rotary.rotation"}
    monkeypatch.setattr(agreement, "_calls", lambda *_: [Call("npu_mrope", 5, frozenset({"cache_mode"}), line=3)])
    with pytest.raises(TargetError, match=r"no argument 'cache_mode'\. torch_npu 2\.10\.0, .*2\.13\.0.* do; install"):
        agreement.demand(ours, theirs, caller)
