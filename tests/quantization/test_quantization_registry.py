"""Plugins contribute quantization schemes by a hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ascend_overlay.engine.engine import Engine
from ascend_overlay.errors import CheckpointError, ConflictError, PluginError
from ascend_overlay.quantization import (
    CheckpointTensor,
    ExpertsScheme,
    Linear,
    LinearScheme,
    find_experts,
    find_linear,
    schemes,
)


class _Scheme(LinearScheme):
    type = "W8A8"

    def __init__(self, type_: str = "W8A8") -> None:
        self.type = type_  # type: ignore[misc]

    def tensors(self, linear: Linear) -> list[CheckpointTensor]:
        return []

    def process(self, layer: Any, linear: Linear) -> None:
        pass

    def apply(self, layer: Any, x: Any, bias: Any) -> Any:
        return x


@pytest.fixture
def contribute(engine: Engine, offer: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """Register a plugin that contributes schemes."""

    def register(name: str, *contributed: Any) -> None:
        def quantization_schemes() -> list[Any]:
            return list(contributed)

        offer(name=name, quantization_schemes=quantization_schemes)

    yield register


def test_a_type_is_found_for_its_kind_of_layer(contribute: Callable[..., None]) -> None:
    linear, experts = _Scheme(), ExpertsScheme("W8A8", lambda layer, prefix: None)
    contribute("one", linear)
    contribute("other", experts)
    assert find_linear("W8A8", "x.weight") is linear
    assert find_experts("W8A8", "x.weight") is experts
    assert len(schemes()) == 2


def test_a_type_that_nothing_knows_is_an_error_with_what_there_is(contribute: Callable[..., None]) -> None:
    contribute("one", _Scheme("W8A8"), _Scheme("W8A16"))
    with pytest.raises(CheckpointError) as caught:
        find_linear("W8A18", "model.layers.0.mlp.up_proj.weight")
    text = str(caught.value)
    assert "says that model.layers.0.mlp.up_proj.weight is 'W8A18'" in text
    assert "Did you mean 'W8A8' or 'W8A16'?" in text
    assert "There are: W8A16, W8A8. Install a plugin that contributes it" in text
    with pytest.raises(CheckpointError, match=r"for routed experts\. There are: none"):
        find_experts("W8A18", "x.weight")


def test_a_type_for_other_layers_is_said_to_be_that(contribute: Callable[..., None]) -> None:
    contribute("one", _Scheme("W8A8"), ExpertsScheme("W4A8", lambda layer, prefix: None))
    wanted = (
        r"x\.weight is 'W4A8', which is a type for routed experts alone\. For linear layers there are: W8A8\. Quantize"
    )
    with pytest.raises(CheckpointError, match=wanted):
        find_linear("W4A8", "x.weight")
    with pytest.raises(
        CheckpointError, match=r"is a type for linear layers alone\. For routed experts there are: W4A8\."
    ):
        find_experts("W8A8", "x.weight")


def test_a_second_scheme_of_a_type_is_a_conflict_that_names_both(contribute: Callable[..., None]) -> None:
    contribute("mine", _Scheme())
    contribute("yours", _Scheme())
    with pytest.raises(ConflictError, match=r"'yours'.*'mine'.*'W8A8' for linear layers|'mine'.*'yours'"):
        schemes()


def test_one_scheme_may_be_contributed_twice(contribute: Callable[..., None]) -> None:
    scheme = _Scheme()
    contribute("mine", scheme)
    contribute("again", scheme)
    assert list(schemes().values()) == [scheme]


def test_a_scheme_that_is_not_in_a_list_is_taken(engine: Engine, offer: Callable[..., Any]) -> None:
    scheme = _Scheme()
    offer(quantization_schemes=lambda: scheme)
    assert list(schemes().values()) == [scheme]


def test_a_scheme_needs_a_type(contribute: Callable[..., None]) -> None:
    class Nameless(LinearScheme):
        tensors, process, apply = _Scheme.tensors, _Scheme.process, _Scheme.apply

    contribute("mine", Nameless())
    with pytest.raises(PluginError, match=r"'mine' contributes .*, which has no `type`; set it"):
        schemes()


@pytest.mark.parametrize("wrong", [_Scheme, "W8A8", None])
def test_something_else_is_an_error_that_names_the_plugin(contribute: Callable[..., None], wrong: Any) -> None:
    contribute("mine", wrong)
    with pytest.raises(PluginError, match=r"'mine' contributes .* an instance of a subclass of LinearScheme"):
        schemes()
