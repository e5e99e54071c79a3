"""Kinds of patch are imported when an overlay uses them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ascend_overlay import patches


@pytest.mark.parametrize("name", patches.__all__)
def test_every_kind_is_there(name: str) -> None:
    found = getattr(patches, name)
    if isinstance(found, type) and issubclass(found, patches.Patch) and found is not patches.Patch:
        assert dataclasses.is_dataclass(found) and found.kind


def test_what_is_no_kind_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rename'"):
        patches.Rename  # type: ignore[attr-defined] # noqa: B018


def test_enabling_imports_no_kind_that_nobody_uses(python: Any) -> None:
    done = python(
        "-c",
        "import sys, ascend_overlay\n"
        "overlay = ascend_overlay.Overlay('one', reason='a test')\n"
        "overlay.wrap('json:dumps')(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))\n"
        "ascend_overlay.enable(overlay, only=['one'])\n"
        "print(*sorted(name for name in sys.modules if name.startswith('ascend_overlay.patches.')))\n",
    )
    imported = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert "names" in imported
    assert imported.isdisjoint({"fields", "entries", "removals", "members", "factories"})
