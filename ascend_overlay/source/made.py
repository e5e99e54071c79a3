"""Classes that a call makes, such as `Point = namedtuple("Point", "x y")`, as class statements."""

from __future__ import annotations

import ast
from collections.abc import Iterator

FIELDS = frozenset({"collections:namedtuple", "typing:NamedTuple", "typing:TypedDict", "typing_extensions:TypedDict"})
"""What makes a class with fields."""
_MEMBERS = frozenset({"enum:Enum", "enum:IntEnum", "enum:StrEnum", "enum:Flag", "enum:IntFlag"})


def made_by_call(name: str, node: ast.stmt, maker: str) -> ast.ClassDef | None:
    """Return the class that an assignment to `name` makes, or None where it makes none whose names are spelled.

    Args:
        name: the name.
        node: the statement.
        maker: what it calls, "module:function".
    """
    if maker not in FIELDS | _MEMBERS or not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
        return None
    call = node.value
    listed = (
        call.args[1] if len(call.args) > 1 else next((k.value for k in call.keywords if k.arg == "field_names"), None)
    )
    names = list(_spelled(listed)) if listed is not None else []
    if not names or not all(each.isidentifier() for each, _ in names):
        return None
    defaults = _defaults(call, len(names)) if maker in FIELDS else [None] * len(names)
    if defaults is None:
        return None
    body: list[ast.stmt] = []
    for (each, annotation), default in zip(names, defaults, strict=True):
        target = ast.Name(each, ast.Store())
        if maker in FIELDS:
            body.append(ast.AnnAssign(target, annotation or ast.Name("Any", ast.Load()), default, 1))
        else:
            body.append(ast.Assign([target], annotation or ast.Constant(each)))
    made = ast.ClassDef(name, [call.func], [], body, [])
    for inner in ast.walk(made):
        if isinstance(inner, (ast.stmt, ast.expr)) and not hasattr(inner, "lineno"):
            ast.copy_location(inner, node)
    return made


def _spelled(listed: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names that "x y", ["x", "y"], [("x", int)] and {"x": int} list, each with what stands beside it.

    One that is not spelled is "".
    """
    if isinstance(listed, ast.Constant) and isinstance(listed.value, str):
        yield from ((each, None) for each in listed.value.replace(",", " ").split())
    elif isinstance(listed, ast.Dict):
        yield from zip(map(_text, listed.keys), listed.values, strict=True)
    elif isinstance(listed, (ast.List, ast.Tuple)):
        for each in listed.elts:
            if isinstance(each, (ast.List, ast.Tuple)) and len(each.elts) == 2:
                yield _text(each.elts[0]), each.elts[1]
            else:
                yield _text(each), None
    else:
        yield "", None


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _defaults(call: ast.Call, count: int) -> list[ast.expr | None] | None:
    """Return the default of each field, which the last ones have; None where they are not spelled."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}.get("defaults")
    if given is None or (isinstance(given, ast.Constant) and given.value is None):
        return [None] * count
    if not isinstance(given, (ast.List, ast.Tuple)) or len(given.elts) > count:
        return None
    return [*([None] * (count - len(given.elts))), *given.elts]
