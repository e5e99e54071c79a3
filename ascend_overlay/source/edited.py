"""A function with some of its lines changed: the text of its module, and the code that comes of it."""

from __future__ import annotations

import ast
import copy
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from ascend_overlay.source.functions import FunctionSource, compiled, definition_in
from ascend_overlay.source.matching import Match, first_line, in_string, last_line, matches, nearest, numbered, same
from ascend_overlay.source.snippets import Snippet, snippet
from ascend_overlay.source.splicing import spliced

_LISTED = 8
"""So many lines are shown at most of those that say what is found more than once."""


@dataclass(frozen=True, eq=False)
class Change:
    """What is found and what takes its place.

    Attributes:
        find: what is found.
        put: what takes its place.
        whose: where the change comes from, in words.
        key: what asked for it.
    """

    find: Snippet
    put: Snippet
    whose: str
    key: object = None


@dataclass(frozen=True)
class EditedSource:
    """A function with changes.

    Attributes:
        file: what tracebacks call the text; it differs where the text differs.
        text: the whole text of the module, with the changes in this function.
        lines: the lines of the definition.
        code: the code of the function.
        matches: where each change found what it changes, in the text before any change.
    """

    file: str
    text: str
    lines: list[str]
    code: CodeType
    matches: list[Match]


class CannotEdit(Exception):
    """A change does not fit a function.

    Attributes:
        other: where the other change comes from, where two do not go together.
    """

    def __init__(self, why: str, other: str | None = None) -> None:
        super().__init__(why)
        self.other = other


def edited(source: FunctionSource, changes: Sequence[Change]) -> EditedSource:
    """Return the function with `changes`, each of which is found in the source as it is.

    Raises:
        CannotEdit: what one finds is not there, or more than once; two touch the same lines; the result is not Python,
            or needs variables that the function does not hold.
    """
    # A copy: what is found is replaced in it, to compare the edited text with.
    definition = copy.deepcopy(source.definition)
    found = [_filled(source, _only(source, definition, change), change) for change in changes]
    _refuse_overlap(found)
    text = source.text
    for match, change in sorted(found, key=lambda pair: pair[0].first, reverse=True):
        text = _replaced(source, definition, text, match, change)
    path = definition_in(text, source.code)
    assert path is not None, "every step was parsed"
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    # vLLM's compile cache knows a file that it cannot read by its name.
    file = f"<ascend_overlay edit of {source.name} {digest}>"
    lines = text.split("\n")[first_line(path[-1]) - 1 : last_line(path[-1])]
    return EditedSource(file, text, lines, _compiled(source, path, file), [match for match, _ in found])


def _only(source: FunctionSource, definition: ast.AST, change: Change) -> Match:
    """Return the one place that says what `change` finds."""
    found = matches(definition, change.find)
    if len(found) == 1:
        if not found[0].statements and change.put.expression is None:
            raise CannotEdit(
                f"`find` is an expression inside a statement, at line {found[0].first}, so `put` must be one "
                f"expression; find the whole statement to put statements."
            )
        return found[0]
    lines = source.text.split("\n")
    first = first_line(source.definition)
    if not found:
        close = nearest(change.find, lines[first - 1 : source.definition.end_lineno], first)
        listed = "\n".join([f" The nearest lines of {source.file}:", *close]) if close else ""
        hint = " An f-string says it: find the whole string." if in_string(definition, change.find) else ""
        raise CannotEdit(f"nothing in it says what `find` says, `{_head(change.find)}`.{hint}{listed}")
    numbers = sorted({match.first for match in found})
    places = [numbered(number, lines[number - 1]) for number in numbers[:_LISTED]]
    if len(numbers) > _LISTED:
        places.append(f"  and in {len(numbers) - _LISTED} lines more")
    raise CannotEdit(
        f"`find`, `{_head(change.find)}`, is found {len(found)} times; take more of the lines around the one that you "
        f"mean. In {source.file}:\n" + "\n".join(places)
    )


def _filled(source: FunctionSource, match: Match, change: Change) -> tuple[Match, Change]:
    """Put what was found in place of each `...` of `put`, where `find` has one, too."""
    if not change.find.gaps or not change.put.gaps:
        return match, change
    lines = source.text.split("\n")[match.first - 1 : match.last]
    try:
        put = change.put.filled(snippet("\n".join(lines)))
    except SyntaxError as error:
        raise CannotEdit(
            f"what is at line {match.first} cannot be put in place of the `...` in `put`: {error.msg}."
        ) from None
    return match, dataclasses.replace(change, put=put)


def _refuse_overlap(found: Sequence[tuple[Match, Change]]) -> None:
    in_order = sorted(found, key=lambda pair: pair[0].first)
    reach, holder = 0, ""
    for match, change in in_order:
        if match.first <= reach:
            raise CannotEdit(
                f"{holder} and {change.whose} both edit line {match.first} of it. Leave one of them out, "
                f"or make one edit of the two.",
                other=holder,
            )
        if match.last > reach:
            reach, holder = match.last, change.whose


def _replaced(source: FunctionSource, definition: Any, text: str, match: Match, change: Change) -> str:
    """Return `text` with the change; `definition` is changed, too, and says what the text must come to."""
    candidates = list(spliced(text, match, change.put))
    expression = change.put.expression
    if match.statements:
        match.substitute(change.put.statements or [ast.Pass()])
    elif expression is not None:
        match.substitute([expression])
    for candidate in candidates:
        path = definition_in(candidate, source.code)
        if path is not None and same(path[-1], definition):
            return candidate
    raise CannotEdit(
        f"what is at line {match.first} cannot be taken out of the text around it; find more of the lines around it."
    )


def _compiled(source: FunctionSource, path: Sequence[ast.AST], file: str) -> CodeType:
    had = set(source.code.co_freevars)
    try:
        code = compiled(path, source.code, file)
        if lost := sorted(had - set(code.co_freevars)):
            code = compiled(path, source.code, file, free=lost)
    except SyntaxError as error:
        raise CannotEdit(f"with what `put` says it is not Python: {error.msg} (line {error.lineno}).") from None
    if code.co_freevars == source.code.co_freevars:
        return code
    gained = sorted(set(code.co_freevars) - had)
    if "__class__" in gained:
        raise CannotEdit(
            "`put` says super() or __class__, and the function, which does not, holds no class; write "
            "super(Class, self)."
        )
    if gained:
        raise CannotEdit(
            f"`put` uses {', '.join(gained)} of the enclosing function, which the function does not hold; its closure "
            f"cannot be extended."
        )
    lost = sorted(had - set(code.co_freevars))
    raise CannotEdit(
        f"`put` assigns to {', '.join(lost)}, which the function has from the enclosing function; declare it nonlocal."
    )


def _head(wanted: Snippet) -> str:
    text = " | ".join(line.strip() for line in wanted.text.split("\n") if line.strip())
    return text if len(text) <= 80 else f"{text[:77]}..."
