"""What can be said of all overlays by reading them."""

from __future__ import annotations

import ast
from pathlib import Path

import ascend_overlay.overlays

HOME = Path(ascend_overlay.overlays.__file__).parent


def test_super_is_never_alone() -> None:
    """From Python 3.13 on, torch.compile traces `super().method`, but not what stores `super()` first."""
    sources = sorted(HOME.rglob("*.py"))
    assert len(sources) > 50
    assert [f"{path}:{line}" for path in sources for line in _alone(path.read_text(encoding="utf-8"))] == []


def test_one_that_is_alone_is_found() -> None:
    assert _alone("def f(self):\n    super().f()\n    parent = super()\n    return parent.f(super().g)\n") == [3]


def _alone(source: str) -> list[int]:
    """Return the lines with a super() of which no attribute is taken there."""
    nodes = list(ast.walk(ast.parse(source)))
    followed = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    return [node.lineno for node in nodes if _is_super(node) and id(node) not in followed]


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args
