"""How reference kernels get behind torch.ops.npu, and what plugins may add."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from npu_kit import torch

from ascend_overlay import npu
from ascend_overlay.errors import ConfigError, ConflictError, PluginError, TargetError
from ascend_overlay.npu import ReferenceKernel, reference, registration

Offer = Callable[..., Any]


def _kernel(schema: str, cpu: Callable[..., Any] = torch.neg) -> ReferenceKernel:
    return ReferenceKernel(schema=schema, cpu=cpu, fake=torch.empty_like, source="these tests")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, offer: Offer) -> Any:
    """A registry of this test's own, emptied of what it registered afterwards."""
    fresh = registration._Registry()
    monkeypatch.setattr(registration, "_registry", fresh)
    yield fresh
    for library in (fresh._schemas, fresh._implementations):
        if library is not None:
            library._destroy()


def test_a_plugin_contributes_a_kernel(registry: Any, offer: Offer) -> None:
    kernel = _kernel("npu_turn_around(Tensor x) -> Tensor")
    offer(kernels=lambda: [kernel])
    npu.load("npu_turn_around")
    x = torch.arange(3.0)
    assert torch.equal(torch.ops.npu.npu_turn_around(x), -x)
    assert npu.kernels()["npu_turn_around"] is kernel
    compiled = torch.compile(torch.ops.npu.npu_turn_around, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), -x)
    npu.load("npu_turn_around")


def test_two_schemas_of_one_name_are_an_error_that_names_both(registry: Any, offer: Offer) -> None:
    offer(kernels=lambda: [_kernel("npu_swiglu(Tensor input, int dim=0) -> Tensor")], name="acme")
    with pytest.raises(ConflictError) as caught:
        npu.load()
    message = str(caught.value)
    assert "plugin 'acme'" in message
    assert "ascend_overlay declares 'npu_swiglu(Tensor input, int dim=-1) -> Tensor'" in message
    assert "'npu_swiglu(Tensor input, int dim=0) -> Tensor'" in message


def test_a_second_kernel_of_one_schema_is_not_used_and_that_is_noted(registry: Any, offer: Offer, engine: Any) -> None:
    offer(kernels=lambda: [_kernel("npu_swiglu(Tensor input, int dim=-1) -> Tensor")], name="acme")
    npu.load()
    assert npu.kernels()["npu_swiglu"].cpu is not torch.neg
    assert any("npu_swiglu" in text and "acme" in text for _, text in engine.ledger().notes)


def test_what_is_no_kernel_is_an_error_that_names_the_plugin(registry: Any, offer: Offer) -> None:
    offer(kernels=lambda: ["npu_swiglu"], name="acme")
    with pytest.raises(PluginError, match=r"plugin 'acme' contributes 'npu_swiglu'"):
        npu.load()


def test_a_schema_that_torch_cannot_read_is_an_error_that_names_the_plugin(registry: Any, offer: Offer) -> None:
    offer(kernels=lambda: _kernel("npu_turn_around(Tensr x) -> Tensor"), name="acme")
    with pytest.raises(PluginError, match=r"'acme' contributes .*'npu_turn_around\(Tensr x\) .* cannot read: unk"):
        npu.load()


def test_a_plugin_that_raises_is_named(registry: Any, offer: Offer) -> None:
    def broken() -> list[Any]:
        raise ZeroDivisionError("no kernels today")

    offer(kernels=broken, name="acme")
    with pytest.raises(PluginError, match=r"plugin 'acme' raised in its hook ascend_overlay_kernels.*no kernels today"):
        npu.load()


def test_an_operator_that_nobody_has_is_named_with_its_neighbours() -> None:
    with pytest.raises(TargetError, match=r"no operator npu::npu_swigluu in .*Did you mean 'npu_swiglu'"):
        npu.load("npu_swigluu")


@pytest.mark.parametrize("schema", ["npu_swiglu", "(Tensor x) -> Tensor", "npu::f(Tensor x) -> Tensor", "f(Tensor x)"])
def test_a_kernel_needs_a_schema(schema: str) -> None:
    with pytest.raises(ConfigError, match="not the schema of an operator"):
        _kernel(schema)


def test_loading_again_changes_nothing() -> None:
    before = registration._registry._implementations
    npu.load()
    npu.load("npu_mrope")
    assert registration._registry._implementations is before


def test_importing_the_package_imports_no_torch(python: Any) -> None:
    done = python(
        "-c",
        "import sys; import ascend_overlay.npu, ascend_overlay.availability as a; a.diagnosis(); "
        "print('torch' in sys.modules, ascend_overlay.npu.load.__name__, 'torch' in sys.modules)",
    )
    assert done.stdout.split() == ["False", "load", "True"]


@pytest.mark.parametrize("module", reference.OPERATORS)
def test_the_table_of_operators_is_that_of_the_modules(module: str) -> None:
    kernels = importlib.import_module(f"ascend_overlay.npu.reference.{module}").KERNELS
    assert reference.OPERATORS[module] == tuple(kernel.name for kernel in kernels)


def test_no_module_is_missing_from_the_table_of_operators() -> None:
    folder = Path(str(reference.__file__)).parent
    having = {
        (path.parent if path.name == "__init__.py" else path.with_suffix("")).name
        for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py"))
        if path.parent != folder or path.name != "__init__.py"
        if "KERNELS" in path.read_text(encoding="utf-8")
    }
    assert having == set(reference.OPERATORS)


def test_what_is_not_asked_for_is_not_loaded(python: Any) -> None:
    """Importing vLLM waits for this."""
    program = """
import sys
from ascend_overlay import npu
npu.load("npu_rms_norm")
loaded = {name for name in sys.modules if name.startswith("ascend_overlay.npu.reference.")}
assert "ascend_overlay.npu.reference.normalization" in loaded
assert not any("attention" in name or "moe" in name or "quantized" in name for name in loaded), loaded
import torch
assert not hasattr(torch.ops.npu, "npu_swiglu")
npu.load("npu_swiglu")
x = torch.ones(2, 4)
torch.ops.npu.npu_swiglu(x), torch.ops.npu.npu_rms_norm(x, x[0], 1e-6)
npu.load()
assert torch.ops.npu.npu_quant_matmul
"""
    python("-c", program)
