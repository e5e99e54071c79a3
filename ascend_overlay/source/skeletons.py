"""Functions and classes like those in source, with nothing in them: what judges genuine ones can judge them, too.

A skeleton is called as its original is, awaited or iterated over as that is, and bound as that is. Names of parameters
are all that is taken from the source; nothing of it is executed.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Collection, Iterator
from inspect import Signature
from typing import Any, cast

from ascend_overlay.source.atlas import Atlas, Thing
from ascend_overlay.source.constructors import constructor, is_dataclass, nature
from ascend_overlay.source.families import Family, Step
from ascend_overlay.source.signatures import is_generator, signature, words_of
from ascend_overlay.source.statements import Function, dotted, inside

OPEN: Any = type("Open", (), {"__repr__": lambda self: "<cannot be told from source>"})()
"""What stands for all that source does not tell."""

_ACCESSORS = {"setter": "fset", "deleter": "fdel", "getter": "fget"}
_AS_WRITTEN = ("override", "final", "no_type_check", "abstractmethod", "abstractproperty")
_MAKING: dict[str, Callable[[Any], Any]] = {
    "staticmethod": staticmethod,
    "classmethod": classmethod,
    "property": property,
    "abstractproperty": property,
    "cached_property": functools.cached_property,
    "contextmanager": contextlib.contextmanager,
    "asynccontextmanager": contextlib.asynccontextmanager,
    "cache": functools.lru_cache(maxsize=None),
    "lru_cache": functools.lru_cache,
    "singledispatch": functools.singledispatch,
}
"""Decorators of the standard library, by what they are called everywhere -> what they do."""
_PASSING = frozenset({"inference_mode", "no_grad", "compile", "deprecated", "instrument"})
"""Decorators that leave a plain function one that is called in the same way."""
_FIELDS = {"dataclass": "__dataclass_fields__", "pydantic class": "__pydantic_fields__"}
_TYPES = {each.__name__: each for each in (str, bytes, bool, int, float, complex, list, tuple, dict, set, frozenset)}
_MADE_BY_NAME = ("__init__", "__new__", "__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__")


class _Kernel:
    """An object that is launched as kernel[grid](...)."""

    def __call__(self, *args: Any, **kwargs: Any) -> None: ...

    def __getitem__(self, grid: Any) -> Any: ...


class _Unknown:
    """What a class may have from a base that source does not tell: it may be used in any way."""

    @property
    def __signature__(self) -> Signature:
        raise ValueError("it cannot be told from source")

    def __call__(self, *args: Any, **kwargs: Any) -> None: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self


class Skeletons:
    """Makes skeletons of what an atlas knows.

    Args:
        atlas: knows it.
    """

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas

    def of(self, thing: Thing, members: Collection[str] = ()) -> Any:
        """Return the skeleton of a thing, as its owner has it, descriptors unresolved; OPEN where that is not told.

        Args:
            thing: the thing.
            members: of a class, the names of those members that matter.
        """
        if thing.kind == "module":
            return types.ModuleType(thing.home)
        if thing.kind == "class":
            return self.cls(thing, members)
        if thing.kind in ("attribute", "field"):
            return OPEN
        module, _, path = thing.home.partition(":")
        if thing.kind == "value":
            return value_of(thing.nodes)
        return _function(thing.nodes, module, path)

    def cls(self, thing: Thing, members: Collection[str] = ()) -> Any:
        """Return the skeleton of a class, with its bases as far as they are known; OPEN where it cannot be made."""
        if thing.family is None:
            return OPEN
        made: dict[str, type] = {}
        try:
            return self._made(thing.family, frozenset(members), made)
        except TypeError:
            # Bases that are read in part may not go together.
            return OPEN

    def owner(self, family: Family, thing: Thing) -> type:
        """Return a class that has nothing, and declares what the class of a family declares.

        Args:
            family: the class, and its bases.
            thing: the class.
        """
        step = family.steps[0]
        named: dict[str, Any] = {"__module__": step.module.name, "__qualname__": ".".join(step.path)}
        sort, name = nature(thing), step.path[-1]
        if sort == "enumeration":
            make: Any = enum.Enum
            return cast(type, make(name, list(_members_of_enum(family)), module=step.module.name))
        declared = dict.fromkeys(_declared(family), OPEN)
        named["__annotations__"] = _types(family, declared)
        if sort == "dataclass":
            own: dict[str, Any] = {"__dataclass_fields__": {each: _field(family, each) for each in declared}}
            if not any(map(is_dataclass, step.node.decorator_list)):
                return type(name, (type(name, (), own),), named)
            return type(name, (), {**named, **own})
        if sort == "pydantic class":
            return type(name, (), {**named, "__pydantic_validator__": OPEN, "__pydantic_fields__": declared})
        if sort == "named tuple":
            defaults = {each: OPEN for each in declared if getattr(family.find(each), "value", None) is not None}
            own = {"__slots__": (), "_fields": tuple(declared), "_field_defaults": defaults}
            if not _is_named_tuple_itself(step):
                return type(name, (type(name, (tuple,), own),), named)
            return type(name, (tuple,), {**named, **own, "__new__": _nothing})
        if sort == "typed dict":
            keys = {"__required_keys__": frozenset(declared), "__total__": True, "__annotations__": declared}
            return type(name, (dict,), {**named, **keys})
        return type(name, (), named)

    def _made(self, family: Family, members: frozenset[str], made: dict[str, type]) -> type:
        step = family.steps[0]
        if step.label in made:
            return made[step.label]
        above: list[type] = []
        outside = False
        for base in step.node.bases:
            found = self._atlas.base(step.module, base)
            if found.steps:
                above.append(self._made(found, members, made))
            outside = outside or bool(found.outside and not found.steps)
        if outside:
            above.append(_SOMETHING)
        space: dict[str, Any] = {"__module__": step.module.name, "__qualname__": ".".join(step.path)}
        for name in members:
            member = step.members.get(name)
            if member is None or member.kind in ("attribute", "field"):
                continue
            if member.kind == "class":
                space[name] = type(name, (), {})
                continue
            value = _function(member.nodes, step.module.name, f"{'.'.join(step.path)}.{name}")
            if value is OPEN and member.kind == "value":
                value = value_of(member.nodes)
            space[name] = _Unknown() if value is OPEN else value
        if "__init__" in members and "__init__" not in space:
            space.update(self._constructor(step, family))
        meta = self._metaclass(step)
        made[step.label] = meta(step.path[-1], tuple(dict.fromkeys(above)), space)
        return made[step.label]

    def _metaclass(self, step: Step) -> type:
        """Return a metaclass that answers the calls of its classes, if the class is said to have one."""
        for keyword in step.node.keywords:
            if keyword.arg == "metaclass" and self._answers(self._atlas.base(step.module, keyword.value)):
                return type("Meta", (type,), {"__call__": _nothing})
        return type

    @staticmethod
    def _answers(family: Family) -> bool:
        return family.find("__call__") is not None

    def _constructor(self, step: Step, family: Family) -> dict[str, Any]:
        """Return the `__init__` that a decorator makes of fields, if it makes one."""
        thing = Thing(step.label, "class", step.label, (step.node,), step.module, family)
        if not step.node.decorator_list or nature(thing) != "dataclass":
            return {}
        found = constructor(self._atlas, thing)
        if found is None:
            return {"__init__": _Unknown()}

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None: ...

        mine = next(iter(Signature.from_callable(__init__).parameters.values()))
        made: Any = __init__
        made.__signature__ = found.replace(parameters=[mine, *found.parameters.values()])
        return {"__init__": made}


_SOMETHING = type("Something", (), {name: _Unknown() for name in _MADE_BY_NAME if name != "__hash__"})
"""A class of which nothing is known."""


def _nothing(*args: Any, **kwargs: Any) -> Any:
    """Stand for what is written when a class is made."""


def _is_named_tuple_itself(step: Step) -> bool:
    return any(dotted(base)[-1:] == ["NamedTuple"] for base in step.node.bases)


def _field(family: Family, name: str) -> Any:
    made: Any = dataclasses.field()
    made.name = name
    member = family.find(name)
    if member is not None and member.kind == "value" and (value := value_of(member.nodes)) is not OPEN:
        made.default = value
    return made


def _types(family: Family, names: Collection[str]) -> dict[str, Any]:
    """Return those types of fields that are Python's own, each by its one name."""
    found = {}
    for name in names:
        member = family.find(name)
        annotation = member.annotation if member is not None else None
        if isinstance(annotation, ast.Name) and annotation.id in _TYPES:
            found[name] = _TYPES[annotation.id]
    return found


