"""Tests with an engine of their own leave torch's modules alone: torch registers operators when they are imported."""

from __future__ import annotations

import importlib

import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_module_of_torch_is_not_imported_twice(turn: str, engine: object) -> None:
    # A second import would define the namespace _inductor_test once more, which torch refuses.
    assert importlib.import_module("torch._inductor.test_operators").realize
