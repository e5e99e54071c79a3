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
    "msgspec._core:Struct": False,
    "typing:NamedTuple": False,
    "collections:namedtuple": False,
}
"""Bases that make a constructor of fields -> whether it takes names only."""
_DICTS = frozenset({"typing:TypedDict", "typing_extensions:TypedDict"})
"""Bases of what declares fields and is made as a mapping is."""
_BY_NAME = frozenset({"populate_by_name", "validate_by_name"})
_NO_FIELD = ("ClassVar", "PrivateAttr")


def constructor(atlas: Atlas, thing: Thing) -> Signature | None:
    """Return how a class is called, without the object that is made; None where the source does not tell.

    Read are `__init__` and `__new__`, and the fields of dataclasses, of pydantic and msgspec classes, of named tuples.
    """
    if thing.family is None:
        return None
    for step in thing.family.steps:
        if step.label in _BASES:
            return _of_fields(atlas, thing, _BASES[step.label])
        for name in ("__init__", "__new__"):
            member = step.members.get(name)
            node = member.nodes[-1] if member is not None else None
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                return None if node.decorator_list else _unbound(signature(node))
        if (keywords := _makes_fields(atlas, step, thing)) is not None:
            return _of_fields(atlas, thing, keywords)
    return None


_NATURES = {
    "pydantic:BaseModel": "pydantic class",
    "pydantic.main:BaseModel": "pydantic class",
    "msgspec:Struct": "msgspec struct",
    "msgspec._core:Struct": "msgspec struct",
    "typing:NamedTuple": "named tuple",
    "collections:namedtuple": "named tuple",
    "typing:TypedDict": "typed dict",
    "typing_extensions:TypedDict": "typed dict",
}


def nature(thing: Thing) -> str:
    """Return what sort of class a class is: "dataclass", "pydantic class", "enumeration"; "class" of a plain one."""
    if thing.family is None or thing.is_enum:
        return "class" if thing.family is None else "enumeration"
    if any(is_dataclass(decorator) for step in thing.family.steps for decorator in step.node.decorator_list):
        return "dataclass"
    named = (*(step.label for step in thing.family.steps), *thing.family.outside)
    return next((_NATURES[name] for name in named if name in _NATURES), "class")


def declares_fields(atlas: Atlas, thing: Thing) -> bool:
    """Tell whether a class declares the fields of its objects: a dataclass, a pydantic class, a named tuple, a dict."""
    if thing.family is None:
        return False
    named = {*thing.family.outside, *(step.label for step in thing.family.steps)}
    if named & (_BASES.keys() | _DICTS):
        return True
    return any(is_dataclass(decorator) for step in thing.family.steps for decorator in step.node.decorator_list)


def is_dataclass(decorator: ast.expr) -> bool:
    """Tell whether a decorator makes a dataclass, as far as its name tells."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in _DATACLASSES


def _unbound(found: Signature) -> Signature:
    return found.replace(parameters=list(found.parameters.values())[1:])


def _makes_fields(atlas: Atlas, step: Step, thing: Thing) -> bool | None:
    for decorator in step.node.decorator_list:
        if is_dataclass(decorator):
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            given = {keyword.arg: keyword.value for keyword in keywords}
            init = given.get("init")
            if isinstance(init, ast.Constant) and init.value is False:
                return None
            return _says(keywords, "kw_only")
    for base in thing.family.outside if thing.family is not None else ():
        if base in _BASES:
            return _BASES[base] or _says(step.node.keywords, "kw_only")
    return None


def _says(keywords: list[ast.keyword], name: str) -> bool:
    given = {keyword.arg: keyword.value for keyword in keywords}
    return isinstance(value := given.get(name), ast.Constant) and bool(value.value)


def _of_fields(atlas: Atlas, thing: Thing, keywords: bool) -> Signature | None:
    assert thing.family is not None
    fields: dict[str, list[Parameter]] = {}
    too = keywords and _takes_names_too(thing)
    plain = Parameter.KEYWORD_ONLY if keywords else Parameter.POSITIONAL_OR_KEYWORD
    for step in reversed(thing.family.steps):
        if step.label in _BASES:
            continue
        kind = plain
        for name, annotation, value in _annotated(step):
            written = ast.unparse(annotation)
            if written.rpartition(".")[2] == "KW_ONLY":
                kind = Parameter.KEYWORD_ONLY
                continue
            if any(word in written for word in _NO_FIELD):
                continue
            default = _default(value)
            if default is None:
                fields.pop(name, None)
                continue
            by_name = isinstance(value, ast.Call) and _says(value.keywords, "kw_only")
            aliases = _aliases(value) if keywords else ()
            names = (*aliases, *([name] if too or not aliases else ()))
            # Where several names lead to it, none must be given.
            default = default if len(names) == 1 else Default("...")
            by = Parameter.KEYWORD_ONLY if by_name else kind
            # A field that is declared again keeps its place.
            fields[name] = [Parameter(each, by, default=default) for each in names]
    # A field without default behind one with a default is by name, or the class cannot be made as it is read here.
    every = [each for taken in fields.values() for each in taken]
    ordered = sorted(every, key=lambda each: each.kind is Parameter.KEYWORD_ONLY)
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


def _aliases(value: ast.expr | None) -> tuple[str, ...]:
    """Return the names by which a pydantic class takes a field, where they are not that of the field."""
    if not isinstance(value, ast.Call):
        return ()
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    said = given.get("validation_alias", given.get("alias"))
    choices = said.args if isinstance(said, ast.Call) else [said]
    texts = [each.value if isinstance(each, ast.Constant) else None for each in choices]
    return tuple(text for text in texts if isinstance(text, str) and text.isidentifier())


def _takes_names_too(thing: Thing) -> bool:
    """Tell whether a pydantic class takes fields by their own names where they have others."""
    for step in thing.family.steps if thing.family is not None else ():
        said = step.members.get("model_config")
        value = said.value if said is not None else None
        for each in ast.walk(value) if value is not None else ():
            if isinstance(each, ast.keyword) and each.arg in _BY_NAME and _says([each], each.arg):
                return True
            if isinstance(each, ast.Constant) and each.value in _BY_NAME:
                return True
    return False


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
