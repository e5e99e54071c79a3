"""Random functions: a statement that takes its own place changes neither what they do nor the text around it."""

from __future__ import annotations

import ast
import io
import itertools
import linecache
import tokenize
import types
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from ascend_overlay.source.edited import Change, edited
from ascend_overlay.source.functions import source_of_function
from ascend_overlay.source.matching import same
from ascend_overlay.source.snippets import snippet

_numbers = itertools.count()
NAMES = st.sampled_from(["a", "b", "c"])
EXPRESSIONS = st.recursive(
    st.one_of(NAMES, st.sampled_from(["1", "2", "'x'", '"ü"', "( a )", "f'{a} {b!r:>4}'", "(a,\n   b)"])),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "*", "==", "and", "if a else"]), inner).map(
            lambda x: f"({' '.join(x)})"
        ),
        inner.map(lambda x: f"str( {x} )"),
        inner.map(lambda x: f"[{x} for c in (1, 2)]"),
        inner.map(lambda x: f"(lambda a=1: {x})"),
    ),
    max_leaves=4,
)
SIMPLE = st.one_of(
    st.tuples(NAMES, EXPRESSIONS).map(lambda x: f"{x[0]}  =  {x[1]}"),
    st.tuples(NAMES, EXPRESSIONS).map(lambda x: f"{x[0]} = '''\n  {x[0]}\n''', {x[1]}"),
    EXPRESSIONS.map(lambda x: f"seen.append({x})"),
    EXPRESSIONS.map(lambda x: f"return {x}"),
    st.just("pass"),
)
COMMENTS = st.sampled_from(["", "  # why", "  # ü; a = 1"])


def indented(lines: list[str]) -> list[str]:
    """Indent the lines of a block; those of a string's inside stay."""
    inside, out = False, []
    for line in lines:
        out.append(line if inside else f"    {line}")
        inside ^= line.count("'''") % 2 == 1
    return out


def split(texts: list[str]) -> list[str]:
    return [line for text in texts for line in text.split("\n")]


@st.composite
def blocks(draw: Any, depth: int = 2) -> list[str]:
    """Lines of statements."""
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["simple", "line", "comment", "if", "for", "try", "def", "class", "one line"]))
        if kind == "comment":
            lines += ["# remark", ""]
        elif kind == "line":
            lines += split(["; ".join(draw(st.lists(SIMPLE, min_size=2, max_size=3))) + draw(COMMENTS)])
        elif kind == "one line":
            body = "; ".join(draw(st.lists(SIMPLE, min_size=1, max_size=2)))
            lines += split([f"if {draw(EXPRESSIONS)}: {body}{draw(COMMENTS)}", f"else: {draw(SIMPLE)}"])
        elif kind == "simple" or depth == 0:
            lines += split([draw(SIMPLE) + draw(COMMENTS)])
        else:
            lines += draw(_compound(kind, depth - 1))
    return [*lines, "pass"] if all(not line or line.startswith("#") for line in lines) else lines


@st.composite
def _compound(draw: Any, kind: str, depth: int) -> list[str]:
    first, second = indented(draw(blocks(depth))), indented(draw(blocks(depth)))
    if kind == "if":
        middle = draw(st.sampled_from(["else:", f"elif {draw(NAMES)}:"]))
        return [*split([f"if {draw(EXPRESSIONS)}:"]), *first, middle, *second]
    if kind == "for":
        return [f"for {draw(NAMES)} in (1, 2):", *first, "else:", *second]
    if kind == "try":
        return ["try:", *first, "except Exception:  # any", *second, "finally:", "    seen.append('end')"]
    if kind == "class":
        return [
            "@str",
            "class Inner:",
            "    def method(self, a=1, b=2, c=3):",
            *indented(first),
            "seen.append(Inner)" if draw(st.booleans()) else "Inner = 1",
        ]
    return ["@(lambda f: f)", "def inner(a=1, b=2, c=3):", *first, "seen.append(callable(inner))"]


def made(body: list[str]) -> tuple[types.FunctionType, dict[str, Any]]:
    """Return the function of a module with that body, and the module's names."""
    text = "\n".join(["seen = []", "def function(a=1, b=2, c=3):  # head", *indented(body), "", "# tail", ""])
    name = f"<random {next(_numbers)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "random_module"}
    exec(compile(text, name, "exec"), names)
    return names["function"], names


def outcome(function: types.FunctionType, names: dict[str, Any]) -> Any:
    names["seen"].clear()
    try:
        returned: Any = function()
    except Exception as error:
        returned = (type(error), str(error))
    return _plain([returned, names["seen"]])


def _plain(value: Any) -> Any:
    # Functions, and classes turned into text, have an address in their names.
    return repr(value).partition(" at 0x")[0]


def logical_line(text: str, number: int) -> int:
    """Return the number of the line on which the statements begin that line `number` belongs to."""
    begins, ended = 1, True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if ended and token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT):
            if token.start[0] > number:
                break
            begins = token.start[0]
        if token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT):
            ended = token.type == tokenize.NEWLINE
    return begins


@given(blocks(), st.data())
def test_a_statement_in_its_own_place_changes_nothing(body: list[str], data: st.DataObject) -> None:
    function, names = made(body)
    source = source_of_function(function)
    statements = [
        node for node in ast.walk(source.definition) if isinstance(node, ast.stmt) and node is not source.definition
    ]
    node = data.draw(st.sampled_from(statements))
    itself = snippet(ast.unparse(node))
    # Only one that is there once can be found: an expression wherever it stands.
    alike = statements if itself.expression is None else list(ast.walk(source.definition))
    wanted: Any = node if itself.expression is None else itself.expression
    assume(sum(same(other, wanted) for other in alike) == 1)
    result = edited(source, [Change(itself, itself, "test")])
    # Equal source but for formatting, and every line before and after the statement's as it was
    assert ast.dump(ast.parse(result.text)) == ast.dump(ast.parse(source.text))
    (match,) = result.matches
    before, after = source.text.split("\n"), result.text.split("\n")
    first = logical_line(source.text, match.first)
    assert after[: first - 1] == before[: first - 1]
    untouched = before[match.last :]
    assert after[len(after) - len(untouched) :] == untouched
    # The same behaviour
    stock = outcome(function, names)
    function.__code__ = result.code
    assert outcome(function, names) == stock
