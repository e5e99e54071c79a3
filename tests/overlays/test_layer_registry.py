"""A layer that is registered for a class which does not exist is noticed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError
from ascend_overlay.overlays import layer_registry
from ascend_overlay.overlays.layer_registry import LayerKeyError

pytestmark = pytest.mark.vllm

ONLY = ["layer_registry"]


@pytest.fixture(autouse=True)
def registry() -> Iterator[dict[str, Any]]:
    """vLLM's registry, emptied, and as it was afterwards."""
    custom_op = pytest.importorskip("vllm.model_executor.custom_op")
    pytest.importorskip("vllm.model_executor.layers.activation")
    kept = dict(custom_op.op_registry_oot)
    custom_op.op_registry_oot.clear()
    yield custom_op.op_registry_oot
    custom_op.op_registry_oot.clear()
    custom_op.op_registry_oot.update(kept)


def _custom_op() -> Any:
    from vllm.model_executor.custom_op import CustomOp

    return CustomOp


def test_a_name_that_no_class_has_is_an_error(registry: dict[str, Any]) -> None:
    from vllm.model_executor.layers.activation import SiluAndMulWithClamp

    class Ours(SiluAndMulWithClamp):
        pass

    message = rf"{__name__} registers a layer in the place of 'SiluAndMulWithClmap', .* mean 'SiluAndMulWithClamp'"
    with ascend_overlay.enabled(only=ONLY):
        for call in (
            lambda: _custom_op().register_oot(Ours, name="SiluAndMulWithClmap"),
            lambda: _custom_op().register_oot(name="SiluAndMulWithClmap")(Ours),
            lambda: SiluAndMulWithClamp.register_oot(Ours, "SiluAndMulWithClmap"),
        ):
            with pytest.raises(LayerKeyError, match=message):
                call()
        with pytest.raises(LayerKeyError, match="in the place of 'LlamaForCausalLM'"):
            _custom_op().register_oot(Ours, name="LlamaForCausalLM")
        assert any("SiluAndMulWithClmap" in text for _, text in ascend_overlay.ledger().notes)
    assert registry == {}


@pytest.mark.parametrize("base", ["CustomOp", "PluggableLayer"])
def test_a_name_that_was_forgotten_is_an_error(base: str) -> None:
    from vllm.model_executor import custom_op

    with ascend_overlay.enabled(only=ONLY), pytest.raises(LayerKeyError, match=rf"place of '{base}'.*Name the class"):
        getattr(custom_op, base).register_oot(type("Ours", (getattr(custom_op, base),), {}))


def test_names_that_exist_are_taken(registry: dict[str, Any]) -> None:
    from vllm.model_executor.layers.activation import SiluAndMul

    class Own(_custom_op()):  # type: ignore[misc]
        pass

    class Ours(SiluAndMul):
        pass

    with ascend_overlay.enabled(only=ONLY), warnings.catch_warnings():
        warnings.simplefilter("error")
        SiluAndMul.register_oot(Ours)
        _custom_op().register_oot(type("OursToo", (Own,), {}), name="Own")
        # Of a module that is not imported.
        _custom_op().register_oot(name="BailingMoeV3KimiDeltaAttention")(Ours)
    assert set(registry) == {"SiluAndMul", "Own", "BailingMoeV3KimiDeltaAttention"}


def test_where_errors_are_warnings_the_registration_is_made(registry: dict[str, Any]) -> None:
    with ascend_overlay.enabled(only=ONLY, strict=False):
        with pytest.warns(RuntimeWarning, match="Did you mean 'RMSNormGated'"):
            _custom_op().register_oot(_custom_op(), name="RMSNormGatd")
        assert any("'RMSNormGatd'" in text for overlay, text in ascend_overlay.ledger().notes if overlay == ONLY[0])
    assert set(registry) == {"RMSNormGatd"}


def test_what_was_written_directly_is_noticed_when_a_model_is_built(registry: dict[str, Any]) -> None:
    import vllm.model_executor.model_loader.utils  # noqa: F401
    from vllm.model_executor.layers.activation import SiluAndMul

    class Ours(SiluAndMul):
        pass

    with ascend_overlay.enabled(only=ONLY):
        # The ledger keeps what earlier tests of this process enabled, as reverted.
        entries = [e for e in ascend_overlay.ledger().of("layer_registry") if e.target.endswith(":initialize_model")]
        assert [entry.state for entry in entries].count("applied") == 1
        registry["SiluAndMul"] = Ours
        assert layer_registry.initialize_model(lambda: "model", None, (), {}) == "model"
        registry["SiluAndMull"] = Ours
        with pytest.raises(LayerKeyError, match=r"test_layer_registry:.*Ours registers .* mean 'SiluAndMul'"):
            layer_registry.initialize_model(lambda: "model", None, (), {})


def test_an_overlay_for_a_class_that_does_not_exist_is_an_error(engine: Any, offer: Any) -> None:
    overlay = Overlay("wrong", reason="a mistake")
    overlay.subclass("vllm.model_executor.layers.activation:SiluAndMulWithClmap", int)
    offer(overlay)
    with pytest.raises(TargetError, match=r"no 'SiluAndMulWithClmap'.*Did you mean 'SiluAndMulWithClamp'"):
        ascend_overlay.enable()


def test_afterwards_nothing_is_left() -> None:
    from vllm.model_executor import custom_op
    from vllm.model_executor.model_loader import utils

    def registrars() -> list[int]:
        # A list of the descriptors themselves would be a holder, which is given others.
        return [id(vars(getattr(custom_op, base))["register_oot"]) for base in ("CustomOp", "PluggableLayer")]

    before = registrars()
    build = utils.initialize_model
    with ascend_overlay.enabled(only=ONLY):
        assert utils.initialize_model is not build
    assert registrars() == before
    assert utils.initialize_model is build
