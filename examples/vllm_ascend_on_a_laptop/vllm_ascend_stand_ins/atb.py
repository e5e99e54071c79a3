"""Without libatb there is nothing to register, and nothing to warm up."""

from __future__ import annotations


def register_nothing() -> None:
    """Leave torch_npu's operators of libatb out: each is an error by name where it is called."""


def warm_up_nothing(self: object) -> None:
    """Multiply nothing by libatb."""
