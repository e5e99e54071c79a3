"""How objects of a class are made, read from its source: by its constructor, or by its fields."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from inspect import Parameter, Signature

from ascend_overlay.source.atlas import Atlas, Thing
from ascend_overlay.source.families import Step
from ascend_overlay.source.signatures import Default, signature
from ascend_overlay.source.statements import statements

_DATACLASSES = frozenset({"dataclass", "config", "pydantic_dataclass"})
_BASES = {
    "pydantic:BaseModel": True,
    "pydantic.main:BaseModel": True,
    "msgspec:Struct": False,
    "typing:NamedTuple": False,
}
"""Bases that make a constructor of fields -> whether it takes names only."""
_NO_FIELD = ("ClassVar", "InitVar", "PrivateAttr")


def constructor(atlas: Atlas, thing: Thing) -> Signature | None:
    """Return how a class is called, without the object that is made; None where the source does not tell.

    Read are `__init__` and `__new__`, and the fields of dataclasses, of pydantic and msgspec classes, of named tuples.
    """
    if thing.family is None:
        return None
    for step in thing.family.steps:
        for name in ("__init__", "__new__"):
            member = step.members.get(name)
            node = member.nodes[-1] if member is not None else None
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                return None if node.decorator_list else _unbound(signature(node))
        if (keywords := _makes_fields(atlas, step, thing)) is not None:
            return _of_fields(atlas, thing, keywords)
    return None


def _unbound(found: Signature) -> Signature:
    return found.replace(parameters=list(found.parameters.values())[1:])


def _makes_fields(atlas: Atlas, step: Step, thing: Thing) -> bool | None:
    for decorator in step.node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if word in _DATACLASSES:
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            given = {keyword.arg: keyword.value for keyword in keywords}
            init = given.get("init")
            if isinstance(init, ast.Constant) and init.value is False:
                return None
            return isinstance(only := given.get("kw_only"), ast.Constant) and bool(only.value)
    for base in thing.family.outside if thing.family is not None else ():
        if base in _BASES:
            return _BASES[base]
    return None


def _of_fields(atlas: Atlas, thing: Thing, keywords: bool) -> Signature | None:
    assert thing.family is not None
    fields: dict[str, Parameter] = {}
    kind = Parameter.KEYWORD_ONLY if keywords else Parameter.POSITIONAL_OR_KEYWORD
    for step in reversed(thing.family.steps):
        for name, annotation, value in _annotated(step):
            if any(word in ast.unparse(annotation) for word in _NO_FIELD):
                continue
            default = _default(value)
            if default is None:
                fields.pop(name, None)
                continue
            fields[name] = Parameter(name, kind, default=default)
    # A field without default behind one with a default is by name, or the class cannot be made as it is read here.
    ordered = list(fields.values())
    late = False
    for each in ordered:
        late = late or each.default is not Parameter.empty
        if late and each.default is Parameter.empty and each.kind is not Parameter.KEYWORD_ONLY:
            return Signature([one.replace(kind=Parameter.KEYWORD_ONLY) for one in ordered])
    try:
        return Signature(ordered)
    except ValueError:
        return None


def _annotated(step: Step) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    for statement, _ in statements(step.node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.annotation, statement.value


def _default(value: ast.expr | None) -> object:
    """Return the default of a field: `Parameter.empty` for none, None where the constructor does not take the field."""
    if value is None:
        return Parameter.empty
    if isinstance(value, ast.Call):
        word = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        if word in ("field", "Field"):
            init = given.get("init")
            if isinstance(init, ast.Constant) and init.value is False:
                return None
            required = not given.keys() & {"default", "default_factory"} and not (
                value.args and not (isinstance(value.args[0], ast.Constant) and value.args[0].value is ...)
            )
            return Parameter.empty if required else Default(ast.unparse(value))
    return Default(ast.unparse(value))