def _members_of_enum(family: Family) -> Iterator[str]:
    for name, member in family.steps[0].members.items():
        if member.kind == "value" and not name.startswith("_"):
            yield name


def _declared(family: Family) -> Iterator[str]:
    for step in reversed(family.steps):
        for name, member in step.members.items():
            written = ast.unparse(member.annotation) if member.annotation is not None else "ClassVar"
            if member.kind in ("field", "value") and "ClassVar" not in written:
                yield name


def value_of(nodes: tuple[ast.stmt, ...]) -> Any:
    """Return the value that one statement spells; OPEN of any other."""
    value = getattr(nodes[0], "value", None) if len(nodes) == 1 else None
    if not isinstance(nodes[0] if nodes else None, (ast.Assign, ast.AnnAssign)) or not isinstance(value, ast.expr):
        return OPEN
    if isinstance(nodes[0], ast.Assign) and any(
        not isinstance(each, (ast.Name, ast.Attribute)) for each in nodes[0].targets
    ):
        # It is taken apart.
        return OPEN
    if isinstance(value, ast.Lambda):
        return _compiled(value.args, "<lambda>", [ast.Pass()], is_async=False)
    if isinstance(value, ast.Subscript) and dotted(value.value)[-1:] == ["Literal"]:
        given = value.slice.elts if isinstance(value.slice, ast.Tuple) else [value.slice]
        values = tuple(each.value for each in given if isinstance(each, ast.Constant))
        return typing.Literal[values] if len(values) == len(given) else OPEN
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return OPEN


