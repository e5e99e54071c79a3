"""Walks that are quicker than ast.walk() find what it finds, in its order."""

from __future__ import annotations

import ast
import inspect

import pytest

from ascend_overlay.source import atlas, families, statements

SOURCES = {module.__name__: inspect.getsource(module) for module in (ast, inspect, atlas, families, pytest)}
SOURCES["everything that nests"] = """
async def f(x):
    try:
        async for y in x:
            while y:
                z = lambda: [i for i in (yield)]
            else:
                pass
    except* ValueError as error:
        match error:
            case {"a": [1, *_], **rest} if x:
                class C(B, k=1):
                    async with a as b, c: del d
    else:
        if x: ...
        elif y: ...
    finally:
        def g(a, *b, c=1): return f"{a!r:>{b}}"
"""


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_order_is_that_of_ast_walk(source: str) -> None:
    tree = ast.parse(source)
    everything = list(ast.walk(tree))
    assert list(statements.walked(tree)) == everything
    nesting = (ast.mod, ast.stmt, ast.ExceptHandler, ast.match_case)
    assert list(statements.nested(tree)) == [node for node in everything if isinstance(node, nesting)]
