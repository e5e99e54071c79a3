"""torch.compile looks through what overlay.wrap installs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo.testing

from ascend_overlay.patches.first_calls import Calls
from ascend_overlay.patches.wrappers import step_aside, wrapped


def function(x: torch.Tensor, *, scale: float = 2.0) -> torch.Tensor:
    """Return a product."""
    return x * scale


class Layer(torch.nn.Module):
    """A layer of members of every kind that a compiled model calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the others."""
        return self.method(x, scale=3.0) + self.static(x) + self.of_class(x) + self.value

    def method(self, x: torch.Tensor, *, scale: float = 2.0) -> torch.Tensor:
        """Return a product."""
        return x * self.weight * scale

    @staticmethod
    def static(x: torch.Tensor) -> torch.Tensor:
        """Return a sum."""
        return x + 1

    @classmethod
    def of_class(cls, x: torch.Tensor) -> torch.Tensor:
        """Return a sum."""
        return x + 2

    @property
    def value(self) -> torch.Tensor:
        """A sum."""
        return self.weight + 4


def _adding(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return wrapped(*args, **kwargs) + 1


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


@pytest.mark.vllm
def test_a_wrapped_function_is_compiled_whole() -> None:
    outer = wrapped(function, _adding, member=False)
    x = torch.arange(3.0)

    @torch.compile(fullgraph=True, backend="eager")
    def use(x: torch.Tensor) -> torch.Tensor:
        return outer(x, scale=3.0)

    assert torch.equal(use(x), x * 3 + 1)

    step_aside(outer, function)
    assert torch.equal(use(x), x * 3)


@pytest.mark.vllm
@pytest.mark.parametrize("names", [["method"], ["static"], ["of_class"], ["value"], ["forward"]], ids=lambda n: n[0])
def test_a_wrapped_member_is_compiled_whole(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Layer(), torch.arange(3.0)
    before = layer(x)
    for name in names:
        outer = wrapped(vars(Layer)[name], _adding, member=True)
        monkeypatch.setattr(Layer, name, outer)

    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), before + 1)


@pytest.mark.vllm
def test_wrappers_of_everything_and_around_wrappers(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Layer(), torch.arange(3.0)
    before = layer(x)
    for name in ("method", "static", "of_class", "value", "forward", "forward"):
        monkeypatch.setattr(Layer, name, wrapped(vars(Layer)[name], _adding, member=True))

    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), before + 6)


@pytest.mark.vllm
@pytest.mark.parametrize("eagerly_first", [True, False])
def test_a_first_call_breaks_no_graph_and_compiles_nothing_twice(eagerly_first: bool) -> None:
    told: list[None] = []
    calls = Calls(tell=lambda: told.append(None))
    outer = wrapped(function, _adding, member=False, calls=calls)
    counter = torch._dynamo.testing.CompileCounter()
    x = torch.arange(3.0)
    if eagerly_first:
        outer(x)

    @torch.compile(fullgraph=True, backend=counter)
    def use(x: torch.Tensor) -> torch.Tensor:
        return outer(x, scale=3.0)

    for _ in range(3):
        assert torch.equal(use(x), x * 3 + 1)
        outer(x)
    assert (counter.frame_count, counter.op_count, calls.ran) == (1, 2, True)
    assert calls.traced is not eagerly_first and len(told) == int(eagerly_first)