def _function(nodes: tuple[ast.stmt, ...], module: str, path: str) -> Any:
    """Return what one definition, or a property and its accessors, makes; OPEN where a decorator may make anything."""
    defined = [node for node in nodes if "overload" not in words_of(node)]
    if not defined or not all(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in defined):
        return OPEN
    found: Any = OPEN
    for node in defined:
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        words = words_of(node)
        if len(words) == 1 and words[0] in _ACCESSORS and isinstance(found, property):
            accessors = {name: getattr(found, name) for name in ("fget", "fset", "fdel")}
            found = property(**{**accessors, _ACCESSORS[words[0]]: _skeleton(node, module, path)})
        else:
            found = _decorated(node, module, path)
    return found


def function(node: Function) -> Any:
    """Return what one definition makes; OPEN where a decorator may make anything."""
    return _decorated(node, "", node.name)


def _decorated(node: Function, module: str, path: str) -> Any:
    made: Any = _skeleton(node, module, path)
    for decorator in reversed(node.decorator_list):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        word = (dotted(called) or [""])[-1]
        if "triton" in dotted(called):
            made = _Kernel()
        elif word in _MAKING:
            made = _MAKING[word](made)
        elif word in _AS_WRITTEN:
            if word.startswith("abstract") and isinstance(made, types.FunctionType):
                made.__isabstractmethod__ = True  # type: ignore[attr-defined, unused-ignore]
        elif word in _PASSING and isinstance(node, ast.FunctionDef) and not is_generator(node):
            continue
        else:
            return OPEN
    return made


def _skeleton(node: Function, module: str, path: str) -> types.FunctionType:
    body: list[ast.stmt] = [*_supers(node)] if "." in path else [*_bare_supers(node)]
    body.append(ast.Expr(ast.Yield(None)) if is_generator(node) else ast.Pass())
    made = _compiled(node.args, node.name, body, is_async=isinstance(node, ast.AsyncFunctionDef))
    made.__module__, made.__qualname__ = module, path
    made.__signature__ = signature(node, annotations=False)  # type: ignore[attr-defined]
    if node.returns is not None:
        quoted = node.returns.value if isinstance(node.returns, ast.Constant) else None
        made.__annotations__ = {"return": quoted if isinstance(quoted, str) else ast.unparse(node.returns)}
    return made


def _compiled(given: ast.arguments, name: str, body: list[ast.stmt], *, is_async: bool) -> types.FunctionType:
    nothing = ast.Constant(None)

    def bare(arguments: list[ast.arg]) -> list[ast.arg]:
        return [ast.arg(each.arg) for each in arguments]

    arguments = ast.arguments(
        posonlyargs=bare(given.posonlyargs),
        args=bare(given.args),
        vararg=ast.arg(given.vararg.arg) if given.vararg is not None else None,
        kwonlyargs=bare(given.kwonlyargs),
        kw_defaults=[None if each is None else nothing for each in given.kw_defaults],
        kwarg=ast.arg(given.kwarg.arg) if given.kwarg is not None else None,
        defaults=[nothing for _ in given.defaults],
    )
    kind = ast.AsyncFunctionDef if is_async else ast.FunctionDef
    written: Any = kind(name="skeleton", args=arguments, body=body, decorator_list=[], returns=None)
    if "type_params" in kind._fields:
        written.type_params = []
    space: dict[str, Any] = {}
    # It has the parameters, and statements that are made here.
    exec(compile(ast.fix_missing_locations(ast.Module([written], [])), "<skeleton>", "exec"), space)
    made: types.FunctionType = space["skeleton"]
    made.__name__ = made.__qualname__ = name
    return made


def _calls_of_super(node: Function) -> Iterator[ast.Call]:
    for each in inside(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "super":
            yield each


def _bare_supers(node: Function) -> Iterator[ast.stmt]:
    """Yield super(), where a function outside of classes calls it without arguments."""
    if any(not each.args for each in _calls_of_super(node)):
        yield ast.Expr(ast.Call(ast.Name("super", ast.Load()), [], []))


def _supers(node: Function) -> Iterator[ast.stmt]:
    """Yield super(Name), where a method names the class that it means."""
    names = {each.args[0].id for each in _calls_of_super(node) if each.args and isinstance(each.args[0], ast.Name)}
    for name in sorted(names):
        yield ast.Expr(ast.Call(ast.Name("super", ast.Load()), [ast.Name(name, ast.Load())], []))
